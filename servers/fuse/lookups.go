//go:build linux

package fuse

import (
	"context"
	"sync"
	"sync/atomic"

	"zerofs/engine"
)

const lookupShards = 64

// lookups counts how often the kernel was told of each inode; it tells with FORGET how many of those it
// has forgotten. An inode is held while its count is above zero.
type lookups struct {
	engine Engine
	inodes atomic.Int64
	shards [lookupShards]lookupShard
}

type lookupShard struct {
	mu     sync.Mutex
	counts map[engine.Ino]uint64 // guarded by mu
}

func (l *lookups) shard(ino engine.Ino) *lookupShard { return &l.shards[ino%lookupShards] }

// add counts one more time that the kernel is told of ino. It fails when the inode is gone.
func (l *lookups) add(ctx context.Context, ino engine.Ino) error {
	if l.again(ino) {
		return nil
	}
	if _, err := l.engine.Hold(ctx, ino); err != nil {
		return err
	}
	if l.held(ino) {
		l.engine.Release(ino) // somebody was faster
	}
	return nil
}

// again counts ino if the kernel knows it already.
func (l *lookups) again(ino engine.Ino) bool {
	s := l.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.counts[ino]
	if ok {
		s.counts[ino] = n + 1
	}
	return ok
}

// held counts ino, which the caller holds, and reports whether it was known: the hold is then one too many.
func (l *lookups) held(ino engine.Ino) (known bool) {
	s := l.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known := s.counts[ino]
	if s.counts == nil {
		s.counts = make(map[engine.Ino]uint64)
	}
	s.counts[ino] = n + 1
	if !known {
		l.inodes.Add(1)
	}
	return known
}

// forget takes n back.
func (l *lookups) forget(ino engine.Ino, n uint64) {
	s := l.shard(ino)
	s.mu.Lock()
	have, ok := s.counts[ino]
	last := ok && have <= n
	switch {
	case last:
		delete(s.counts, ino)
	case ok:
		s.counts[ino] = have - n
	}
	s.mu.Unlock()
	if last {
		l.inodes.Add(-1)
		l.engine.Release(ino)
	}
}

// known reports whether the kernel may have something of ino in its caches.
func (l *lookups) known(ino engine.Ino) bool {
	if ino == engine.RootIno {
		return true
	}
	s := l.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.counts[ino]
	return ok
}

// releaseAll gives everything back, when the kernel has gone.
func (l *lookups) releaseAll() {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		counts := s.counts
		s.counts = nil
		s.mu.Unlock()
		for ino := range counts {
			l.inodes.Add(-1)
			l.engine.Release(ino)
		}
	}
}
