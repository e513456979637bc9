package nvme

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"zerofs/tiers/disk"
	"zerofs/tiers/nvme/internal/slots"
	"zerofs/tiers/seal"
)

const (
	partWriters  = 2       // goroutines that write parts
	partQueue    = 64      // parts that wait for them: 8 MiB
	partIndexMax = 1 << 26 // parts of one file: 8 TiB
)

// partCache keeps sealed parts of stored files in slots of one file. What is offered is readable
// at once, from memory until it is on disk. Its index survives a restart; one that is older than
// the slab lies, which the readers notice since frames authenticate under their file's key.
type partCache struct {
	tier  *Tier
	slab  string // path
	index string // path
	file  disk.File

	mu      sync.Mutex // guards what follows
	table   *slots.Table
	pending map[slots.Key]*pendingPart
	changed int  // parts published or forgotten since the index was saved
	paused  bool // no growth: the disk was full
	ended   bool // no part is taken any more

	queue   chan *pendingPart
	writers sync.WaitGroup

	hits, misses, dropped atomic.Int64
	lastErr               atomic.Pointer[error]
}

// pendingPart is a part on its way to the slab.
type pendingPart struct {
	key slots.Key
	buf []byte
	n   int

	// Guarded by partCache.mu.
	refs     int // readers, and the writer; the buffer goes back with the last
	canceled bool
}

func newPartCache(t *Tier) *partCache {
	return &partCache{
		tier:    t,
		slab:    t.disk.PathJoin(t.dir, "parts.slab"),
		index:   t.disk.PathJoin(t.dir, "parts.index"),
		table:   slots.New(PartSize),
		pending: map[slots.Key]*pendingPart{},
		queue:   make(chan *pendingPart, partQueue),
	}
}

// partKey returns the key of a part, or false for one that the cache does not take.
func partKey(id seal.FileID, part uint64) (slots.Key, bool) {
	return slots.Key{File: id, Part: uint32(part)}, part < partIndexMax
}

// GetPart fills dst with the sealed bytes of a part (fewer at the file's end) and returns their number; 0 is a miss.
func (t *Tier) GetPart(id seal.FileID, part uint64, dst []byte) int {
	return t.GetPartAt(id, part, dst, 0)
}

// GetPartAt is GetPart from byte off of the part on, a multiple of seal.FrameSize: frames that
// are not needed are not read. An aligned dst (disk.Alloc) spares a copy; what lies in it beyond
// the bytes returned is arbitrary afterwards.
func (t *Tier) GetPartAt(id seal.FileID, part uint64, dst []byte, off int64) int {
	key, ok := partKey(id, part)
	if !ok || off < 0 || off%seal.FrameSize != 0 {
		return 0
	}
	n := t.parts.get(key, dst, off)
	if n > 0 {
		t.parts.hits.Add(1)
	} else {
		t.parts.misses.Add(1)
	}
	return n
}

// HasPart reports whether the part cache holds a part, or is about to. It reads no disk and
// counts neither as a hit nor as a miss.
func (t *Tier) HasPart(id seal.FileID, part uint64) bool {
	key, ok := partKey(id, part)
	if !ok {
		return false
	}
	c := t.parts
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending[key] != nil || c.table.Has(key)
}

// PutPart offers a part's sealed bytes to the cache. It never blocks on a full cache or disk.
func (t *Tier) PutPart(id seal.FileID, part uint64, sealed []byte) {
	key, ok := partKey(id, part)
	if !ok || len(sealed) == 0 || len(sealed) > PartSize {
		return
	}
	t.parts.put(key, sealed)
}

// DropPart forgets a part which turned out bad.
func (t *Tier) DropPart(id seal.FileID, part uint64) {
	if key, ok := partKey(id, part); ok {
		t.parts.drop(key)
	}
}

func (c *partCache) get(key slots.Key, dst []byte, off int64) int {
	c.mu.Lock()
	if p := c.pending[key]; p != nil && !p.canceled {
		p.refs++
		c.mu.Unlock()
		n := 0
		if off < int64(p.n) {
			n = copy(dst, p.buf[off:p.n])
		}
		c.unref(p)
		return n
	}
	ref, ok := c.table.Get(key)
	c.mu.Unlock()
	if !ok || off >= int64(ref.N) {
		return 0
	}
	n := int(min(int64(len(dst)), int64(ref.N)-off))
	if err := c.read(dst, n, int64(ref.Slot)*PartSize+off); err != nil {
		c.note(fmt.Errorf("read slot %d: %w", ref.Slot, err))
		c.drop(key)
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.table.Still(ref) { // it made way while it was read
		return 0
	}
	return n
}

// read reads n bytes of the slab at off, which is aligned, to the beginning of dst. The rest of
// dst is scratch space.
func (c *partCache) read(dst []byte, n int, off int64) error {
	padded := int(onDisk(int64(n)))
	if padded <= len(dst) && alignedTo(dst[:padded], off) {
		got, err := c.file.ReadAt(dst[:padded], off)
		if got < n {
			return noEOF(err)
		}
		return nil
	}
	buf := disk.GetBuf(padded)
	defer disk.PutBuf(buf)
	got, err := c.file.ReadAt(buf, off)
	if got < n {
		return noEOF(err)
	}
	copy(dst[:n], buf)
	return nil
}

func (c *partCache) put(key slots.Key, sealed []byte) {
	c.mu.Lock()
	full := c.ended || len(c.queue) == cap(c.queue)
	if full || c.pending[key] != nil || c.table.Has(key) {
		c.mu.Unlock()
		if full {
			c.dropped.Add(1)
		}
		return
	}
	c.mu.Unlock()

	p := &pendingPart{key: key, buf: disk.GetBuf(PartSize), refs: 1}
	p.n = copyPart(p.buf, sealed)

	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && c.pending[key] == nil && !c.table.Has(key) {
		select {
		case c.queue <- p:
			c.pending[key] = p
			return
		default:
			c.dropped.Add(1)
		}
	}
	disk.PutBuf(p.buf)
}

// copyPart copies a part to a buffer and pads it with zeros to what direct I/O writes.
func copyPart(buf, sealed []byte) int {
	n := copy(buf, sealed)
	clear(buf[n:onDisk(int64(n))])
	return n
}

func (c *partCache) unref(p *pendingPart) {
	c.mu.Lock()
	p.refs--
	last := p.refs == 0
	c.mu.Unlock()
	if last {
		disk.PutBuf(p.buf)
	}
}

// write takes parts from the queue until it closes.
func (c *partCache) write() {
	for p := range c.queue {
		if err := c.writePart(p); err != nil {
			c.note(err)
			c.dropped.Add(1)
		}
		c.mu.Lock()
		if c.pending[p.key] == p {
			delete(c.pending, p.key)
		}
		c.mu.Unlock()
		c.unref(p)
	}
}

func (c *partCache) writePart(p *pendingPart) error {
	slot, ok := c.takeSlot(p)
	if !ok {
		return nil
	}
	_, err := c.file.WriteAt(p.buf[:onDisk(int64(p.n))], int64(slot)*PartSize)
	c.mu.Lock()
	if err == nil && !p.canceled {
		c.table.Publish(slot, p.key, uint32(p.n))
		c.changed++
	} else {
		c.table.Release(slot)
	}
	c.mu.Unlock()
	if errors.Is(err, disk.ErrFull) {
		c.tier.spare()
	}
	if err != nil {
		return fmt.Errorf("write slot %d: %w", slot, err)
	}
	return nil
}

// takeSlot lends a slot for the part: an empty one, a new one if the budget has room for it or a
// clean table can make some, or that of another part.
func (c *partCache) takeSlot(p *pendingPart) (slot uint32, ok bool) {
	c.mu.Lock()
	needs := c.table.NeedsGrowth() && !c.paused
	c.mu.Unlock()
	grown := needs && c.tier.growParts()
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.canceled {
		if grown {
			c.tier.budget.shrinkParts(PartSize)
		}
		return 0, false
	}
	before := c.table.Occupied()
	slot, ok = c.table.Take(grown)
	if grown && c.table.Occupied() == before {
		c.tier.budget.shrinkParts(PartSize) // a slot was freed meanwhile
	}
	return slot, ok
}

// growParts counts one slot more, if need be in place of clean copies that have more than their half.
func (t *Tier) growParts() bool {
	for !t.budget.growParts(PartSize) {
		if !t.evictForPart() {
			return false
		}
	}
	return true
}

func (t *Tier) evictForPart() bool {
	t.making.Lock()
	defer t.making.Unlock()
	over, cleanOver := t.budget.excess()
	if over+PartSize <= 0 {
		return true // somebody else made room
	}
	return t.evict(min(over+PartSize, cleanOver))
}

func (c *partCache) drop(key slots.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pending[key]; p != nil {
		p.canceled = true
		delete(c.pending, key)
	}
	if c.table.Delete(key) {
		c.changed++
	}
}

// removeFile forgets all parts of a file.
func (c *partCache) removeFile(id seal.FileID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, p := range c.pending {
		if key.File == id {
			p.canceled = true
			delete(c.pending, key)
		}
	}
	c.changed += c.table.DeleteFile(id)
}

// shrink gives at least n bytes of slots back to the file system, if there are that many, and
// returns the bytes given.
func (c *partCache) shrink(n int64) int64 {
	const batch = 2 << 20 // at least
	c.mu.Lock()
	taken := c.table.TakeAny(int((max(n, batch) + PartSize - 1) / PartSize))
	c.changed += len(taken)
	c.mu.Unlock()
	if len(taken) == 0 {
		return 0
	}
	slices.Sort(taken)
	var given int64
	for i := 0; i < len(taken); {
		j := i + 1
		for j < len(taken) && taken[j] == taken[j-1]+1 {
			j++
		}
		given += c.punch(taken[i:j])
		i = j
	}
	return given
}

// punch makes holes of a run of lent slots. Where that fails the whole slab is emptied.
func (c *partCache) punch(run []uint32) int64 {
	n := int64(len(run)) * PartSize
	err := c.file.PunchHole(int64(run[0])*PartSize, n)
	if err != nil {
		c.note(fmt.Errorf("punch %d slots from %d: %w", len(run), run[0], err))
		if err = c.file.Truncate(0); err != nil {
			c.note(fmt.Errorf("truncate: %w", err))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, slot := range run {
		if err == nil {
			c.table.Punched(slot)
		} else {
			c.table.Release(slot)
		}
	}
	if err != nil {
		return 0
	}
	c.tier.budget.shrinkParts(n)
	return n
}

func (c *partCache) pauseGrowth() {
	c.mu.Lock()
	c.paused = true
	c.mu.Unlock()
}

func (c *partCache) resumeGrowth() {
	c.mu.Lock()
	c.paused = false
	c.mu.Unlock()
}

// note keeps an error until the next line of the log.
func (c *partCache) note(err error) { c.lastErr.Store(&err) }

func (c *partCache) addUsage(u *Usage) {
	u.PartHits, u.PartMisses, u.PartsDropped = c.hits.Load(), c.misses.Load(), c.dropped.Load()
}

// report logs the newest error since the last report.
func (c *partCache) report() {
	if err := c.lastErr.Swap(nil); err != nil {
		c.tier.log.Warn("part cache", "file", c.slab, "dropped", c.dropped.Load(), "err", *err)
	}
}
