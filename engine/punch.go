package engine

import (
	"context"
	"fmt"

	"zerofs/journal"
)

// deletesMax is the longest run of chunks that is deleted key by key. Range tombstones cost reads
// of the memtable more than a point tombstone does.
const deletesMax = 64

// punch makes n > 0 bytes from off, which lie within the file, read as zeros. Touch, if not nil, changes
// attributes with it.
func (e *Engine) punch(ctx context.Context, n *node, off, length int64, touch func(*Attr) error) (journal.LSN, error) {
	size := int64(e.opts.ChunkSize)
	end := off + length
	first, last := ChunkIndex(off/size), ChunkIndex((end-1)/size)
	t, err := e.begin(ctx, 2*e.chunkOpMax()+deletesMax*(chunkKeyLen+opOverhead)+attrOpMax)
	if err != nil {
		return 0, err
	}
	defer t.end()
	mask := stripeMask(first, last)
	n.lock(mask)
	defer n.unlock(mask)

	edges := e.newEdges()
	defer edges.free()
	from, to := first, last+1 // whole chunks: from to before to
	if within := off % size; within != 0 || length < size && first == last {
		edges.change(&t, n.ino, first, int(within), int(min(size-within, length)), nil)
		from++
	}
	if within := end % size; within != 0 && last >= from {
		edges.change(&t, n.ino, last, 0, int(within), nil)
		to--
	}
	t.deleteChunks(n.ino, from, to)
	if touch != nil {
		t.setAttr(n, touch)
	}
	lsn, err := t.commit()
	if err != nil {
		return 0, err
	}
	if from < to {
		e.cache.Invalidate(uint64(n.ino), uint64(from), uint64(to-1))
	}
	edges.publish(n.ino)
	return lsn, nil
}

// deleteChunks deletes chunks from to before to.
func (t *txn) deleteChunks(ino Ino, from, to ChunkIndex) {
	switch {
	case from >= to:
	case to-from <= deletesMax:
		for i := from; i < to; i++ {
			t.deleteChunk(ino, i)
		}
	default:
		op := t.b.DeleteRangeDeferred(chunkKeyLen, chunkKeyLen)
		putChunkKey(op.Key, ino, from)
		putChunkKey(op.Value, ino, to)
	}
}

// resize sets the size of a file, and has change do so in its attributes, together with what else is in
// set. What lies beyond a smaller size is gone: a later larger size shows zeros there.
func (e *Engine) resize(ctx context.Context, n *node, size uint64, set *SetAttr, change func(*Attr) error) (Change, journal.LSN, error) {
	t, err := e.begin(ctx, e.chunkOpMax()+deletesMax*(chunkKeyLen+opOverhead)+attrOpMax+aclOpMax)
	if err != nil {
		return Change{}, 0, err
	}
	defer t.end()
	n.dir.Lock() // against an attachment
	defer n.dir.Unlock()
	n.lock(^uint64(0)) // the size decides about every chunk
	defer n.unlock(^uint64(0))
	n.meta.Lock()
	defer n.meta.Unlock()

	edges := e.newEdges()
	defer edges.free()
	chunk := uint64(e.opts.ChunkSize)
	old := n.attr.Load().Size
	if size < old && n.devices != 0 {
		return Change{}, 0, fmt.Errorf("engine: device %d is attached: %w", n.ino, ErrBusy)
	}
	from, to := ChunkIndex((size+chunk-1)/chunk), ChunkIndex((old+chunk-1)/chunk) // chunks that go as a whole
	if size < old {
		if within := int(size % chunk); within != 0 {
			edges.change(&t, n.ino, ChunkIndex(size/chunk), within, int(chunk)-within, nil)
		}
		t.deleteChunks(n.ino, from, to)
	}
	t.chmod(n, set)
	t.setAttr(n, change)
	lsn, err := t.commit()
	if err != nil {
		return Change{}, 0, err
	}
	if from < to {
		e.cache.Invalidate(uint64(n.ino), uint64(from), uint64(to-1))
	}
	edges.publish(n.ino)
	return t.changed(0), lsn, nil
}
