package fence

import (
	"sync"
	"sync/atomic"
	"time"
)

// leaseGate says whether requests may be answered. Its methods take no lock, next apart.
type leaseGate struct {
	lease    time.Duration
	forever  bool // a lapsed lease does not count
	boottime func() time.Duration

	started atomic.Int64 // boot time at which the last append that succeeded was started
	ending  atomic.Int32

	mu      sync.Mutex // guards renewed
	renewed chan struct{}
}

// How a turn ends; larger values are final.
const (
	endRunning   int32 = iota
	endReleasing       // closed to callers, while the Release is on its way
	endClosed
	endFenced
)

func (g *leaseGate) init(opts Options, started time.Duration) {
	g.lease, g.forever, g.boottime = opts.Lease, opts.ContinueOnLoss, opts.Boottime
	g.renewed = make(chan struct{})
	g.started.Store(int64(started))
}

func (g *leaseGate) valid() error {
	if err := g.ended(); err != nil {
		return err
	}
	if g.forever || leaseHolds(time.Duration(g.started.Load()), g.boottime(), g.lease) {
		return nil
	}
	return ErrLapsed
}

func (g *leaseGate) ended() error {
	switch g.ending.Load() {
	case endRunning:
		return nil
	case endFenced:
		return ErrFenced
	}
	return ErrClosed
}

// end moves from running to as, or returns why that is too late.
func (g *leaseGate) end(as int32) error {
	if !g.ending.CompareAndSwap(endRunning, as) {
		return g.ended()
	}
	return nil
}

// finish moves to one of the final ends and reports whether it was the first to do so.
func (g *leaseGate) finish(as int32) bool {
	for {
		old := g.ending.Load()
		if old >= endClosed {
			return false
		}
		if g.ending.CompareAndSwap(old, as) {
			return true
		}
	}
}

// renew starts the lease anew and lets go who waits for it.
func (g *leaseGate) renew(started time.Duration) {
	g.started.Store(int64(started))
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.renewed)
	g.renewed = make(chan struct{})
}

// next returns a channel that closes at the next renewal.
func (g *leaseGate) next() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.renewed
}
