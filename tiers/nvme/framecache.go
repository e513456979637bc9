package nvme

import (
	"sync"

	"zerofs/tiers/seal"
)

const (
	// frameSlots times seal.FrameData bytes of plaintext are remembered: 8 MiB.
	frameSlots = 1 << frameBits
	frameBits  = 9
	// aheadFrames are read at once where the frame before is remembered: a compaction reads dozens
	// of files in turns, each from its start to its end in small pieces.
	aheadFrames = 8
)

// frameCache remembers frames of which a read used a part only or nothing yet, since the next read of the
// file often wants the rest: Pebble's blocks straddle frames. A slot is taken by whoever comes last.
type frameCache struct {
	slots [frameSlots]frameSlot
}

type frameSlot struct {
	mu     sync.Mutex // guards what follows; held while 16 KiB are copied, and never waited for
	table  uint64     // serial; zero is none
	frame  uint64
	plain  []byte // of seal.FrameData bytes once used
	length int
}

func (c *frameCache) slot(table, frame uint64) *frameSlot {
	h := (table*0x9e3779b97f4a7c15 + frame) * 0xd6e8feb86659fd93
	return &c.slots[h>>(64-frameBits)]
}

// get copies the frame's plaintext from skip on to p and returns the number of bytes, 0 if it is not here.
func (c *frameCache) get(table, frame uint64, skip int, p []byte) int {
	s := c.slot(table, frame)
	if !s.mu.TryLock() {
		return 0
	}
	defer s.mu.Unlock()
	if s.table != table || s.frame != frame || skip >= s.length {
		return 0
	}
	return copy(p, s.plain[skip:s.length])
}

// has reports whether the frame is here.
func (c *frameCache) has(table, frame uint64) bool {
	s := c.slot(table, frame)
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	return s.table == table && s.frame == frame
}

func (c *frameCache) put(table, frame uint64, plain []byte) {
	s := c.slot(table, frame)
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if s.plain == nil {
		s.plain = make([]byte, seal.FrameData)
	}
	s.table, s.frame = table, frame
	s.length = copy(s.plain, plain)
}
