// Package memory is the memory tier: decrypted chunks in two bigcaches with ghost admission.
// docs/design/memory.md tells why it is built as it is.
//
// # Invariants
//
//   - After Write or Invalidate returned, no Get returns what the chunk was before.
//   - A Fill whose BeginFill came before the end of a Write or Invalidate of its chunk is lost.
//     So the tier never holds what the tree no longer says, provided that writers change the
//     tree first and call Write or Invalidate before they give up the chunk's write lock.
//   - The tier may forget any chunk at any time.
//
// # How
//
// One clock counts writes. A stripe is a lock and the clock's value at the last write of any
// chunk in it; whatever enters a cache does so under the lock of the chunk's stripe, and only if the stripe
// was not written since the bytes were known to be right. A region is a run of chunks and the
// clock's value when it was last invalidated as a whole; that value is part of each cached
// chunk's key, so that one store makes thousands of chunks unreachable.
//
// New chunks enter the probation cache (a tenth of the bytes), or the main one if their ghost
// is there: the fingerprint of a chunk that left probation unread. A chunk that was read since it
// entered its cache is put (back) into the main one when it falls out. So a scan passes through
// probation alone.
//
// # Concurrency
//
// Any goroutine may call any method. Locks, in order: a stripe; bigcache's own; holdings.mu. No two stripes at
// once. bigcache calls back (fallOut) under its shard's lock: there only holdings.mu is taken.
package memory

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
)

// Chunk sizes that New accepts, in bytes.
const (
	ChunkMin = 4096
	ChunkMax = 65536
)

// Tier is the memory tier. Any goroutine may call any method.
type Tier struct {
	clock atomic.Uint64 // writes and invalidations so far
	held  atomic.Pointer[holdings]

	fills, fillsLost atomic.Int64
}

// holdings is all that New made for a size above zero; Close lets go of it.
type holdings struct {
	chunkSize int
	probation *cache // nil when the size is too small for two caches
	main      *cache

	stripes stripes
	regions regions
	seen    filter // chunks read since they entered a cache
	ghosts  ghosts // chunks that left probation unread

	clock     *atomic.Uint64 // Tier.clock
	fallenMax int

	mu      sync.Mutex  // guards fallen; no lock is taken under it
	fallen  []fallen    // chunks that were read and fell out, to be put back
	waiting atomic.Bool // there are some; set under mu
}

// Sizes of the small parts, in bytes of budget per element.
const (
	perStripe = 16 << 10
	perRegion = 8 << 10
)

// New returns a tier that holds at most size bytes, its own overhead included. Below 1 MiB it
// holds nothing. chunkSize is a power of two from ChunkMin to ChunkMax.
func New(size int64, chunkSize int) (*Tier, error) {
	if size < 0 {
		return nil, fmt.Errorf("memory: size %d is negative", size)
	}
	if chunkSize < ChunkMin || chunkSize > ChunkMax || chunkSize&(chunkSize-1) != 0 {
		return nil, fmt.Errorf("memory: chunk size %d is not a power of two from %d to %d", chunkSize, ChunkMin, ChunkMax)
	}
	t := &Tier{}
	if size < 1<<20 {
		return t, nil
	}
	h, err := newHoldings(size, chunkSize, &t.clock)
	if err != nil {
		return nil, fmt.Errorf("memory: %d bytes: %w", size, err)
	}
	t.held.Store(h)
	return t, nil
}

func newHoldings(size int64, chunkSize int, clock *atomic.Uint64) (*holdings, error) {
	chunks := size / int64(chunkSize)
	h := &holdings{
		chunkSize: chunkSize,
		clock:     clock,
		fallenMax: int(max(1, min(fallenMax, chunks/64))),
		stripes:   make(stripes, powerOfTwo(size/perStripe, 64, 1<<16)),
		regions:   make(regions, powerOfTwo(size/perRegion, 64, 1<<18)),
		seen:      make(filter, powerOfTwo(chunks/8, 16, 1<<28)),
		ghosts:    make(ghosts, powerOfTwo(chunks, 64, 1<<28)),
	}
	// What is not the caches' is below one percent; their hash maps take one to three, and more
	// where empty chunks are many.
	caches := max(1, int((size-size/32)>>20))
	probation := caches / 10
	if probation == 0 && caches > 1 {
		probation = 1
	}
	var err error
	if h.main, err = newCache(caches-probation, chunkSize, h.fallOutOfMain); err != nil {
		return nil, err
	}
	if probation > 0 {
		if h.probation, err = newCache(probation, chunkSize, h.fallOutOfProbation); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// powerOfTwo returns the power of two that is next to n from below, within least and most.
func powerOfTwo(n, least, most int64) int {
	n = max(least, min(n, most))
	return 1 << (bits.Len64(uint64(n)) - 1)
}

// shardsFor returns the number of shards of a cache of the given MiB: of at least 1 MiB and 64
// chunks each, so that what is lost at a shard's end does not count.
func shardsFor(mib, chunkSize int) int {
	shardMin := max(1<<20, 64*chunkSize)
	most := powerOfTwo(int64(max(16, 4*runtime.GOMAXPROCS(0))), 1, 1<<10)
	return powerOfTwo(int64(mib<<20/shardMin), 1, int64(most))
}

// Get appends the chunk to dst and reports whether it was there. An all-zero chunk may be held
// as empty: then nothing is appended.
func (t *Tier) Get(dst []byte, inode, index uint64) ([]byte, bool) {
	h := t.held.Load()
	if h == nil {
		return dst, false
	}
	hash := hashOf(inode, index)
	key := getKey(inode, index, h.regions.of(inode, index).Load())
	defer key.put()
	entry, ok := h.main.get(key)
	if !ok && h.probation != nil {
		entry, ok = h.probation.get(key)
	}
	if !ok {
		return dst, false
	}
	h.seen.add(hash)
	if len(entry) == emptyLength {
		return dst, true
	}
	return append(dst, entry...), true
}

// Token stands for a read of the tree that may fill the tier.
type Token uint64

// BeginFill is called before the tree is read.
func (t *Tier) BeginFill(inode, index uint64) Token { return Token(t.clock.Load()) }

// Fill inserts what was read (empty, or at most the chunk size), unless the chunk's stripe was written since BeginFill.
func (t *Tier) Fill(tok Token, inode, index uint64, chunk []byte) {
	h := t.held.Load()
	if h == nil || !h.fits(chunk) {
		return
	}
	hash := hashOf(inode, index)
	if !h.insert(uint64(tok), inode, index, hash, h.ghosts.remove(hash), chunk) {
		t.fillsLost.Add(1)
		return
	}
	t.fills.Add(1)
	h.putBack()
}

// Write replaces a chunk; the caller holds the chunk's write lock and has changed the tree.
// Fills begun before lose.
func (t *Tier) Write(inode, index uint64, chunk []byte) {
	h := t.held.Load()
	if h == nil {
		return
	}
	hash := hashOf(inode, index)
	s := h.stripes.of(hash)
	s.mu.Lock()
	key := getKey(inode, index, h.regions.of(inode, index).Load())
	if h.fits(chunk) {
		h.replace(key, chunk)
	} else {
		h.forget(key)
	}
	key.put()
	s.written = t.clock.Add(1) // at the end: what fell out of a cache meanwhile is older
	s.mu.Unlock()
	h.putBack()
}

// Invalidate forgets chunks first..last, both included. Fills begun before lose. Long runs cost
// little; of them chunks nearby may be forgotten too.
func (t *Tier) Invalidate(inode, first, last uint64) {
	h := t.held.Load()
	if h == nil || first > last {
		return
	}
	for at := first; ; {
		end := min(at|regionMask, last)
		switch {
		case end-at < oneByOneMax:
			for i := at; i <= end && i >= at; i++ {
				t.invalidateOne(h, inode, i)
			}
		case (last-at)>>regionShift >= uint64(len(h.regions)):
			h.regions.setAll(t.clock.Add(1))
			return
		default:
			raise(h.regions.of(inode, at), t.clock.Add(1))
		}
		if end == last {
			return
		}
		at = end + 1
	}
}

func (t *Tier) invalidateOne(h *holdings, inode, index uint64) {
	s := h.stripes.of(hashOf(inode, index))
	s.mu.Lock()
	key := getKey(inode, index, h.regions.of(inode, index).Load())
	h.forget(key)
	key.put()
	s.written = t.clock.Add(1)
	s.mu.Unlock()
}

// Stats are counts since New, and bytes held: those of whole chunks, empty ones included.
type Stats struct {
	Hits      int64 `json:"hits"`
	Misses    int64 `json:"misses"`
	Fills     int64 `json:"fills"`
	FillsLost int64 `json:"fills_lost"` // for a write that came between
	Bytes     int64 `json:"bytes"`
}

// Stats returns the counters.
func (t *Tier) Stats() Stats {
	s := Stats{Fills: t.fills.Load(), FillsLost: t.fillsLost.Load()}
	if h := t.held.Load(); h != nil {
		h.addStats(&s)
	}
	return s
}

// Close frees the memory. Afterwards the tier holds nothing.
func (t *Tier) Close() error {
	if h := t.held.Swap(nil); h != nil {
		return h.close()
	}
	return nil
}

func (h *holdings) addStats(s *Stats) {
	for _, c := range []*cache{h.main, h.probation} {
		if c == nil {
			continue
		}
		stats := c.big.Stats()
		s.Hits += stats.Hits
		s.Misses = stats.Misses // of the one that is asked last
		s.Bytes += min(int64(c.big.Len())*int64(h.chunkSize), int64(c.big.Capacity()))
	}
}

func (h *holdings) close() error {
	err := h.main.big.Close()
	if h.probation != nil {
		err = errors.Join(err, h.probation.big.Close())
	}
	return err
}
