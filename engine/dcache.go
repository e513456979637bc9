package engine

import (
	"hash/maphash"
	"sync"
)

// dentryCache remembers what names in directories mean, missing ones too. Whoever changes a name has it
// marked before and tells the outcome after; a name that was read from the tree is remembered only if
// it was not marked since before the read.
type dentryCache struct {
	seed   maphash.Seed
	shards [dentryShards]dentryShard
}

const dentryShards = 64

type dentryKey struct {
	dir  Ino
	name string
}

type dentryShard struct {
	mu             sync.Mutex // held for map operations only
	m              map[dentryKey]*cachedDentry
	oldest, newest *cachedDentry // those not being changed
	n, max         int           // of them
}

type dentryState uint8

const (
	dentryRead     dentryState = iota // somebody reads it from the tree
	dentryKnown                       // d is what the tree says; without an inode: there is no such name
	dentryChanging                    // only the tree knows
)

type cachedDentry struct {
	key          dentryKey
	d            dentry
	state        dentryState
	used         bool // since it became the oldest
	older, newer *cachedDentry
}

func (c *dentryCache) init(max int) {
	c.seed = maphash.MakeSeed()
	for i := range c.shards {
		c.shards[i].m = make(map[dentryKey]*cachedDentry)
		c.shards[i].max = max / dentryShards
	}
}

func (c *dentryCache) shard(k dentryKey) *dentryShard {
	return &c.shards[maphash.Comparable(c.seed, k)%dentryShards]
}

// get returns what a name means if that is known; an inode of zero if there is no such name.
func (c *dentryCache) get(dir Ino, name string) (d dentry, known bool) {
	k := dentryKey{dir, name}
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.m[k]
	if x == nil || x.state != dentryKnown {
		return dentry{}, false
	}
	x.used = true
	return x.d, true
}

// begin is called before a name is read from the tree; what it returns, if anything, is for fill.
func (c *dentryCache) begin(dir Ino, name string) *cachedDentry {
	k := dentryKey{dir, name}
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.m[k]
	if x == nil && s.max > 0 {
		x = &cachedDentry{key: k}
		s.add(x)
	}
	if x == nil || x.state == dentryChanging {
		return nil
	}
	return x
}

// fill tells what was read since begin returned x.
func (c *dentryCache) fill(x *cachedDentry, d dentry) {
	if x == nil {
		return
	}
	s := c.shard(x.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[x.key] == x && x.state == dentryRead {
		x.d, x.state = d, dentryKnown
	}
}

// change marks a name that is about to change. The directory's lock is held until settle.
func (c *dentryCache) change(dir Ino, name string) {
	k := dentryKey{dir, name}
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.m[k]; x != nil {
		s.unlink(x)
	}
	s.m[k] = &cachedDentry{key: k, state: dentryChanging}
}

// settle tells what a marked name means now; without know it is forgotten.
func (c *dentryCache) settle(dir Ino, name string, d dentry, know bool) {
	k := dentryKey{dir, name}
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
	if know && s.max > 0 {
		s.add(&cachedDentry{key: k, d: d, state: dentryKnown})
	}
}

// add makes x the newest, at the cost of the oldest that was not used.
func (s *dentryShard) add(x *cachedDentry) {
	for s.n >= s.max {
		o := s.oldest
		s.unlink(o)
		if o.used {
			o.used = false
			s.link(o)
			continue
		}
		delete(s.m, o.key)
	}
	s.m[x.key] = x
	s.link(x)
}

func (s *dentryShard) link(x *cachedDentry) {
	x.older = s.newest
	if s.newest != nil {
		s.newest.newer = x
	} else {
		s.oldest = x
	}
	s.newest = x
	s.n++
}

func (s *dentryShard) unlink(x *cachedDentry) {
	if x.older != nil {
		x.older.newer = x.newer
	} else {
		s.oldest = x.newer
	}
	if x.newer != nil {
		x.newer.older = x.older
	} else {
		s.newest = x.older
	}
	x.older, x.newer = nil, nil
	s.n--
}
