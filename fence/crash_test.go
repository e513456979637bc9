package fence

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

// work does a little of everything and returns the last LSN that was acknowledged in the log, and
// whether Adopt was.
func work(ctx context.Context, h *host) (acked uint64, adopted bool) {
	o, err := h.open(ctx)
	if err != nil {
		return 0, false
	}
	defer o.kill()
	defer context.AfterFunc(ctx, func() { o.Close() })()
	if o.Adopt() != nil {
		return 0, false
	}
	for i := range uint64(3) {
		first := o.Covered() + 1
		if o.Ship(ctx, first, first+i, []byte(strings.Repeat("s", int(1+i*200_000)))) != nil {
			return acked, true
		}
		acked = first + i
		if o.Commit(ctx, Commit{LSN: acked - 1, Added: []Table{table(fmt.Sprint(i))}}) != nil {
			return acked, true
		}
	}
	_ = o.Release(ctx) // its error is the crash
	return acked, true
}

// TestPowerCuts cuts the power at every operation on the disk: the directory wins afterwards, since
// nobody else wrote, and the log holds what it acknowledged.
func TestPowerCuts(t *testing.T) {
	for k, done := int64(1), false; !done; k++ {
		inWorld(t, func(t *testing.T, w *world) {
			h := w.host("a")
			h.disk.SetOnOp(disktest.CrashAt(k))
			acked, adopted := work(t.Context(), h)
			done = !h.disk.Crashed()
			for seed := range uint64(3) {
				next := *w
				next.bucket = w.bucket.Clone()
				after := next.host("after")
				after.disk, after.id = h.disk.CrashClone(seed, 50), h.id
				after.reboot()
				o := after.mustOpen()
				if o.Covered() < acked || adopted && !o.LocalWins() {
					t.Fatalf("cut at %d, seed %d: covered %d, acknowledged %d; wins %v", k, seed, o.Covered(), acked, o.LocalWins())
				}
				o.kill()
			}
		})
	}
}

// TestKills kills the process at every request to the store, its put arriving before the next start,
// during it, or never.
func TestKills(t *testing.T) {
	for k, done := 1, false; !done; k++ {
		for _, late := range []string{"never", "before", "during"} {
			inWorld(t, func(t *testing.T, w *world) {
				h := w.host("a")
				killed := false
				h.store.SetPlan(func(r objecttest.Request) objecttest.Fault {
					if killed {
						return objecttest.Fail
					}
					if killed = r.N == k; killed {
						time.AfterFunc(time.Millisecond, h.store.Kill)
						return objecttest.Late
					}
					return objecttest.Deliver
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				acked, adopted := work(ctx, h)
				done = !killed
				h.store = w.bucket.Connect(99)
				switch late {
				case "before":
					w.bucket.Land()
				case "never":
					w.bucket.Forget()
				case "during":
					h.store.SetAfter(func(r objecttest.Request, err error) error {
						if r.Op == object.OpGet { // the head was listed, the claim is to come
							w.bucket.Land()
						}
						return err
					})
				}
				began := time.Now()
				o := h.mustOpen()
				if o.Covered() < acked || adopted && !o.LocalWins() || time.Since(began) > time.Second {
					t.Fatalf("killed at %d, put arrives %s: covered %d, acknowledged %d; wins %v after %v",
						k, late, o.Covered(), acked, o.LocalWins(), time.Since(began))
				}
				o.kill()
			})
		}
	}
}

// TestReplayEquals compares what a reader makes of a log with what its owner had in memory.
func TestReplayEquals(t *testing.T) {
	for seed := range uint64(8) {
		inWorld(t, func(t *testing.T, w *world) {
			rng := rand.New(rand.NewPCG(seed, 7))
			o := w.host("a").mustOpen()
			for i := range 300 {
				randomAppend(t, o, rng, i)
			}
			time.Sleep(time.Duration(1+rng.IntN(200)) * time.Minute)
			synctest.Wait() // a Base may be due at this very moment
			o.mu.Lock()
			want, trash := o.log.snapshot(), slices.Sorted(maps.Keys(o.log.trash))
			base := o.log.base
			o.mu.Unlock()
			if base == 0 {
				t.Fatal("no base was made")
			}
			o.kill()
			v, err := w.host("b").reader(t).read(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.state.snapshot(); describe(got) != describe(want) || !maps.Equal(got.bodies, want.bodies) {
				t.Fatalf("seed %d: read\n%s %v\nwant\n%s %v", seed, describe(got), got.bodies, describe(want), want.bodies)
			}
			if got := slices.Sorted(maps.Keys(v.state.trash)); !slices.Equal(got, trash) {
				t.Fatalf("seed %d: to delete\n%q\nwant\n%q", seed, got, trash)
			}
		})
	}
}

func (h *host) reader(t *testing.T) *logStore {
	key, volume := testKey()
	s, err := newLogStore(h.store, key, volume, testLease)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func randomAppend(t *testing.T, o *turn, rng *rand.Rand, i int) {
	size := 1 + rng.IntN(100)
	if rng.IntN(20) == 0 {
		size = recordMax
	}
	text := strings.Repeat(string(rune('a'+i%26)), size)
	if rng.IntN(2) == 0 {
		o.mustShip(o.Covered()+1+uint64(rng.IntN(3)), text)
		return
	}
	o.mu.Lock()
	st := o.log.snapshot()
	o.mu.Unlock()
	c := Commit{LSN: st.LSN + uint64(rng.IntN(int(o.Covered()-st.LSN)+1))}
	name := fmt.Sprintf("meta%d", rng.IntN(4))
	if old, ok := st.Meta[name]; ok && rng.IntN(4) == 0 {
		c.Meta = append(c.Meta, MetaDelta{Name: name, Removed: true})
	} else {
		c.Meta = append(c.Meta, MetaDelta{Name: name, Offset: int64(rng.IntN(len(old) + 1)), Data: []byte(text)})
	}
	for range rng.IntN(3) {
		t := table(fmt.Sprintf("%d.sst", rng.IntN(20)))
		t.Object = fmt.Sprintf("files/%d-%d", i, rng.IntN(1000))
		c.Added = append(c.Added, t)
	}
	for name := range st.Tables {
		if len(c.Dropped) < rng.IntN(3) && !slices.ContainsFunc(c.Added, func(t Table) bool { return t.Name == name }) {
			c.Dropped = append(c.Dropped, name)
		}
	}
	o.mustCommit(c)
}

// TestRefused has the store deny an append after an answer was lost: the same bytes are sent until
// they are answered, and nothing is fenced.
func TestRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		n := 0
		a.store.SetAfter(func(r objecttest.Request, err error) error {
			if n++; n < 8 && err == nil || errors.Is(err, object.ErrExists) && n < 8 {
				return &object.Error{Op: r.Op, Key: r.Key, Kind: object.Denied}
			}
			return err
		})
		o.mustShip(1, "x")
		o.mustShip(2, "y")
		if err := o.Ship(t.Context(), 9, 9, nil); err == nil || o.Err() != nil {
			t.Fatalf("a ship that does not follow: %v, %v", err, o.Err())
		}
	})
}

// TestOrphans finds a body whose record was never sent.
func TestOrphans(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		o.mustShip(1, strings.Repeat("needed", recordMax))
		const orphan = "files/0000000000000001-abc.ship"
		w.bucket.Set(orphan, []byte("x"))
		w.bucket.Set("files/0000000000000001-abc.sst", []byte("x"))
		w.bucket.Set("files/0000000000000002-abc.ship", []byte("x"))
		o.release()
		o = a.mustOpen()
		time.Sleep(3 * time.Hour)
		if got := o.Deletable(0); !slices.Equal(got, []string{orphan}) {
			t.Fatalf("%q", got)
		}
	})
}
