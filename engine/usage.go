package engine

import (
	"context"
	"encoding/binary"
	"fmt"
)

// usage is what a volume holds. A record that changes it sets it.
type usage struct {
	bytes  int64 // of chunks with data; those of devices as last counted
	inodes int64
}

const usageLen = 16

func (u usage) plus(d usage) usage { return usage{u.bytes + d.bytes, u.inodes + d.inodes} }

func (u usage) put(dst []byte) {
	binary.BigEndian.PutUint64(dst, uint64(u.bytes))
	binary.BigEndian.PutUint64(dst[8:], uint64(u.inodes))
}

func decodeUsage(b []byte) (usage, error) {
	if len(b) != usageLen {
		return usage{}, fmt.Errorf("%w: usage of %d bytes", ErrCorrupt, len(b))
	}
	u := usage{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}
	if u.bytes < 0 || u.inodes < 0 {
		return usage{}, fmt.Errorf("%w: usage %x", ErrCorrupt, b)
	}
	return u, nil
}

const usageOpMax = 1 + len(stateUsage) + usageLen + opOverhead

// use adds to what the volume holds, at commit.
func (t *txn) use(d usage) {
	if d == (usage{}) {
		return
	}
	if t.usage == 0 {
		op := t.b.SetDeferred(1+len(stateUsage), usageLen)
		appendStateKey(op.Key[:0], stateUsage)
		t.usage = t.b.Len() - usageLen
	}
	t.delta = t.delta.plus(d)
}

// fillUsage is the part of fill that counts. What needs more than the volume may hold is refused.
func (t *txn) fillUsage(repr []byte) error {
	if t.usage == 0 {
		return nil
	}
	u := t.e.used.plus(t.delta)
	if limit := t.e.opts.MaxSize; limit > 0 && t.delta.bytes > 0 && !t.counts && u.bytes > limit {
		return fmt.Errorf("%w: %d of %d bytes", ErrNoSpace, t.e.used.bytes, limit)
	}
	u.put(repr[t.usage:])
	return nil
}

// StatFS is what statfs(2) tells: sizes are in bytes.
type StatFS struct {
	Total, Free, Avail uint64
	Files, FreeFiles   uint64
	BlockSize          uint32
	NameMax            uint32
	ID                 uint64
}

const (
	unbounded = 1 << 50 // bytes that a volume without a bound says it has
	filesMax  = 1 << 48 // inodes, likewise
)

// StatFS tells how large the volume is and how much of it is used.
func (e *Engine) StatFS(context.Context) (StatFS, error) {
	if err := e.guard.enter(); err != nil {
		return StatFS{}, err
	}
	defer e.guard.exit()
	e.mu.Lock()
	u := e.used
	e.mu.Unlock()
	total := uint64(unbounded)
	if e.opts.MaxSize > 0 {
		total = uint64(e.opts.MaxSize)
	}
	free := total - min(total, uint64(u.bytes))
	return StatFS{
		Total: total, Free: free, Avail: free, Files: filesMax, FreeFiles: filesMax - uint64(u.inodes),
		BlockSize: uint32(e.opts.ChunkSize), NameMax: NameMax,
	}, nil
}
