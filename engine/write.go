package engine

import (
	"context"

	"zerofs/journal"
)

const (
	// writeMax is the most that goes into one record of the log; longer writes are several.
	writeMax = 512 << 10
	// streamMin is the size in bytes from which on a write does not stay in the memory tier.
	streamMin = 256 << 10
	// maxFileSize bounds offsets, so that no sum of two overflows.
	maxFileSize = 1 << 60
)

// write writes p at off of a device, which must end at or before its end. It changes no attribute.
func (e *Engine) write(ctx context.Context, n *node, p []byte, off int64) (lsn journal.LSN, err error) {
	for len(p) > 0 {
		k := min(len(p), writeMax-int(off%int64(e.opts.ChunkSize)))
		if lsn, err = e.writePiece(ctx, n, p[:k:k], off); err != nil {
			return 0, err
		}
		p, off = p[k:], off+int64(k)
	}
	return lsn, nil
}

// chunkOpMax bounds what changing one chunk adds to a batch.
func (e *Engine) chunkOpMax() int { return chunkKeyLen + e.opts.ChunkSize + 1 + opOverhead }

const attrOpMax = inodeKeyLen + attrLen + opOverhead

func (e *Engine) writePiece(ctx context.Context, n *node, p []byte, off int64) (journal.LSN, error) {
	w := e.window(n.ino, p, off)
	t, err := e.begin(ctx, int(w.last-w.first+1)*e.chunkOpMax())
	if err != nil {
		return 0, err
	}
	defer t.end()
	mask := stripeMask(w.first, w.last)
	n.lock(mask)
	defer n.unlock(mask)

	edges := e.newEdges()
	defer edges.free()
	e.build(&t, &edges, &w)
	lsn, err := t.commit()
	if err != nil {
		return 0, err
	}
	e.publish(n.ino, &w, len(p))
	edges.publish(n.ino)
	n.changed()
	return lsn, nil
}

// build adds what a window's bytes change to a transaction.
func (e *Engine) build(t *txn, edges *edges, w *window) {
	for i := w.first; i <= w.last; i++ {
		part, within := w.part(i)
		if len(part) == w.size {
			t.setChunk(w.ino, i, part)
		} else {
			edges.change(t, w.ino, i, within, len(part), part)
		}
	}
}

// publish tells the memory tier of the whole chunks of a write of size bytes, which has been
// committed. Those of a large one are forgotten: streams are seldom read back soon, and keeping them
// costs a sixth of what the write does.
func (e *Engine) publish(ino Ino, w *window, size int) {
	for i := w.first; i <= w.last; i++ {
		part, _ := w.part(i)
		switch {
		case len(part) < w.size:
		case size < streamMin:
			e.cache.Write(uint64(ino), uint64(i), part)
		default:
			e.cache.Invalidate(uint64(ino), uint64(i), uint64(i))
		}
	}
}

// setChunk makes the chunk's bytes data, which is a whole chunk. All-zero chunks are absent keys.
func (t *txn) setChunk(ino Ino, i ChunkIndex, data []byte) {
	k := trimZeros(data)
	if k == 0 {
		t.deleteChunk(ino, i)
		return
	}
	op := t.b.SetDeferred(chunkKeyLen, k+1)
	putChunkKey(op.Key, ino, i)
	copy(op.Value, data[:k])
	op.Value[k] = kindFull
	t.mark(i, i+1, true)
}

func (t *txn) deleteChunk(ino Ino, i ChunkIndex) {
	t.mark(i, i+1, false)
	op := t.b.DeleteDeferred(chunkKeyLen)
	putChunkKey(op.Key, ino, i)
}

// edges are the at most two chunks that a change covers in part.
type edges struct {
	e *Engine
	n int
	c [2]struct {
		index ChunkIndex
		buf   *chunkBuf // the chunk after the change, nil if it is not known
	}
}

func (e *Engine) newEdges() edges { return edges{e: e} }

// change puts data, or n zeros if data is nil, at within of chunk i. Its write lock is held. A chunk
// that is in the memory tier is set whole, of another only the change is written: nothing is read.
func (g *edges) change(t *txn, ino Ino, i ChunkIndex, within, n int, data []byte) {
	edge := &g.c[g.n]
	g.n++
	edge.index = i
	c := g.e.pools.chunk()
	if got, ok := g.e.cache.Get(c.b[:0], uint64(ino), uint64(i)); ok {
		k := len(got)
		if k > 0 && &got[0] != &c.b[0] {
			k = copy(c.b, got)
		}
		clear(c.b[k:])
		if data == nil {
			clear(c.b[within : within+n])
		} else {
			copy(c.b[within:], data)
		}
		t.setChunk(ino, i, c.b)
		edge.buf = c
		return
	}
	enc := runsEncoder{dst: c.b[:0]}
	if data == nil {
		enc.zeros(within, n)
	} else {
		enc.bytes(within, data)
	}
	v := enc.finish()
	op := t.b.MergeDeferred(chunkKeyLen, len(v))
	putChunkKey(op.Key, ino, i)
	copy(op.Value, v)
	t.mark(i, i+1, true)
	g.e.pools.putChunk(c)
}

// publish tells the memory tier of the change, which has been committed.
func (g *edges) publish(ino Ino) {
	for _, c := range g.c[:g.n] {
		if c.buf != nil {
			g.e.cache.Write(uint64(ino), uint64(c.index), c.buf.b)
		} else {
			g.e.cache.Invalidate(uint64(ino), uint64(c.index), uint64(c.index))
		}
	}
}

// free gives the buffers back.
func (g *edges) free() {
	for _, c := range g.c[:g.n] {
		if c.buf != nil {
			g.e.pools.putChunk(c.buf)
		}
	}
}
