package journal

import (
	"fmt"
	"time"
)

const (
	// eagerBytes is how much is queued before it is written though nobody waits for it.
	eagerBytes = 256 << 10
	// lazyDelay is how long less than that stays queued.
	lazyDelay = 25 * time.Millisecond
)

// Append queues a record, whose payload it copies, and returns its LSN. Calls are in LSN order;
// it never waits for the disk. reserved is what Reserve was called with, and the reservation is
// used up unless an error is returned (ErrTooLarge if payload is larger, ErrFailed, ErrClosed).
func (j *Journal) Append(payload []byte, reserved int) (LSN, error) {
	if len(payload) > reserved {
		return 0, fmt.Errorf("%w: append %d bytes, reserved %d", ErrTooLarge, len(payload), reserved)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usableLocked(); err != nil {
		return 0, err
	}
	cost := runCost(len(payload))
	if was := runCost(reserved); was != cost {
		j.space.sub(was)
		j.space.add(cost)
		j.space.outstanding -= was - cost
		j.grantLocked()
	}
	r := j.openRunLocked(cost, lenSize+len(payload))
	r.raw = appendRecord(r.raw, payload)
	r.cost += cost
	j.last++
	r.last = j.last
	switch {
	case j.urgentLocked():
		j.wakeLocked()
	case !j.armed:
		j.armed = true
		j.lazy.Reset(lazyDelay)
	}
	return j.last, nil
}

// openRunLocked returns the run that takes a record of the given cost on disk and of n raw bytes.
func (j *Journal) openRunLocked(cost int64, n int) *run {
	if k := len(j.queue); k > 0 {
		r := j.queue[k-1]
		if r.cost+cost <= j.space.runMax {
			r.raw = j.spare.grow(r.raw, n)
			return r
		}
	}
	r := j.spare.get()
	r.first = j.last + 1
	r.raw = j.spare.grow(nil, n)
	j.queue = append(j.queue, r)
	return r
}

// urgentLocked reports whether the queue's first run should be written as soon as possible.
func (j *Journal) urgentLocked() bool {
	if len(j.queue) == 0 {
		return false
	}
	r := j.queue[0]
	return len(j.queue) > 1 || r.wanted || j.flush || len(r.raw) >= min(eagerBytes, int(j.space.runMax/2))
}

// wakeLocked wakes a writer if there is something for it to do.
func (j *Journal) wakeLocked() {
	if j.mayTakeLocked() && j.urgentLocked() {
		kick(j.writerWake)
	}
}

// flushQueueLocked has everything written that is queued now.
func (j *Journal) flushQueueLocked() {
	if len(j.queue) > 0 {
		j.queue[len(j.queue)-1].wanted = true
		j.wakeLocked()
	}
}

// flushLazily is called lazyDelay after something was queued for which nobody waited.
func (j *Journal) flushLazily() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.armed = false
	j.flushQueueLocked()
}
