package engine

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Writes to a block device keep no account of its chunks: that would cost each of them something, and most
// devices are filled once. They are counted when somebody asks how much a device holds after it was written, at most
// once in countEvery, and when it is closed; until then the last count is told. A count reads keys only.

const countEvery = 10 * time.Second

// changed says that a device's chunks are others now.
func (n *node) changed() {
	if !n.written.Load() { // seldom stored, as its neighbours are read by every request
		n.written.Store(true)
	}
}

// stat returns a node's attributes, as somebody asked for them.
func (e *Engine) stat(n *node) Attr {
	a := n.current()
	if a.Type == TypeRegular && a.Flags&flagDevice != 0 {
		now := nanos(e.opts.Now())
		if last := n.counted.Load(); now-last >= int64(countEvery) {
			e.recount(n, last, now)
		}
	}
	return a
}

// recount queues a device that was written since it was counted, unless somebody else does.
func (e *Engine) recount(n *node, last, now int64) {
	if !n.written.Load() || !n.counted.CompareAndSwap(last, now) {
		return
	}
	e.counting.add(n.ino)
}

// keepCounted counts devices until the engine is closed.
func (e *Engine) keepCounted() {
	defer e.bg.Done()
	for {
		select {
		case <-e.counting.wake:
		case <-e.life.Done():
			return
		}
		for _, ino := range e.counting.take() {
			if err := e.countDevice(e.life, ino); err != nil && e.life.Err() == nil {
				e.opts.Logger.Warn("cannot count what a block device holds", "inode", ino, "err", err)
			}
		}
	}
}

// countDevice stores how many chunks a device has.
func (e *Engine) countDevice(ctx context.Context, ino Ino) error {
	n := e.nodes.find(ino)
	if n == nil {
		return nil // it is gone, or will be counted when it is asked for again
	}
	defer e.release(n)
	n.written.Store(false)
	chunks, err := e.countChunks(ctx, ino)
	if err != nil {
		n.written.Store(true)
		return err
	}
	t, err := e.begin(ctx, attrOpMax+usageOpMax)
	if err != nil {
		return err
	}
	defer t.end()
	n.dir.Lock() // so that it is not removed meanwhile
	defer n.dir.Unlock()
	now := chunks * uint64(e.opts.ChunkSize)
	old := n.attr.Load().Blocks // nobody else changes it
	if n.attr.Load().Nlink == 0 || now == old {
		return nil
	}
	t.use(usage{bytes: int64(now) - int64(old)})
	t.counts = true
	t.setAttr(n, func(a *Attr) error { a.Blocks = now; return nil })
	_, err = t.commit()
	return err
}

// countChunks counts the keys of an inode's chunks.
func (e *Engine) countChunks(ctx context.Context, ino Ino) (n uint64, err error) {
	if err := e.guard.enter(); err != nil {
		return 0, err
	}
	defer e.guard.exit()
	it, err := e.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: appendChunkKey(nil, ino, 0), UpperBound: appendChunkKey(nil, ino+1, 0)})
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok && (n%4096 != 0 || ctx.Err() == nil); ok = it.Next() {
		n++
	}
	if ctx.Err() != nil {
		_ = it.Close() // the cause counts
		return 0, context.Cause(ctx)
	}
	return n, it.Close()
}
