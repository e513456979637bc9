package object_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

// hedged returns a hedging store that has seen n Gets of a millisecond, over a connection whose
// next Gets are delayed by what slow says.
func hedged(t *testing.T, n int, slow func(objecttest.Request) time.Duration) (*object.Hedging, *objecttest.Faulty) {
	f := objecttest.NewFaulty(1, time.Now)
	f.Bucket().Set("k", objecttest.Pattern(1, 4096))
	f.SetFaults(objecttest.Faults{LatencyMin: time.Millisecond, LatencyMax: time.Millisecond})
	h := object.Hedge(f, object.HedgeOptions{Now: time.Now})
	for range n {
		get(t, h)
	}
	f.ResetCounts()
	f.SetBefore(func(ctx context.Context, r objecttest.Request) error {
		if r.Op != object.OpGet || slow == nil {
			return nil
		}
		r.N -= n
		if !object.Pause(ctx, slow(r)) {
			return &object.Error{Op: r.Op, Key: r.Key, Kind: object.Transient, Err: ctx.Err()}
		}
		return nil
	})
	return h, f
}

// get reads the whole object and returns how long that took.
func get(t *testing.T, s object.Store) time.Duration {
	t.Helper()
	begin := time.Now()
	buf := make([]byte, 4096)
	n, info, err := s.Get(t.Context(), "k", 0, buf)
	if err != nil || info.Size != 4096 || !bytes.Equal(buf[:n], objecttest.Pattern(1, 4096)) {
		t.Errorf("%d bytes, %+v, %v", n, info, err)
	}
	return time.Since(begin)
}

func TestHedgeConforms(t *testing.T) {
	objecttest.Conformance(t, func(t *testing.T) object.Store {
		return object.Hedge(object.NewMemory(time.Now), object.HedgeOptions{Now: time.Now})
	}, objecttest.Quirks{})
}

func TestHedgeTakesTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := hedged(t, 100, func(r objecttest.Request) time.Duration {
			if r.N == 1 {
				return time.Minute
			}
			return 0
		})
		if d := get(t, h); d != 6*time.Millisecond { // waits at least 5, and the second takes one
			t.Errorf("took %v", d)
		}
		if c := object.CountsOf(h); f.Counts().Get != 2 || c.Hedged != 1 || c.HedgedWon != 1 {
			t.Errorf("%+v, %+v", f.Counts(), c)
		}
	})
}

func TestHedgeFirstMayStillWin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := hedged(t, 100, func(r objecttest.Request) time.Duration {
			if r.N == 1 {
				return 20 * time.Millisecond
			}
			return time.Minute
		})
		if d := get(t, h); d != 21*time.Millisecond {
			t.Errorf("took %v", d)
		}
		if c := object.CountsOf(h); f.Counts().Get != 2 || c.Hedged != 1 || c.HedgedWon != 0 {
			t.Errorf("%+v, %+v", f.Counts(), c)
		}
	})
}

func TestHedgeSecondSavesAFailedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := hedged(t, 100, func(objecttest.Request) time.Duration { return 10 * time.Millisecond })
		f.SetPlan(func(r objecttest.Request) objecttest.Fault {
			if r.N == 101 {
				return objecttest.Fail
			}
			return objecttest.Deliver
		})
		get(t, h)
		if c := object.CountsOf(h); c.HedgedWon != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestHedgeNeedsSamplesAndBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(objecttest.Request) time.Duration { return time.Second }
		h, f := hedged(t, 10, slow)
		get(t, h)
		if n := f.Counts().Get; n != 1 {
			t.Errorf("without samples: %d requests for one Get", n)
		}
		h, f = hedged(t, 100, slow)
		const gets = 400
		for range gets {
			get(t, h)
		}
		// Five saved by the first hundred, and one in twenty.
		if extra := f.Counts().Get - gets; extra < 5 || extra > 5+gets/20 {
			t.Errorf("%d of %d asked twice", extra, gets)
		}
	})
}

func TestHedgeErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := hedged(t, 100, func(objecttest.Request) time.Duration { return 10 * time.Millisecond })
		if _, _, err := h.Get(t.Context(), "none", 0, make([]byte, 1)); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("%v", err)
		}
		f.SetOutage(true)
		if _, _, err := h.Get(t.Context(), "k", 0, make([]byte, 1)); !errors.Is(err, objecttest.ErrOutage) {
			t.Errorf("%v", err)
		}
		f.SetOutage(false)
		f.SetPlan(func(objecttest.Request) objecttest.Fault { return objecttest.Hang })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := h.Get(ctx, "k", 0, make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// TestHedgeConcurrent lets many Gets hedge at once; the race detector watches the buffers.
func TestHedgeConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := hedged(t, 200, func(r objecttest.Request) time.Duration {
			return time.Duration(r.N*7919%13) * time.Millisecond
		})
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 50 {
					get(t, h)
				}
			})
		}
		wg.Wait()
		if c := object.CountsOf(h); c.Hedged == 0 || int64(f.Counts().Get) != 16*50+c.Hedged {
			t.Errorf("%+v, %+v", f.Counts(), c)
		}
	})
}
