package engine

import (
	"context"
	"fmt"

	"zerofs/journal"
)

// deletesMax is the longest run of chunks that is deleted key by key. Range tombstones cost reads
// of the memtable more than a point tombstone does.
const deletesMax = 64

// Punch makes n bytes from off read as zeros and gives their space back. The size stays.
func (e *Engine) Punch(ctx context.Context, ino Ino, off, n int64) (journal.LSN, error) {
	nd, err := e.open(ctx, ino, TypeRegular)
	if err != nil {
		return 0, err
	}
	defer e.release(nd)
	size := int64(nd.attr.Load().Size)
	if off < 0 || n < 0 {
		return 0, fmt.Errorf("engine: inode %d: punch %d bytes at %d: %w", ino, n, off, errInvalid)
	}
	if off >= size || n == 0 {
		return 0, nil
	}
	return e.punch(ctx, nd, off, min(n, size-off), true)
}

// punch makes n > 0 bytes from off, which lie within the file, read as zeros.
func (e *Engine) punch(ctx context.Context, n *node, off, length int64, touch bool) (journal.LSN, error) {
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
	if touch {
		now := nanos(e.opts.Now())
		t.setAttr(n, func(a *Attr) { a.Mtime, a.Ctime = now, now })
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

// resize sets the size of a file. What lies beyond a smaller size is gone: a later larger size
// shows zeros there.
func (e *Engine) resize(ctx context.Context, n *node, size uint64, change func(*Attr)) (journal.LSN, error) {
	if size > maxFileSize {
		return 0, fmt.Errorf("engine: inode %d: size %d: %w", n.ino, size, ErrTooLarge)
	}
	t, err := e.begin(ctx, e.chunkOpMax()+deletesMax*(chunkKeyLen+opOverhead)+attrOpMax)
	if err != nil {
		return 0, err
	}
	defer t.end()
	n.lock(^uint64(0)) // the size decides about every chunk
	defer n.unlock(^uint64(0))

	edges := e.newEdges()
	defer edges.free()
	chunk := uint64(e.opts.ChunkSize)
	old := n.attr.Load().Size
	from, to := ChunkIndex((size+chunk-1)/chunk), ChunkIndex((old+chunk-1)/chunk) // chunks that go as a whole
	if size < old {
		if within := int(size % chunk); within != 0 {
			edges.change(&t, n.ino, ChunkIndex(size/chunk), within, int(chunk)-within, nil)
		}
		t.deleteChunks(n.ino, from, to)
	}
	t.setAttr(n, func(a *Attr) { a.Size = size; change(a) })
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
