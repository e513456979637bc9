package volume

import (
	"context"
	"errors"
	"sync"
	"time"

	"zerofs/journal"
)

// Bytes of journal payload in one Ship: as many as one log record holds where somebody waits for
// it, more where nobody does.
const (
	shipBytesNow  = 192 << 10
	shipBytesCalm = 8 << 20
)

// How long a Ship waits for those who were answered by the one before: a share of the time that one took.
const (
	gatherShare = 8
	gatherMax   = 10 * time.Millisecond
)

// errNeedCommit reports that the journal no longer holds what a Ship would begin with.
var errNeedCommit = errors.New("volume: a Commit is needed before the next Ship")

// shipper puts journal batches into the fenced log. With durability object every fsync waits for
// it; batches that come while a Ship is under way travel together in the next one.
type shipper struct {
	v    *Volume
	turn chan struct{} // holds one token: one Ship at a time
	kick chan struct{} // wakes run; holds at most one

	mu    sync.Mutex
	want  journal.LSN   // guarded by mu: the highest LSN that somebody waits for
	moved chan struct{} // guarded by mu: closed and replaced when the log covers more
}

func (s *shipper) init(v *Volume) {
	s.v = v
	s.turn = make(chan struct{}, 1)
	s.turn <- struct{}{}
	s.kick = make(chan struct{}, 1)
	s.moved = make(chan struct{})
}

func (s *shipper) covered() journal.LSN { return journal.LSN(s.v.owner.Covered()) }

// wait returns when the log covers lsn.
func (s *shipper) wait(ctx context.Context, lsn journal.LSN) error {
	for {
		s.mu.Lock()
		moved := s.moved
		s.want = max(s.want, lsn)
		s.mu.Unlock()
		if s.covered() >= lsn {
			return nil
		}
		poke(s.kick)
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.v.failed:
			return s.v.failure
		case <-s.v.ctx.Done():
			return context.Cause(s.v.ctx)
		}
	}
}

// advanced wakes who waits, after the log came to cover more.
func (s *shipper) advanced() {
	s.mu.Lock()
	close(s.moved)
	s.moved = make(chan struct{})
	s.mu.Unlock()
}

// run ships for those who wait, until ctx ends.
func (s *shipper) run(ctx context.Context) {
	for {
		select {
		case <-s.kick:
		case <-ctx.Done():
			return
		}
		for took := time.Duration(0); ; {
			s.mu.Lock()
			want := s.want
			s.mu.Unlock()
			if s.covered() >= want || !gather(ctx, took) {
				break
			}
			begun := s.v.opts.Boottime()
			err := s.ship(ctx, want, shipBytesNow)
			took = s.v.opts.Boottime() - begun
			if errors.Is(err, errNeedCommit) {
				err = s.v.loops.commitNow(ctx)
			}
			if err != nil {
				s.v.loops.note(err)
				if s.v.loops.pause(ctx) != nil {
					return
				}
			}
		}
	}
}

// gather waits a little after a Ship that took some time, if others wait for the next already: those
// who were just answered come again at once. Without it they would fall into two halves that wait
// for each other's Ships, twice as many and each answer twice as late. It reports false when ctx ended.
func gather(ctx context.Context, took time.Duration) bool {
	if took <= 0 {
		return true
	}
	t := time.NewTimer(min(took/gatherShare, gatherMax))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ship appends Ships until the log covers upTo. Only durable batches are shipped, so upTo is
// durable in the journal already.
func (s *shipper) ship(ctx context.Context, upTo journal.LSN, size int) error {
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		from := s.covered() + 1
		if from > upTo {
			return nil
		}
		body, last, err := s.v.journal.Batches(ctx, from, size)
		if errors.Is(err, journal.ErrGone) {
			return errNeedCommit
		}
		if err != nil {
			return err
		}
		if err := s.v.owner.Ship(ctx, uint64(from), uint64(last), body); err != nil {
			if s.covered() >= from {
				continue // a Commit covered it meanwhile
			}
			return err
		}
		s.advanced()
	}
}

// poke wakes a goroutine that receives from ch, now or when it next looks.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
