package fence

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

// TestWaitsForLease lets a second host wait for the lease of one that died, and not a moment less.
func TestWaitsForLease(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.host("a"), w.host("b")
		o := a.mustOpen()
		o.mustShip(3, "x")
		o.kill()
		began := time.Now()
		var waits []string
		ob := b.mustOpen(func(o *Options) {
			o.Waiting = func(what string) func() { waits = append(waits, what); return func() {} }
		})
		if took := time.Since(began); took < testLease+testLease/10 || took > testLease+testLease/4 {
			t.Fatalf("claimed after %v", took)
		}
		if ob.LocalWins() || ob.Previous() != (Previous{Epoch: 1, Owner: "a", Durability: Local}) || len(waits) != 3 {
			t.Fatalf("wins %v, %+v, waits %q", ob.LocalWins(), ob.Previous(), waits)
		}
		// The first host comes back: it lost, and waits in its turn.
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := a.open(ctx)
		w.wantErr(err, context.DeadlineExceeded)
		ob.mustShip(4, "y")
		ob.release()
		oa := a.mustOpen()
		if oa.LocalWins() || oa.Covered() != 4 {
			t.Fatalf("wins %v, covered %d", oa.LocalWins(), oa.Covered())
		}
	})
}

// TestWaitIsToldOnce: an owner that lives renews, and each time the watch starts anew; what is told
// is one wait, which goes on.
func TestWaitIsToldOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.host("a").mustOpen()
		begun, ended := map[string]int{}, map[string]int{}
		ctx, cancel := context.WithTimeout(t.Context(), 5*testLease)
		defer cancel()
		_, err := w.host("b").open(ctx, func(o *Options) {
			o.Waiting = func(what string) func() {
				begun[what]++
				return func() { ended[what]++ }
			}
		})
		w.wantErr(err, context.DeadlineExceeded)
		const lease = `the lease of owner "a" (epoch 1) to end`
		if begun[lease] != 1 || len(begun) != 2 || !maps.Equal(begun, ended) {
			t.Fatalf("begun %v, ended %v", begun, ended)
		}
	})
}

// TestSameIdentity reclaims at once; after a reboot it waits, and wins all the same.
func TestSameIdentity(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *host)
		waits  bool
	}{
		{"restart", func(*host) {}, false},
		{"reboot", (*host).reboot, true},
		{"network file system", func(h *host) { h.id.Local = false }, true},
		{"other lock file", func(h *host) { h.id.Ino++ }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				a := w.host("a")
				o := a.mustOpen()
				o.mustShip(3, "x")
				time.Sleep(3 * testLease) // renewals
				o.kill()
				c.change(a)
				began := time.Now()
				o = a.mustOpen()
				if took := time.Since(began); took > testLease != c.waits {
					t.Fatalf("took %v", took)
				}
				if !o.LocalWins() || !o.Previous().Ours || o.Previous().Released {
					t.Fatalf("wins %v, %+v", o.LocalWins(), o.Previous())
				}
			})
		})
	}
}

// TestTakeoverModes has Never refuse, and Force not wait.
func TestTakeoverModes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.host("a"), w.host("b")
		oa := a.mustOpen()
		_, err := b.open(t.Context(), func(o *Options) { o.Takeover = Never })
		w.wantErr(err, ErrOwned)
		began := time.Now()
		ob := b.mustOpen(func(o *Options) { o.Takeover = Force })
		if time.Since(began) > time.Second {
			t.Fatalf("force took %v", time.Since(began))
		}
		if oa.Valid() != nil {
			t.Fatal("the old owner answers until its next append")
		}
		w.wantErr(oa.Ship(t.Context(), 1, 1, nil), ErrFenced)
		w.wantErr(oa.Valid(), ErrFenced)
		w.wantErr(oa.Wait(t.Context()), ErrFenced)
		<-oa.Done()
		w.wantErr(oa.Err(), ErrFenced)
		w.wantErr(oa.Release(t.Context()), ErrFenced)
		oa.Close()
		w.wantErr(oa.Err(), ErrFenced)
		ob.release()
		began = time.Now()
		w.host("c").mustOpen(func(o *Options) { o.Takeover = Never })
		if time.Since(began) > time.Second {
			t.Fatal("waited after a release")
		}
	})
}

// TestPaused stops a process past its lease, its clock going on, and continues it after another took
// over: it acknowledges nothing more.
func TestPaused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.host("a"), w.host("b")
		oa := a.mustOpen()
		oa.mustShip(1, "x")
		a.store.SetOutage(true) // a process that stands still asks for nothing
		ob := b.mustOpen()
		w.wantErr(oa.Valid(), ErrLapsed)
		ob.mustShip(2, "y")
		a.store.SetOutage(false)
		w.wantErr(oa.Wait(t.Context()), ErrFenced)
		if err := oa.Ship(t.Context(), 2, 2, nil); !errors.Is(err, ErrFenced) {
			t.Fatal(err)
		}
		if ob.Valid() != nil || ob.Covered() != 2 {
			t.Fatal(ob.Valid(), ob.Covered())
		}
	})
}

// TestClone has a copied directory wait its turn, and lose when the other has written since.
func TestClone(t *testing.T) {
	for _, writes := range []bool{false, true} {
		inWorld(t, func(t *testing.T, w *world) {
			a := w.host("a")
			oa := a.mustOpen()
			oa.mustShip(1, "x")
			b := a.clone("b")
			b.id = a.id
			b.id.Ino++
			if writes {
				oa.mustShip(2, "y")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*testLease)
			defer cancel()
			_, err := b.open(ctx)
			w.wantErr(err, context.DeadlineExceeded)
			oa.kill()
			ob := b.mustOpen()
			if ob.LocalWins() == writes {
				t.Fatalf("writes %v, clone wins %v", writes, ob.LocalWins())
			}
			ob.kill()
			// The original has lost in either case: the clone claimed.
			if oa = a.mustOpen(); oa.LocalWins() {
				t.Fatal("the original wins against its clone")
			}
		})
	}
}

// TestRolledBack restores the store to what it was: the directory that saw more refuses it.
func TestRolledBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		o.mustShip(1, "x")
		old := w.bucket.Clone()
		o.mustShip(2, "y")
		o.mustShip(3, "z")
		o.kill()
		w.bucket.Restore(old)
		_, err := a.open(t.Context())
		w.wantErr(err, ErrRolledBack)
		for _, k := range w.bucket.Keys() {
			w.bucket.Remove(k)
		}
		_, err = a.open(t.Context())
		w.wantErr(err, ErrRolledBack)
	})
}

// TestGap takes one record out of the log.
func TestGap(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		for lsn := uint64(1); lsn < 6; lsn++ {
			o.mustShip(lsn, "x")
		}
		o.kill()
		w.bucket.Remove(logKey(3))
		_, err := w.host("b").open(t.Context())
		w.wantErr(err, ErrRolledBack)
		if _, err := a.open(t.Context()); !errors.Is(err, ErrRolledBack) {
			t.Fatal(err)
		}
	})
}

// TestContinueOnLoss goes on without a lease until it is known to be fenced.
func TestContinueOnLoss(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.host("a"), w.host("b")
		o := a.mustOpen(func(o *Options) { o.ContinueOnLoss = true })
		a.store.SetOutage(true)
		time.Sleep(10 * testLease)
		if o.Valid() != nil || o.Wait(t.Context()) != nil {
			t.Fatal(o.Valid())
		}
		b.mustOpen()
		a.store.SetOutage(false)
		<-o.Done()
		w.wantErr(o.Valid(), ErrFenced)
	})
}

// TestReleaseUnanswered gives up a Release that the store does not answer; nothing is appended after it.
func TestReleaseUnanswered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		a.store.SetOutage(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		released := make(chan error)
		go func() { released <- o.Release(ctx) }()
		synctest.Wait()
		w.wantErr(o.Valid(), ErrClosed)
		w.wantErr(<-released, context.DeadlineExceeded)
		w.wantErr(o.Err(), ErrClosed)
		a.store.SetOutage(false)
		n := len(w.records())
		time.Sleep(10 * testLease)
		if len(w.records()) != n {
			t.Fatal("appended after the release was given up")
		}
		o.lineage.Close()
		if o = a.mustOpen(); !o.LocalWins() {
			t.Fatal("lost its own directory")
		}
	})
}

// TestCancelledWait ends an Open that waits.
func TestCancelledWait(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.host("a").mustOpen()
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("told to stop")
		time.AfterFunc(30*time.Second, func() { cancel(stop) })
		_, err := w.host("b").open(ctx)
		w.wantErr(err, stop)
	})
}

// TestClaimsThatNeverLand starts over and over while the store takes no puts, and while it takes them
// and the process dies before it adopts: the lineage file has room, and the directory still wins.
func TestClaimsThatNeverLand(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		o.mustShip(1, "x")
		o.kill()
		try := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if o, err := a.open(ctx); err == nil {
				o.kill()
			}
		}
		a.store.SetPlan(func(r objecttest.Request) objecttest.Fault {
			if r.Op == object.OpPut {
				return objecttest.Late
			}
			return objecttest.Deliver
		})
		for range 3 * pendingMax {
			try()
		}
		w.bucket.Land()
		a.store.SetPlan(nil)
		for range 3 * pendingMax {
			try()
		}
		o = a.mustOpen()
		if !o.LocalWins() || o.Covered() != 1 || o.Epoch() < 3*pendingMax {
			t.Fatalf("wins %v, covered %d, epoch %d", o.LocalWins(), o.Covered(), o.Epoch())
		}
	})
}
