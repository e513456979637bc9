package memory

import (
	"sync"
	"sync/atomic"
)

// hashOf spreads chunks over stripes, filter and ghosts. It is never zero.
func hashOf(inode, index uint64) uint64 { return mix(inode*0x9e3779b97f4a7c15 + index + 1) }

func mix(h uint64) uint64 {
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 29
	h *= 0x9e3779b97f4a7c15
	h ^= h >> 32
	return h | 1<<63
}

// stripes are locks of chunks, by hash; a power of two.
type stripes []stripe

type stripe struct {
	mu      sync.Mutex // held while a chunk of the stripe enters a cache or leaves it by order
	written uint64     // guarded by mu: Tier.clock after the last write
}

func (s stripes) of(hash uint64) *stripe { return &s[hash>>8&uint64(len(s)-1)] }

// A region is 1<<regionShift chunks. A range that covers more than oneByOneMax chunks of one
// invalidates all of it.
const (
	regionShift = 12
	regionMask  = 1<<regionShift - 1
	oneByOneMax = 512
)

// regions hold Tier.clock at the last invalidation of each region, by hash; a power of two.
type regions []atomic.Uint64

func (r regions) of(inode, index uint64) *atomic.Uint64 {
	return &r[hashOf(inode, index>>regionShift)>>8&uint64(len(r)-1)]
}

func (r regions) setAll(now uint64) {
	for i := range r {
		raise(&r[i], now)
	}
}

// raise stores now unless a later time is there: two invalidations may come here out of order.
func raise(region *atomic.Uint64, now uint64) {
	for old := region.Load(); old < now && !region.CompareAndSwap(old, now); {
		old = region.Load()
	}
}

// filter is a set of hashes, one bit each; a power of two words of 64 bits. Two chunks may share a bit.
type filter []atomic.Uint64

func (f filter) at(hash uint64) (*atomic.Uint64, uint64) {
	return &f[hash>>6&uint64(len(f)-1)], 1 << (hash & 63)
}

func (f filter) add(hash uint64) {
	word, bit := f.at(hash)
	if word.Load()&bit == 0 {
		word.Or(bit)
	}
}

// remove reports whether hash was in the set.
func (f filter) remove(hash uint64) bool {
	word, bit := f.at(hash)
	return word.Load()&bit != 0 && word.And(^bit)&bit != 0
}

// ghosts is a set of fingerprints; a newer one takes an older one's place. A power of two.
type ghosts []atomic.Uint32

func (g ghosts) at(hash uint64) (*atomic.Uint32, uint32) {
	return &g[hash&uint64(len(g)-1)], uint32(hash>>32) | 1
}

func (g ghosts) add(hash uint64) {
	at, print := g.at(hash)
	at.Store(print)
}

// remove reports whether the ghost was there.
func (g ghosts) remove(hash uint64) bool {
	at, print := g.at(hash)
	return at.Load() == print && at.CompareAndSwap(print, 0)
}
