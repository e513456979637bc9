package tiers

import (
	"context"
	"errors"
	"fmt"

	"zerofs/tiers/nvme"
	"zerofs/tiers/seal"
)

// load fetches a run of neighbouring parts with one GET, opens them and offers them to the part
// cache. It holds one of tokens meanwhile.
func (c *fetcher) load(t *table, run []*fetched, keep bool, tokens chan struct{}) {
	select {
	case tokens <- struct{}{}:
		defer func() { <-tokens }()
	case <-c.ctx.Done():
		c.fail(run, context.Cause(c.ctx))
		return
	}
	buf := c.sealedBufs.Get().(*[]byte)
	defer c.sealedBufs.Put(buf)
	sealed, err := c.get(t, run[0].key.part, len(run), *buf)
	if errors.Is(err, seal.ErrCorrupt) {
		c.log.Warn("bad header or size from the store: fetching again", "object", t.object, "error", err)
		sealed, err = c.get(t, run[0].key.part, len(run), *buf)
	}
	if err != nil {
		c.fail(run, err)
		return
	}
	for i, w := range run {
		piece := sealed[i*nvme.PartSize : min((i+1)*nvme.PartSize, len(sealed))]
		data, err := c.openPart(t, w.key.part, piece)
		if errors.Is(err, seal.ErrCorrupt) {
			data, err = c.loadAgain(t, w.key.part, err)
			piece = nil
		}
		if err != nil {
			c.fail(run[i:i+1], err)
			continue
		}
		if keep && piece != nil {
			c.nvme.PutPart(t.id, w.key.part, piece)
		}
		c.arrive(w, data)
	}
}

// get reads the sealed bytes of n parts from the object, and with its first part its header, so
// that a header which is not the file's shows when the file is first read.
func (c *fetcher) get(t *table, part uint64, n int, buf []byte) ([]byte, error) {
	head := 0
	if part == 0 {
		head = seal.HeaderSize
	}
	want := int64(head)
	for i := range n {
		want += partStored(t, part+uint64(i))
	}
	off := int64(seal.HeaderSize-head) + int64(part)*nvme.PartSize
	got, info, err := c.store.Get(c.ctx, t.object, off, buf[:want])
	if err != nil {
		if cause := context.Cause(c.ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("object %s: %w", t.object, err)
	}
	c.bytes.Add(int64(got))
	if int64(got) < want || info.Size != t.stored() {
		return nil, fmt.Errorf("object %s: %w: it has %d bytes, not %d", t.object, seal.ErrCorrupt, info.Size, t.stored())
	}
	if head > 0 {
		key, err := c.frames(t)
		if err == nil {
			err = key.CheckHeader(buf[:head])
		}
		if err != nil {
			return nil, fmt.Errorf("object %s: %w", t.object, err)
		}
	}
	return buf[head:want], nil
}

// openPart opens the frames of a part without changing the sealed bytes.
func (c *fetcher) openPart(t *table, part uint64, sealed []byte) ([]byte, error) {
	key, err := c.frames(t)
	if err != nil {
		return nil, err
	}
	buf := c.plainBufs.Get().(*[]byte)
	data := (*buf)[:0]
	frame, last := part*nvme.PartFrames, seal.Frames(t.size)-1
	for ; len(sealed) > 0; frame++ {
		one := sealed[:min(seal.FrameSize, len(sealed))]
		sealed = sealed[len(one):]
		if data, err = key.Open(data, one, frame, frame == last); err != nil {
			c.plainBufs.Put(buf)
			return nil, fmt.Errorf("object %s, part %d: %w", t.object, part, err)
		}
	}
	return data, nil
}

// loadAgain fetches a part whose frames did not open once more: they may have been damaged on
// the way. first is the error of the first time.
func (c *fetcher) loadAgain(t *table, part uint64, first error) ([]byte, error) {
	c.log.Warn("bad frame from the store: fetching the part again", "object", t.object, "part", part, "error", first)
	buf := c.sealedBufs.Get().(*[]byte)
	defer c.sealedBufs.Put(buf)
	sealed, err := c.get(t, part, 1, *buf)
	if err != nil {
		return nil, err
	}
	return c.openPart(t, part, sealed)
}

// arrive gives a part's plaintext to those who wait for it.
func (c *fetcher) arrive(w *fetched, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.data = data
	l := c.fresh
	if w.read {
		l = c.seen
	}
	w.home, w.elem = l, l.PushBack(w)
	close(w.done)
	c.shrink()
}

// fail tells those who wait for the parts why they do not come; the next reader tries anew.
func (c *fetcher) fail(run []*fetched, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish(run, err)
}

// finish ends parts with an error. c.mu is held.
func (c *fetcher) finish(run []*fetched, err error) {
	for _, w := range run {
		w.err = err
		c.forget(w)
		close(w.done)
	}
}
