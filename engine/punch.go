package engine

import (
	"context"

	"zerofs/journal"
)

// deletesMax is the longest run of chunks that is deleted key by key. Range tombstones cost reads
// of the memtable more than a point tombstone does.
const deletesMax = 64

// punch makes n > 0 bytes from off, which lie within the device, read as zeros.
func (e *Engine) punch(ctx context.Context, n *node, off, length int64) (journal.LSN, error) {
	t, err := e.begin(ctx, 2*e.chunkOpMax()+deletesMax*(chunkKeyLen+opOverhead))
	if err != nil {
		return 0, err
	}
	defer t.end()
	h := e.hole(off, length)
	n.lock(h.mask)
	defer n.unlock(h.mask)
	h.edges = e.newEdges()
	defer h.edges.free()
	h.build(&t, n, nil)
	lsn, err := t.commit()
	if err != nil {
		return 0, err
	}
	h.publish(n.ino)
	n.changed()
	return lsn, nil
}

// hole is a range that is to read as zeros.
type hole struct {
	e           *Engine
	off, length int64
	first, last ChunkIndex
	mask        uint64     // stripes
	from, to    ChunkIndex // whole chunks: from to before to
	edges       edges
}

func (e *Engine) hole(off, length int64) hole {
	size := int64(e.opts.ChunkSize)
	first, last := ChunkIndex(off/size), ChunkIndex((off+length-1)/size)
	return hole{e: e, off: off, length: length, first: first, last: last, mask: stripeMask(first, last)}
}

// build adds the hole to a transaction. The stripes are held.
func (h *hole) build(t *txn, n *node, view *groupView) {
	size, end := int64(h.e.opts.ChunkSize), h.off+h.length
	edge := func(i ChunkIndex, within, length int64) {
		if !n.absent(view, i) {
			h.edges.change(t, n.ino, i, int(within), int(length), nil)
		}
	}
	h.from, h.to = h.first, h.last+1
	if within := h.off % size; within != 0 || h.length < size && h.first == h.last {
		edge(h.first, within, min(size-within, h.length))
		h.from++
	}
	if within := end % size; within != 0 && h.last >= h.from {
		edge(h.last, 0, within)
		h.to--
	}
	t.deleteChunks(n.ino, h.from, h.to)
}

// publish tells the memory tier of the hole, which has been committed.
func (h *hole) publish(ino Ino) {
	if h.from < h.to {
		h.e.cache.Invalidate(uint64(ino), uint64(h.from), uint64(h.to-1))
	}
	h.edges.publish(ino)
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
		t.mark(from, to, false)
		op := t.b.DeleteRangeDeferred(chunkKeyLen, chunkKeyLen)
		putChunkKey(op.Key, ino, from)
		putChunkKey(op.Value, ino, to)
	}
}
