package engine

import (
	"context"
	"errors"
	"fmt"

	"zerofs/journal"
)

// resize sets the size of a file, together with what else is in set. What lies beyond a smaller size is gone: a
// later larger size shows zeros there.
func (e *Engine) resize(ctx context.Context, n *node, c *Cred, set *SetAttr) (Change, journal.LSN, error) {
	for {
		ch, lsn, err := e.resizeOnce(ctx, n, c, set)
		if !errors.Is(err, errChanged) {
			return ch, lsn, err
		}
	}
}

func (e *Engine) resizeOnce(ctx context.Context, n *node, c *Cred, set *SetAttr) (Change, journal.LSN, error) {
	size := *set.Size
	chunk := uint64(e.opts.ChunkSize)
	from := ChunkIndex((size + chunk - 1) / chunk) // chunks from here on go as a whole
	var view *groupView
	room := n.attr.Load().lists().room()
	if a := n.attr.Load(); size < a.Size && a.Flags&flagGroups != 0 && size > 0 {
		var err error
		if view, err = e.viewGroups(ctx, n, ChunkIndex(size/chunk), ChunkIndex((a.Size-1)/chunk)); err != nil {
			return Change{}, 0, err
		}
	}
	t, err := e.begin(ctx, e.chunkOpMax()+deletesMax*(chunkKeyLen+opOverhead)+attrOpMax+room+2*groupOpMax+usageOpMax+capabilityOpMax)
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
	a := n.attr.Load()
	if size < a.Size && n.devices != 0 {
		return Change{}, 0, fmt.Errorf("engine: device %d is attached: %w", n.ino, ErrBusy)
	}
	if a.lists().room() > room {
		return Change{}, 0, errChanged
	}
	to := ChunkIndex((a.Size + chunk - 1) / chunk)
	t.counted = a.Flags&flagDevice == 0
	if size < a.Size {
		if within := int(size % chunk); within != 0 && !n.absent(view, from-1) {
			edges.change(&t, n.ino, from-1, within, int(chunk)-within, nil)
		}
		t.shrink(n, from, to)
	}
	al, err := e.allocate(&t, n, view, t.counted && size < a.Size, from)
	if err != nil {
		return Change{}, 0, err
	}
	t.change(n, c, set, func(a *Attr) { al.apply(a, e.opts.ChunkSize) })
	lsn, err := t.commit()
	al.done(err == nil)
	if size < a.Size {
		n.changed()
	}
	if err != nil {
		return Change{}, 0, err
	}
	if from < to {
		e.cache.Invalidate(uint64(n.ino), uint64(from), uint64(to-1))
	}
	edges.publish(n.ino)
	return t.changed(0), lsn, nil
}

// shrink deletes a file's chunks from to before to, which is its end. All stripes are held.
func (t *txn) shrink(n *node, from, to ChunkIndex) {
	a := n.attr.Load()
	if a.Flags&(flagGroups|flagDevice) != 0 {
		t.deleteChunks(n.ino, from, to)
		return
	}
	t.deleteChunks(n.ino, from, min(to, ChunkIndex(a.dense)))
}
