package tiers

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"zerofs/tiers/disk"
	"zerofs/tiers/nvme"
	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

// partData is the plaintext of a whole part, in bytes.
const partData = nvme.PartFrames * seal.FrameData

// Bounds of what is fetched at once.
const (
	runParts    = 8        // of one GET: 1 MiB
	demandGets  = 16       // GETs in flight that a reader waits for
	aheadGets   = 16       // and that nobody waits for yet
	fetchBudget = 48 << 20 // bytes of fetched parts kept in memory
)

// partOf returns the part that holds the byte of plaintext at off.
func partOf(off int64) uint64 { return uint64(off) / partData }

type partKey struct {
	id   seal.FileID
	part uint64
}

// fetched is a part on its way from the store, or in memory after it came.
type fetched struct {
	key  partKey
	done chan struct{} // closed when data or err is there
	data []byte        // plaintext; a buffer of parts
	err  error

	// Guarded by fetcher.mu.
	refs int
	home *list.List // the list it is in: nil while it is on its way, and after it was forgotten
	elem *list.Element
	live bool // in fetcher.parts
	read bool // somebody asked for it
}

// fetcher reads parts of objects. Readers of one part that is not here share one GET; what came
// stays in memory for a while, since a reader asks for less than a part at a time and readahead
// must not depend on the part cache, which may decline.
type fetcher struct {
	ctx    context.Context // ends with the file system
	store  object.Store
	nvme   *nvme.Tier
	frames func(*table) (*seal.File, error)
	log    *slog.Logger

	demand, ahead chan struct{} // a token for each GET in flight

	sealedBufs sync.Pool // of *[]byte, a header and runParts parts of sealed bytes
	plainBufs  sync.Pool // of *[]byte, a part of plaintext
	cacheBufs  sync.Pool // of *[]byte, an aligned part of sealed bytes

	bytes atomic.Int64 // fetched from the store

	mu     sync.Mutex // guards what follows; taken after readahead.mu
	parts  map[partKey]*fetched
	seen   *list.List // *fetched that were read, the one read longest ago first
	fresh  *list.List // *fetched that were not, the oldest first
	held   int64      // bytes of all parts, those on their way too
	unread int64      // bytes of parts nobody asked for yet
	closed bool
	loads  sync.WaitGroup
}

func newFetcher(ctx context.Context, opts *Options, frames func(*table) (*seal.File, error)) *fetcher {
	c := &fetcher{
		ctx: ctx, store: opts.Store, nvme: opts.NVMe, frames: frames, log: opts.Logger,
		demand: make(chan struct{}, demandGets), ahead: make(chan struct{}, aheadGets),
		parts: map[partKey]*fetched{}, seen: list.New(), fresh: list.New(),
	}
	c.sealedBufs.New = func() any { b := make([]byte, seal.HeaderSize+runParts*nvme.PartSize); return &b }
	c.plainBufs.New = func() any { b := make([]byte, partData); return &b }
	c.cacheBufs.New = func() any { b := disk.Alloc(nvme.PartSize); return &b }
	return c
}

// close waits for the requests in flight, which end with the context.
func (c *fetcher) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.loads.Wait()
}

// read fills p with the plaintext of t at off, which lies within the file. With keep, what has to
// be fetched is offered to the part cache.
func (c *fetcher) read(t *table, p []byte, off int64, keep bool) error {
	first, last := partOf(off), partOf(off+int64(len(p))-1)
	var few [16]uint64
	missing := few[:0]
	for k := first; k <= last; k++ {
		dst, skip := span(p, off, k)
		if c.fromMemory(t, k, dst, skip) || c.fromCache(t, k, dst, skip) {
			continue
		}
		missing = append(missing, k)
	}
	if len(missing) == 0 {
		return nil
	}
	waits := c.want(t, missing, keep)
	var err error
	for i, w := range waits {
		if err == nil {
			err = c.await(w)
		}
		if err == nil {
			dst, skip := span(p, off, missing[i])
			copy(dst, w.data[skip:])
		}
		c.unref(w)
	}
	return err
}

// span returns the piece of p, read at off, that lies in part k, and where in the part it begins.
func span(p []byte, off int64, k uint64) (dst []byte, skip int) {
	start := int64(k) * partData
	from := max(start-off, 0)
	to := min(start+partData-off, int64(len(p)))
	return p[from:to], int(off + from - start)
}

// fromMemory copies from a part that is in memory already.
func (c *fetcher) fromMemory(t *table, part uint64, dst []byte, skip int) bool {
	c.mu.Lock()
	w := c.parts[partKey{t.id, part}]
	if w == nil || w.home == nil {
		c.mu.Unlock()
		return false
	}
	w.refs++
	c.touch(w)
	c.mu.Unlock()
	copy(dst, w.data[skip:])
	c.unref(w)
	return true
}

// fromCache reads the frames of a part that the NVMe tier holds. Bad ones are forgotten.
func (c *fetcher) fromCache(t *table, part uint64, dst []byte, skip int) bool {
	buf := c.cacheBufs.Get().(*[]byte)
	defer c.cacheBufs.Put(buf)
	first := skip / seal.FrameData
	from := int64(first) * seal.FrameSize
	to := min(int64((skip+len(dst)-1)/seal.FrameData+1)*seal.FrameSize, partStored(t, part))
	sealed := (*buf)[:to-from]
	n := c.nvme.GetPartAt(t.id, part, sealed, from)
	if n == 0 {
		return false
	}
	err := fmt.Errorf("%w: %d bytes of %d", seal.ErrCorrupt, n, len(sealed))
	if n == len(sealed) {
		err = c.openFrames(t, part*nvme.PartFrames+uint64(first), sealed, dst, skip%seal.FrameData)
	}
	if err != nil {
		c.log.Warn("bad part in the part cache: reading the object", "object", t.object, "part", part, "error", err)
		c.nvme.DropPart(t.id, part)
		return false
	}
	return true
}

// partStored returns the bytes of the object that belong to a part.
func partStored(t *table, part uint64) int64 {
	return min(nvme.PartSize, t.stored()-seal.HeaderSize-int64(part)*nvme.PartSize)
}

// openFrames opens consecutive sealed frames, which are overwritten, and copies their plaintext
// from skip on to dst.
func (c *fetcher) openFrames(t *table, frame uint64, sealed, dst []byte, skip int) error {
	key, err := c.frames(t)
	if err != nil {
		return err
	}
	last := seal.Frames(t.size) - 1
	for ; len(sealed) > 0; frame++ {
		one := sealed[:min(seal.FrameSize, len(sealed))]
		sealed = sealed[len(one):]
		n := len(one) - seal.Overhead
		if skip == 0 && n >= 0 && n <= len(dst) {
			if _, err := key.Open(dst[:0:n], one, frame, frame == last); err != nil {
				return err
			}
		} else {
			plain, err := key.Open(one[:0], one, frame, frame == last)
			if err != nil {
				return err
			}
			n = copy(dst, plain[min(skip, len(plain)):])
			skip = 0
		}
		dst = dst[n:]
	}
	return nil
}

// want returns the parts, each with a reference, and begins to fetch those that are not on their way.
func (c *fetcher) want(t *table, parts []uint64, keep bool) []*fetched {
	waits := make([]*fetched, len(parts))
	beside, widen := uint64(0), false
	if len(parts) == 1 && keep {
		beside = parts[0] ^ 1 // GETs below 256 KiB cost as much
		widen = partStored(t, beside) > 0 && !c.nvme.HasPart(t.id, beside)
	}
	var fresh []*fetched
	c.mu.Lock()
	for i, k := range parts {
		w := c.parts[partKey{t.id, k}]
		if w == nil {
			w = c.add(t, k)
			fresh = append(fresh, w)
		}
		w.refs++
		c.touch(w)
		waits[i] = w
	}
	if widen && len(fresh) == 1 && c.parts[partKey{t.id, beside}] == nil {
		w := c.add(t, beside)
		if beside < parts[0] {
			fresh = []*fetched{w, fresh[0]}
		} else {
			fresh = append(fresh, w)
		}
	}
	c.start(t, fresh, keep, c.demand)
	c.mu.Unlock()
	return waits
}

// prefetch begins to fetch the parts of a range of plaintext that are neither in memory nor in
// the part cache, as far as memory allows, and returns the end of what is there or on its way.
func (c *fetcher) prefetch(t *table, from, to int64, keep bool) int64 {
	first, last := partOf(from), partOf(to-1)
	c.mu.Lock()
	defer c.mu.Unlock()
	var fresh []*fetched
	for k := first; k <= last; k++ {
		if c.parts[partKey{t.id, k}] != nil || c.nvme.HasPart(t.id, k) {
			continue
		}
		if c.unread+nvme.PartSize > fetchBudget*3/4 {
			to = max(from, int64(k)*partData)
			break
		}
		fresh = append(fresh, c.add(t, k))
	}
	c.start(t, fresh, keep, c.ahead)
	return to
}

// add makes a part that is on its way. c.mu is held.
func (c *fetcher) add(t *table, part uint64) *fetched {
	w := &fetched{key: partKey{t.id, part}, done: make(chan struct{}), live: true}
	c.parts[w.key] = w
	c.held += nvme.PartSize
	c.unread += nvme.PartSize
	return w
}

// touch notes that somebody asked for w. c.mu is held.
func (c *fetcher) touch(w *fetched) {
	if !w.read {
		w.read = true
		c.unread -= nvme.PartSize
	}
	if w.home != nil {
		w.home.Remove(w.elem)
		w.home, w.elem = c.seen, c.seen.PushBack(w)
	}
}

// start begins to load parts, ascending, in runs of neighbours. c.mu is held.
func (c *fetcher) start(t *table, parts []*fetched, keep bool, tokens chan struct{}) {
	for len(parts) > 0 {
		n := 1
		for n < len(parts) && n < runParts && parts[n].key.part == parts[0].key.part+uint64(n) {
			n++
		}
		run := parts[:n:n]
		parts = parts[n:]
		if c.closed {
			c.finish(run, context.Cause(c.ctx))
			continue
		}
		c.loads.Go(func() { c.load(t, run, keep, tokens) })
	}
}

// await waits until w came.
func (c *fetcher) await(w *fetched) error {
	select {
	case <-w.done:
		return w.err
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// unref gives a reference back.
func (c *fetcher) unref(w *fetched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.refs--
	if w.refs == 0 && !w.live {
		c.free(w)
	}
	c.shrink()
}

// free gives the buffer of a part back that nobody refers to. c.mu is held.
func (c *fetcher) free(w *fetched) {
	if cap(w.data) >= partData {
		buf := w.data[:partData]
		c.plainBufs.Put(&buf)
	}
	w.data = nil
}

// shrink forgets parts until memory is within its budget: those read longest ago, then those that
// wait longest for a reader. c.mu is held.
func (c *fetcher) shrink() {
	for _, l := range []*list.List{c.seen, c.fresh} {
		for e := l.Front(); e != nil && c.held > fetchBudget; {
			w := e.Value.(*fetched)
			e = e.Next()
			if w.refs == 0 {
				c.forget(w)
				c.free(w)
			}
		}
	}
}

// forget takes a part out of memory. c.mu is held.
func (c *fetcher) forget(w *fetched) {
	if w.home != nil {
		w.home.Remove(w.elem)
		w.home, w.elem = nil, nil
	}
	if !w.live {
		return
	}
	w.live = false
	delete(c.parts, w.key)
	c.held -= nvme.PartSize
	if !w.read {
		c.unread -= nvme.PartSize
	}
}
