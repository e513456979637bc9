package volume

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// gate is where writers wait, before they take any lock: for the lease, and for room. Reads do
// not pass it. Flushes, MANIFEST edits and compactions draw on what the gate leaves free.
//
// pressure is from 0 (free) to 1 (stop). Between them a write is delayed by its size, the more
// the higher the pressure, so that writers come down to the speed of what drains and do not run
// into a wall.
type gate struct {
	v        *Volume
	pressure atomic.Uint64 // bits of a float64
	stopping atomic.Bool

	mu    sync.Mutex
	eased chan struct{} // guarded by mu; closed and replaced when the pressure falls below 1
}

// slowest is the speed in bytes a second that one writer comes down to as the pressure nears 1.
const slowest = 4 << 20

func (g *gate) init(v *Volume) {
	g.v = v
	g.eased = make(chan struct{})
}

// wait returns when n bytes may be written.
func (g *gate) wait(ctx context.Context, n int) error {
	if g.stopping.Load() {
		return ErrStopping
	}
	if err := g.v.Wait(ctx); err != nil {
		return err
	}
	p := g.load()
	if p <= 0 {
		return nil
	}
	if p < 1 {
		return g.sleep(ctx, time.Duration(p*p*float64(n)/slowest*float64(time.Second)))
	}
	return g.block(ctx)
}

func (g *gate) sleep(ctx context.Context, d time.Duration) error {
	if d < 50*time.Microsecond {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-g.v.failed:
		return g.v.failure
	}
}

// block waits until the pressure is below 1.
func (g *gate) block(ctx context.Context) error {
	for {
		g.mu.Lock()
		eased := g.eased
		g.mu.Unlock()
		if g.load() < 1 {
			return g.v.Wait(ctx)
		}
		select {
		case <-eased:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-g.v.failed:
			return g.v.failure
		}
		if g.stopping.Load() {
			return ErrStopping
		}
	}
}

func (g *gate) load() float64 { return math.Float64frombits(g.pressure.Load()) }

// set changes the pressure and wakes who may go on.
func (g *gate) set(p float64) (was float64) {
	was = math.Float64frombits(g.pressure.Swap(math.Float64bits(p)))
	if was >= 1 && p < 1 {
		g.wake()
	}
	return was
}

func (g *gate) wake() {
	g.mu.Lock()
	close(g.eased)
	g.eased = make(chan struct{})
	g.mu.Unlock()
}

// stop makes every write from now on fail with ErrStopping.
func (g *gate) stop() {
	g.stopping.Store(true)
	g.wake()
}

// share places x between soft (0) and hard (1).
func share(x, soft, hard float64) float64 {
	return min(max((x-soft)/(hard-soft), 0), 1)
}
