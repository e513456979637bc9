package fence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

// TestStorms lets two hosts fight over the volume while the store fails, loses answers and delivers
// puts late. What was acknowledged is in the log in the end, and never do both answer.
func TestStorms(t *testing.T) {
	seeds := uint64(24)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		inWorld(t, func(t *testing.T, w *world) { storm(t, w, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// shipment is a Ship that was acknowledged.
type shipment struct {
	first, last uint64
	body        string
}

func storm(t *testing.T, w *world, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	hosts := []*host{w.host("a"), w.host("b")}
	faults := objecttest.Faults{Fail: .15, Lose: .15, Late: .1, Hang: .02, HangLose: .02, LateMin: time.Second,
		LateMax: 3 * time.Minute, LatencyMax: 2 * time.Second}
	turns := make([]*turn, len(hosts))
	var acked []shipment
	for _, h := range hosts {
		h.store.SetFaults(faults)
	}
	for range 40 {
		i := rng.IntN(len(hosts))
		h, o := hosts[i], turns[i]
		switch action := rng.IntN(10); {
		case o == nil:
			turns[i] = stormOpen(w, h, rng)
		case o.Err() != nil || action == 0:
			o.kill()
			turns[i] = nil
		case action == 1:
			h.store.SetOutage(true)
			time.Sleep(time.Duration(rng.IntN(200)) * time.Second)
			h.store.SetOutage(false)
		case action == 2:
			time.Sleep(time.Duration(rng.IntN(100)) * time.Second)
		default:
			s := shipment{first: o.Covered() + 1, body: fmt.Sprint(seed, h.name, rng.IntN(1000))}
			s.last = s.first + uint64(rng.IntN(5))
			if err := o.Ship(t.Context(), s.first, s.last, []byte(s.body)); err == nil {
				acked = append(acked, s)
			}
		}
		if a, b := turns[0], turns[1]; a != nil && b != nil && a.Valid() == nil && b.Valid() == nil {
			t.Fatal("both answer")
		}
	}
	for _, o := range turns {
		if o != nil {
			o.kill()
		}
	}
	w.bucket.Land()
	stormCheck(t, w, acked)
}

func stormOpen(w *world, h *host, rng *rand.Rand) *turn {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Duration(rng.IntN(300))*time.Second)
	defer cancel()
	o, err := h.open(ctx)
	if err != nil {
		if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrRolledBack) || errors.Is(err, ErrFenced) {
			w.t.Fatalf("%s: open: %v", h.name, err)
		}
		return nil
	}
	if err := o.Adopt(); err != nil {
		w.t.Fatal(err)
	}
	return o
}

func stormCheck(t *testing.T, w *world, acked []shipment) {
	o := w.host("judge").mustOpen()
	found := map[uint64]shipment{}
	for _, sh := range o.State().Ships {
		body, err := o.ShipBody(t.Context(), sh)
		if err != nil {
			t.Fatal(err)
		}
		found[sh.First] = shipment{sh.First, sh.Last, string(body)}
	}
	for _, s := range acked {
		if found[s.first] != s {
			t.Fatalf("acknowledged %+v, the log has %+v", s, found[s.first])
		}
	}
	o.release()
}

// TestLostAnswers loses each answer in turn, and delivers each put late: nothing is fenced by itself.
func TestLostAnswers(t *testing.T) {
	for _, fault := range []objecttest.Fault{objecttest.Lose, objecttest.Late, objecttest.Fail, objecttest.HangLose} {
		inWorld(t, func(t *testing.T, w *world) {
			a := w.host("a")
			a.store.SetFaults(objecttest.Faults{LateMin: time.Second, LateMax: 10 * time.Second})
			a.store.SetPlan(func(r objecttest.Request) objecttest.Fault {
				if r.Op == object.OpPut && r.Attempt <= 2 {
					return fault
				}
				return objecttest.Deliver
			})
			o := a.mustOpen()
			o.mustShip(1, "x")
			o.mustShip(2, strings.Repeat("y", recordMax))
			o.mustCommit(Commit{LSN: 1})
			o.release()
			if b := w.host("b").mustOpen(); b.Covered() != 2 || !b.Previous().Released {
				t.Fatalf("covered %d, %+v", b.Covered(), b.Previous())
			}
		})
	}
}

// age makes a log of some hours with a Base and trimmed records, and returns its owner.
func age(w *world, h *host, hours int) *turn {
	o := h.mustOpen()
	for i := range uint64(70) {
		o.mustShip(i+1, "x")
	}
	o.mustCommit(Commit{LSN: 70, Meta: []MetaDelta{{Name: "m", Data: []byte("0123456789")}}, Added: []Table{table("1.sst")}})
	time.Sleep(time.Duration(hours) * time.Hour)
	return o
}

// TestSleepingClaimant wakes a claimant whose slot was trimmed meanwhile: it wins the slot, counts it
// for nothing, and reads on. The stray record that it leaves bothers nobody.
func TestSleepingClaimant(t *testing.T) {
	for _, unordered := range []bool{false, true} {
		inWorld(t, func(t *testing.T, w *world) {
			a, b := w.host("a"), w.host("b")
			b.store.SetUnordered(unordered)
			o := age(w, a, 0)
			first := w.records()
			slot := first[len(first)-1] + 1 // or the next, if the owner appends just then
			var mu sync.Mutex
			var put []string // by the claimant
			b.store.SetAfter(func(r objecttest.Request, err error) error {
				if r.Op == object.OpPut && err == nil {
					mu.Lock()
					put = append(put, r.Key)
					mu.Unlock()
				}
				return err
			})
			naps := 0
			opened := make(chan *turn)
			go func() {
				opened <- b.mustOpen(func(o *Options) {
					o.Takeover = Force
					o.Waiting = func(what string) func() {
						if naps++; naps == 2 { // between the intent and the Claim's first request
							time.Sleep(4 * time.Hour)
						}
						return func() {}
					}
				})
			}()
			time.Sleep(3*time.Hour + time.Minute)
			if _, there := w.bucket.Object(logKey(slot + 1)); there {
				t.Fatalf("%s was not trimmed, the test is of no use", logKey(slot+1))
			}
			if o.Err() != nil {
				t.Fatal(o.Err())
			}
			ob := <-opened
			if ob.Covered() != 70 || ob.Epoch() != 2 || ob.State().Seq <= slot+1 {
				t.Fatalf("covered %d, epoch %d, claim at %d", ob.Covered(), ob.Epoch(), ob.State().Seq)
			}
			mu.Lock()
			reopened := slices.Contains(put, logKey(slot)) || slices.Contains(put, logKey(slot+1))
			mu.Unlock()
			if !reopened {
				t.Fatal("the claimant did not reopen its slot, the test is of no use")
			}
			ob.release()
			if oc := w.host("c").mustOpen(); oc.Covered() != 70 || oc.Epoch() != 3 {
				t.Fatalf("covered %d, epoch %d", oc.Covered(), oc.Epoch())
			}
		})
	}
}

// TestHint gives the reader every wrong hint.
func TestHint(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := age(w, a, 5)
		o.release()
		recs := w.records()
		head := recs[len(recs)-1]
		var hints [][]byte
		for _, q := range []Seq{0, 1, recs[0], recs[len(recs)/2], head - 1, head, head + 1, head + 1000, 1 << 63, ^Seq(0)} {
			hints = append(hints, encodeHint(q))
		}
		hints = append(hints, nil, []byte("garbage"), []byte(strings.Repeat("x", 100)))
		for _, hint := range hints {
			w.bucket.Set(hintKey, hint)
			o := w.host("b").mustOpen()
			if !o.Previous().Released || o.Covered() != 70 || len(o.State().Tables) != 1 {
				t.Fatalf("hint %x: %+v, covered %d", hint, o.Previous(), o.Covered())
			}
			o.release()
		}
		w.bucket.Remove(hintKey)
		if o := w.host("b").mustOpen(); o.Covered() != 70 {
			t.Fatal(o.Covered())
		}
	})
}

// TestTrim deletes what a Base made needless and is old, and nothing that a reader needs.
func TestTrim(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := age(w, a, 0)
		o.mustShip(75, "needed")
		needed := o.log.seq
		for i := range uint64(100) {
			o.mustShip(76+i, "needed too")
		}
		time.Sleep(6 * time.Hour)
		recs := w.records()
		if recs[0] < 40 || recs[0] > needed {
			t.Fatalf("the log begins at %d, the first ship needed is %d", recs[0], needed)
		}
		b := w.host("b")
		o.release()
		ob := b.mustOpen()
		ships := ob.State().Ships
		if len(ships) != 101 || ships[0].Seq != needed {
			t.Fatalf("%d ships, the first at %d", len(ships), ships[0].Seq)
		}
		b.store.ResetCounts()
		for i, sh := range ships {
			body, err := ob.ShipBody(t.Context(), sh)
			if err != nil || string(body) != map[bool]string{true: "needed", false: "needed too"}[i == 0] {
				t.Fatalf("ship %d: %q, %v", i, body, err)
			}
		}
		if n := b.store.Counts().Get; n != len(ships) {
			t.Fatalf("%d GETs for %d ships", n, len(ships))
		}
		ob.mustCommit(Commit{LSN: 175})
		for i := range uint64(100) {
			ob.mustShip(176+i, "x")
		}
		time.Sleep(6 * time.Hour)
		if recs := w.records(); recs[0] <= needed {
			t.Fatalf("the log still begins at %d", recs[0])
		}
	})
}

// TestStartTime opens a log of hundreds of records at 15 ms for each request.
func TestStartTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.host("a"), w.host("b")
		o := a.mustOpen()
		big := strings.Repeat("m", 20_000)
		off := int64(0)
		for i := range uint64(400) {
			o.mustShip(i+1, "x")
			o.mustCommit(Commit{LSN: i + 1, Meta: []MetaDelta{{Name: "MANIFEST", Offset: off, Data: []byte(big)}}})
			off += int64(len(big))
		}
		o.release()
		b.store.SetFaults(objecttest.Faults{LatencyMin: 15 * time.Millisecond, LatencyMax: 15 * time.Millisecond})
		began := time.Now()
		ob := b.mustOpen()
		if took := time.Since(began); took > time.Second {
			t.Fatalf("took %v: %+v", took, b.store.Counts())
		} else {
			t.Logf("%v: %+v", took, b.store.Counts())
		}
		if n := int64(len(ob.State().Meta["MANIFEST"])); n != off {
			t.Fatalf("%d bytes of %d", n, off)
		}
	})
}

// TestDamage changes a byte of each object of a log: who needs it fails and names it, who does not
// goes on.
func TestDamage(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		for i := range uint64(40) {
			o.mustShip(i+1, "x")
		}
		o.mustCommit(Commit{LSN: 20, Meta: []MetaDelta{{Name: "m", Data: []byte(strings.Repeat("m", 3<<20))}}})
		time.Sleep(testLease)
		o.mustShip(41, strings.Repeat("y", recordMax))
		o.mustCommit(Commit{LSN: 20, Meta: []MetaDelta{{Name: "n", Data: []byte(strings.Repeat("n", 1<<18))}}})
		o.release()
		named := 0
		for _, key := range w.bucket.Keys() {
			data, _ := w.bucket.Object(key)
			for _, off := range []int{0, 5, len(data) / 2, len(data) - 1} {
				w.bucket.Flip(key, off, 4)
				err := openAndRead(w)
				if err != nil && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), key)) {
					t.Fatalf("%s byte %d: %v", key, off, err)
				}
				if err != nil {
					named++
				}
				w.bucket.Flip(key, off, 4)
			}
		}
		if named < 50 {
			t.Fatalf("only %d errors", named)
		}
	})
}

// openAndRead reads all that a new host would, without claiming.
func openAndRead(w *world) error {
	key, volume := testKey()
	s, err := newLogStore(w.bucket.Connect(1), key, volume, testLease)
	if err != nil {
		return err
	}
	v, err := s.read(w.t.Context(), 0)
	if err != nil {
		return err
	}
	for _, sh := range v.state.ships {
		if _, err := s.shipBody(w.t.Context(), sh); err != nil {
			return err
		}
	}
	return nil
}

// TestDeletable follows objects from being dropped to being deleted.
func TestDeletable(t *testing.T) {
	const grace = 5 * time.Minute
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		o.mustShip(1, strings.Repeat("y", recordMax))
		o.mustCommit(Commit{LSN: 0, Added: []Table{table("1.sst"), table("2.sst")}})
		o.mustCommit(Commit{LSN: 1, Added: []Table{table("3.sst")}, Dropped: []string{"1.sst"}})
		o.Discard([]string{"files/0000000000000001-x.sst", "files/0000000000000001-3.sst"})
		time.Sleep(grace - time.Second)
		if d := o.Deletable(grace); len(d) != 0 {
			t.Fatalf("before the grace is over: %q", d)
		}
		time.Sleep(time.Second)
		d := o.Deletable(grace)
		slices.SortFunc(d, func(a, b string) int { return len(a) - len(b) }) // the ship's name is random
		if len(d) != 3 || d[0] != "files/0000000000000001-x.sst" && d[1] != "files/0000000000000001-x.sst" || !strings.HasSuffix(d[2], ".ship") {
			t.Fatalf("%q", d)
		}
		o.Deleted(d[2:])
		for i := range uint64(70) {
			o.mustShip(2+i, "x") // a Base
		}
		time.Sleep(testLease)
		o.mu.Lock()
		base := o.log.base
		o.mu.Unlock()
		if base == 0 {
			t.Fatal("no base was made")
		}
		o.kill()
		b := w.host("b").mustOpen()
		if got := b.Deletable(grace); len(got) != 0 {
			t.Fatalf("inherited without a grace: %q", got)
		}
		time.Sleep(grace)
		if got := b.Deletable(grace); len(got) != 2 || slices.Contains(got, d[2]) {
			t.Fatalf("inherited %q", got)
		}
		b.release()
		if got := b.Deletable(0); got != nil {
			t.Fatalf("after the end: %q", got)
		}
	})
}
