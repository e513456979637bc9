package pipeline

import (
	"sync/atomic"
	"time"
)

// tick is the grain of time limits: a ticker of the server counts them, so that the hot path needs
// neither clock nor timer.
const tick = time.Second

// slowest is the rate in bytes per second below which a transfer in either direction is given up;
// it is granted on top of the time limit.
const slowest = 128 << 10

// watch is a time limit on one thing that a connection may be waiting for. One goroutine arms and
// disarms it, another checks.
type watch struct{ by atomic.Int64 } // tick by which it has to be over; 0: nothing to watch

// arm begins a limit for a transfer of n bytes; now and limit are in ticks.
func (w *watch) arm(now, limit int64, n int) { w.by.Store(now + limit + int64(n/slowest) + 1) }

// disarm says that what was watched is over.
func (w *watch) disarm() { w.by.Store(0) }

// late reports whether the limit has passed.
func (w *watch) late(now int64) bool {
	by := w.by.Load()
	return by != 0 && now > by
}
