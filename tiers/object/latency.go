package object

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// What latencies remembers, and how often it looks at it.
const (
	latencySamples = 256 // the most recent
	latencyEnough  = 32  // before which p95 is not known
	latencyEvery   = 16  // samples between computing p95
)

// latencies knows the 95th percentile of recent requests of one size class.
type latencies struct {
	mu      sync.Mutex // taken alone
	samples [latencySamples]time.Duration
	n       int // samples ever added
	p       time.Duration
}

// class returns the size class of a Get of n bytes: to 512 KiB, to 2 MiB, above.
func class(n int) int {
	switch {
	case n <= 512<<10:
		return 0
	case n <= 2<<20:
		return 1
	default:
		return 2
	}
}

// add remembers a request which took d, unless it failed.
func (l *latencies) add(err error, d time.Duration) {
	if err != nil && !errors.Is(err, ErrNotFound) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples[l.n%latencySamples] = d
	l.n++
	if l.n >= latencyEnough && l.n%latencyEvery == 0 {
		sorted := l.samples // a copy, on the stack
		s := sorted[:min(l.n, latencySamples)]
		slices.Sort(s)
		l.p = s[len(s)*95/100]
	}
}

// p95 returns the 95th percentile, and whether it is known yet.
func (l *latencies) p95() (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.p, l.n >= latencyEnough
}
