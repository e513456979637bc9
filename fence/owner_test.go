package fence

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/object"
)

func table(name string) Table {
	return Table{Name: name, Object: "files/0000000000000001-" + name, Size: 100, ID: [16]byte{1}}
}

// TestHappy ships, commits, releases, and finds it all again on the same and on another host.
func TestHappy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		if o.Epoch() != 1 || o.LocalWins() || o.Previous() != (Previous{}) || o.Valid() != nil {
			t.Fatalf("new volume: epoch %d, wins %v, %+v, %v", o.Epoch(), o.LocalWins(), o.Previous(), o.Valid())
		}
		o.mustShip(10, "one to ten")
		o.mustShip(12, strings.Repeat("big", 200_000))
		if o.Covered() != 12 || o.ShippedBytes() != 600_010 {
			t.Fatalf("covered %d, shipped %d", o.Covered(), o.ShippedBytes())
		}
		o.mustCommit(Commit{LSN: 10, Meta: []MetaDelta{{Name: "MANIFEST-1", Data: []byte("abc")}, {Name: "marker.x"}},
			Added: []Table{table("1.sst"), table("2.sst")}})
		o.mustCommit(Commit{LSN: 11, Meta: []MetaDelta{{Name: "MANIFEST-1", Offset: 3, Data: []byte("def")}},
			Added: []Table{table("3.sst")}, Dropped: []string{"1.sst"}})
		o.release()
		w.wantErr(o.Valid(), ErrClosed)
		w.wantErr(o.Err(), ErrClosed)
		w.wantErr(o.Ship(t.Context(), 13, 13, nil), ErrClosed)

		o = a.mustOpen()
		if !o.LocalWins() || !o.Previous().Ours || !o.Previous().Released || o.Epoch() != 2 {
			t.Fatalf("reopened: wins %v, %+v", o.LocalWins(), o.Previous())
		}
		want := describe(o.State())
		o.release()
		b := w.host("b").mustOpen()
		if b.LocalWins() || !b.Previous().Released {
			t.Fatalf("other host: wins %v, %+v", b.LocalWins(), b.Previous())
		}
		if got := describe(b.State()); got != want || !strings.Contains(got, "ship 11..12") {
			t.Fatalf("state is %s, want %s", got, want)
		}
		body, err := b.ShipBody(t.Context(), b.State().Ships[0])
		if err != nil || string(body) != strings.Repeat("big", 200_000) {
			t.Fatalf("body of %d bytes, %v", len(body), err)
		}
		b.release()
	})
}

// TestIdle counts what an idle volume asks of the store.
func TestIdle(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		defer o.kill()
		for hour := range 4 {
			for minute := range 60 {
				a.store.ResetCounts()
				time.Sleep(time.Minute)
				synctest.Wait()
				c := a.store.Counts()
				if n := c.Put + c.Get + c.List + c.Delete + c.Head; n > 4 {
					t.Fatalf("hour %d minute %d: %d requests: %+v", hour, minute, n, c)
				}
				if o.Valid() != nil {
					t.Fatalf("hour %d minute %d: %v", hour, minute, o.Valid())
				}
			}
		}
		if n := len(w.records()); n > 1000 {
			t.Fatalf("%d records left after four idle hours", n)
		}
	})
}

// TestLeaseLapses takes the store away: requests wait, and go on afterwards.
func TestLeaseLapses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		defer o.kill()
		a.store.SetOutage(true)
		time.Sleep(testLease - time.Second)
		if o.Valid() != nil {
			t.Fatal(o.Valid())
		}
		time.Sleep(time.Second)
		w.wantErr(o.Valid(), ErrLapsed)
		short, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		w.wantErr(o.Wait(short), context.DeadlineExceeded)
		waited := make(chan error, 1)
		go func() { waited <- o.Wait(t.Context()) }()
		shipped := make(chan error, 1)
		go func() { shipped <- o.Ship(t.Context(), 1, 5, []byte("x")) }()
		time.Sleep(time.Minute)
		a.store.SetOutage(false)
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		if err := <-shipped; err != nil {
			t.Fatal(err)
		}
		if o.Valid() != nil || o.Err() != nil {
			t.Fatal(o.Valid(), o.Err())
		}
	})
}

// TestValidIsCheap asks for each request, so it must not allocate.
func TestValidIsCheap(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := w.host("a").mustOpen()
		if n := testing.AllocsPerRun(100, func() { _ = o.Valid() }); n != 0 {
			t.Fatalf("%v allocations", n)
		}
	})
}

// TestDateless has a store that does not tell the time: every append is checked, nothing is trimmed.
func TestDateless(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		key, volume := testKey()
		l, err := OpenLineage(a.disk, "/lineage", key, volume, w.rand())
		if err != nil {
			t.Fatal(err)
		}
		o, err := Open(t.Context(), Options{Store: dateless{a.store}, Key: key, Volume: volume, Lineage: l, Identity: a.id,
			Lease: testLease, Durability: Object, Boottime: a.boottime, Rand: w.rand(), Logger: w.logger})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		if err := o.Adopt(); err != nil {
			t.Fatal(err)
		}
		a.store.ResetCounts()
		for lsn := range uint64(70) {
			if err := o.Ship(t.Context(), lsn+1, lsn+1, nil); err != nil {
				t.Fatal(err)
			}
		}
		if c := a.store.Counts(); c.List < 70 || c.Get < 70 {
			t.Fatalf("%+v", c)
		}
		time.Sleep(5 * time.Hour)
		if recs := w.records(); recs[0] != 1 {
			t.Fatalf("the log begins at %d", recs[0])
		}
	})
}

// dateless takes the store's clock out of its answers.
type dateless struct{ object.Store }

func (d dateless) Put(ctx context.Context, key string, body object.Body, opts object.PutOptions) (object.Info, error) {
	i, err := d.Store.Put(ctx, key, body, opts)
	return object.Info{Size: i.Size}, err
}

func (d dateless) Get(ctx context.Context, key string, off int64, dst []byte) (int, object.Info, error) {
	n, i, err := d.Store.Get(ctx, key, off, dst)
	return n, object.Info{Size: i.Size}, err
}

func (d dateless) List(ctx context.Context, prefix, after string) (object.Page, error) {
	p, err := d.Store.List(ctx, prefix, after)
	p.Date = time.Time{}
	return p, err
}

// TestUnanswered ends the caller's context while its Commit is under way. The Commit lands later; what
// it names is not deletable meanwhile, though the caller discards it; and the next Commit, which
// knows nothing of it, applies.
func TestUnanswered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.host("a")
		o := a.mustOpen()
		o.mustCommit(Commit{LSN: 1, Meta: []MetaDelta{{Name: "m", Data: []byte("ab")}}})
		a.store.SetOutage(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		data := []byte("cd")
		err := o.Commit(ctx, Commit{LSN: 2, Meta: []MetaDelta{{Name: "m", Offset: 2, Data: data}}, Added: []Table{table("1.sst")}})
		w.wantErr(err, ErrUnanswered)
		w.wantErr(err, context.DeadlineExceeded)
		data[0] = 'X'
		o.Discard([]string{table("1.sst").Object})
		time.Sleep(time.Hour)
		if d := o.Deletable(0); len(d) != 0 {
			t.Fatalf("deletable while its commit is under way: %q", d)
		}
		queued, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := o.Ship(queued, 3, 3, nil); errors.Is(err, ErrUnanswered) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("queued: %v", err)
		}
		a.store.SetOutage(false)
		o.mustCommit(Commit{LSN: 3, Meta: []MetaDelta{{Name: "m", Offset: 2, Data: []byte("cdef")}}, Added: []Table{table("1.sst"), table("2.sst")}})
		if d := o.Deletable(0); len(d) != 0 {
			t.Fatalf("deletable: %q", d)
		}
		o.release()
		const want = `lsn 3 tables 2 1.sst=files/0000000000000001-1.sst/100 2.sst=files/0000000000000001-2.sst/100 m:"abcdef"`
		if got := describe(w.host("b").mustOpen().State()); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}
