package journal

import (
	"context"
	"fmt"
	"math/bits"

	"zerofs/tiers/disk"
)

const (
	// runMost bounds the bytes on disk of a run of several records. (One record may be larger.)
	runMost = 1 << 20
	// queueMost bounds the bytes that wait in memory for the disk, reservations included.
	queueMost = 32 << 20
	// classes is how many size classes costs have: powers of two of blocks, up to a segment.
	classes = 16
)

// space is the account of the ring's bytes. All costs are bytes on disk at most, multiples of
// disk.Align.
//
// Runs fill one segment after the other and do not span two, so that the end of each segment but
// the last is wasted: by less than the largest run to come. A reservation is granted if everything
// pending fits in what is ready even so.
type space struct {
	runMax      int64          // of a run with several records
	pending     int64          // reserved or queued, and not placed in a segment
	outstanding int64          // reserved, queued or being written: what is in memory
	written     int64          // placed in this turn
	big         [classes]int32 // pending records that cost more than runMax, by class
	waiters     []*waiter      // in order of arrival
	ringFull    bool           // the first waiter waits for ready bytes, not for memory
}

// waiter is a Reserve that waits.
type waiter struct {
	cost int64
	done chan struct{} // closed when granted or refused
	err  error         // guarded by Journal.mu; set before done is closed
}

func (s *space) init(segSize int64) {
	capacity := segSize - firstRun
	s.runMax = min(runMost, capacity/4&^(disk.Align-1))
}

// starved reports whether someone waits for ready bytes.
func (s *space) starved() bool { return len(s.waiters) > 0 && s.ringFull }

// costClass returns the least c such that a cost is at most disk.Align<<c; below classes.
func costClass(cost int64) int { return bits.Len64(uint64(cost/disk.Align - 1)) }

func (s *space) add(cost int64) {
	s.pending += cost
	if cost > s.runMax {
		s.big[costClass(cost)]++
	}
}

func (s *space) sub(cost int64) {
	s.pending -= cost
	if cost > s.runMax {
		s.big[costClass(cost)]--
	}
}

// largest bounds the cost of the runs to come, those of a new record among them.
func (s *space) largest(cost int64) int64 {
	most := max(s.runMax, cost)
	for c := len(s.big) - 1; c > 0; c-- {
		if s.big[c] > 0 {
			return max(most, disk.Align<<c)
		}
	}
	return most
}

// fitsLocked reports whether a record of the given cost can be granted now.
func (j *Journal) fitsLocked(cost int64) bool {
	s := &j.space
	s.ringFull = false
	if s.outstanding > 0 && s.outstanding+cost > queueMost {
		return false
	}
	waste := s.largest(cost) - disk.Align
	room := int64(0)
	last := j.cur
	for _, next := range j.prepared {
		room += max(0, last.ready-last.off-waste)
		last = next
	}
	room += last.ready - last.off
	s.ringFull = s.pending+cost > room
	return !s.ringFull
}

// Reserve waits until a record of n bytes fits the ring and sets that space aside for one Append.
// It is called before any lock is taken. Calls are served in order of arrival. It waits for
// Release, for zero-filling, for the disk to have space, and for what is queued in memory to be
// written; an error is ErrTooLarge, ErrFailed, ErrClosed or the context's.
func (j *Journal) Reserve(ctx context.Context, n int) error {
	if n < 0 || n > j.MaxRecord() {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, j.MaxRecord())
	}
	cost := runCost(n)
	j.mu.Lock()
	if err := j.usableLocked(); err != nil {
		j.mu.Unlock()
		return err
	}
	if len(j.space.waiters) == 0 && j.fitsLocked(cost) {
		j.space.add(cost)
		j.space.outstanding += cost
		j.prepareSoonLocked()
		j.mu.Unlock()
		return nil
	}
	w := &waiter{cost: cost, done: make(chan struct{})}
	j.space.waiters = append(j.space.waiters, w)
	kick(j.prepareWake)
	j.flushQueueLocked()
	j.mu.Unlock()

	select {
	case <-w.done:
	case <-ctx.Done():
		return j.abandon(ctx, w)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return w.err
}

// abandon takes a waiter back whose context ended.
func (j *Journal) abandon(ctx context.Context, w *waiter) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case <-w.done:
		return w.err // granted, or refused, meanwhile
	default:
	}
	for i, other := range j.space.waiters {
		if other == w {
			j.space.waiters = append(j.space.waiters[:i], j.space.waiters[i+1:]...)
			break
		}
	}
	j.grantLocked()
	return fmt.Errorf("journal: reserve: %w", context.Cause(ctx))
}

// grantLocked serves waiters as far as there is space.
func (j *Journal) grantLocked() {
	s := &j.space
	for len(s.waiters) > 0 && j.fitsLocked(s.waiters[0].cost) {
		w := s.waiters[0]
		s.waiters = s.waiters[1:]
		s.add(w.cost)
		s.outstanding += w.cost
		close(w.done)
	}
	j.prepareSoonLocked()
}

// prepareSoonLocked wakes the preparer if the writer may run out of ready bytes.
func (j *Journal) prepareSoonLocked() {
	if j.wantReadyLocked() {
		kick(j.prepareWake)
	}
}

// refuseLocked ends all waiting with err.
func (j *Journal) refuseLocked(err error) {
	for _, w := range j.space.waiters {
		w.err = err
		close(w.done)
	}
	j.space.waiters = nil
}

// Unreserve gives back a reservation that will not be used.
func (j *Journal) Unreserve(n int) {
	cost := runCost(n)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.space.sub(cost)
	j.space.outstanding -= cost
	j.grantLocked()
}
