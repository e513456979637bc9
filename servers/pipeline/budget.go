package pipeline

import (
	"context"
	"sync"
)

// budget is a number of bytes that many connections share. Who asks first is served first, so
// that a large request is not overtaken for ever by small ones.
type budget struct {
	mu      sync.Mutex
	free    int64
	waiters []*budgetWaiter // guarded by mu; the longest waiting first
}

type budgetWaiter struct {
	n     int64
	ready chan struct{} // closed when the bytes are the waiter's
}

// tryAcquire takes n bytes if it need not wait for them.
func (b *budget) tryAcquire(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiters) > 0 || b.free < n {
		return false
	}
	b.free -= n
	return true
}

// acquire takes n bytes, which must not be more than the budget ever has.
func (b *budget) acquire(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.waiters) == 0 && b.free >= n {
		b.free -= n
		b.mu.Unlock()
		return nil
	}
	w := &budgetWaiter{n: n, ready: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.abandon(w)
	return context.Cause(ctx)
}

// abandon forgets a waiter, or gives back what it was given in the meantime.
func (b *budget) abandon(w *budgetWaiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.waiters {
		if other == w {
			b.waiters = append(b.waiters[:i], b.waiters[i+1:]...)
			b.serve()
			return
		}
	}
	b.free += w.n
	b.serve()
}

// release gives n bytes back.
func (b *budget) release(n int64) {
	b.mu.Lock()
	b.free += n
	b.serve()
	b.mu.Unlock()
}

// serve gives the waiters, in their order, what is free. b.mu is held.
func (b *budget) serve() {
	for len(b.waiters) > 0 && b.waiters[0].n <= b.free {
		w := b.waiters[0]
		b.waiters[0] = nil
		b.waiters = b.waiters[1:]
		b.free -= w.n
		close(w.ready)
	}
}
