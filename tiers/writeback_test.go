package tiers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/fence"
	"zerofs/tiers"
	"zerofs/tiers/object/objecttest"
)

// writeFile makes a file of the tree as Pebble does.
func writeFile(t *testing.T, fs vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(bytes.Clone(data))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	syncDir(t, fs)
}

func syncDir(t *testing.T, fs vfs.FS) {
	t.Helper()
	d, err := fs.OpenDir("")
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	if _, err = f.ReadAt(data, 0); errors.Is(err, io.EOF) {
		err = nil
	}
	return data, errors.Join(err, f.Close())
}

func wantFile(t *testing.T, fs vfs.FS, name string, want []byte) {
	t.Helper()
	got, err := readFile(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s has %d bytes, which are not the %d written", name, len(got), len(want))
	}
}

func lsn(n uint64) func() (uint64, error) { return func() (uint64, error) { return n, nil } }

func writeBack(t *testing.T, f *tiers.FS, n uint64) {
	t.Helper()
	if err := f.WriteBack(context.Background(), lsn(n)); err != nil {
		t.Fatal(err)
	}
}

func pattern(seed uint64, n int) []byte { return objecttest.Pattern(seed, n) }

func opened(t *testing.T) *host {
	h := newHost(objecttest.NewBucket(nil), newFakeLog())
	h.mustOpen(t, false)
	return h
}

func TestCommitSaysWhatChanged(t *testing.T) {
	h := opened(t)
	var got []string
	h.log.before = func(c fence.Commit) error {
		var parts []string
		for _, a := range c.Added {
			parts = append(parts, fmt.Sprintf("+%s:%d", a.Name, a.Size))
		}
		for _, n := range c.Dropped {
			parts = append(parts, "-"+n)
		}
		for _, m := range c.Meta {
			if m.Removed {
				parts = append(parts, "-"+m.Name)
			} else {
				parts = append(parts, fmt.Sprintf("%s@%d+%d", m.Name, m.Offset, len(m.Data)))
			}
		}
		got = append(got, fmt.Sprintf("%d %s", c.LSN, strings.Join(parts, " ")))
		return nil
	}
	round := func(n uint64, want string) {
		t.Helper()
		got = nil
		if !h.fs.Changed() {
			t.Fatalf("nothing changed, want %q", want)
		}
		writeBack(t, h.fs, n)
		if len(got) != 1 || got[0] != want {
			t.Fatalf("commits %q, want %q", got, want)
		}
		if h.fs.Changed() {
			t.Fatal("changed after a round")
		}
	}
	if h.fs.Changed() {
		t.Fatal("an empty tree has changes")
	}
	m, err := h.fs.Create("MANIFEST-000001", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite := func(p string) {
		t.Helper()
		if _, err := m.Write([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	mustWrite("first")
	writeFile(t, h.fs, "000002.sst", pattern(1, 100))
	round(1, "1 +000002.sst:100 MANIFEST-000001@0+0") // not synced yet
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, h.fs, "LOCK", nil)
	writeFile(t, h.fs, "temporary.000003.dbtmp", []byte("options"))
	round(1, "1 MANIFEST-000001@0+5")
	mustWrite(" second")
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	mustWrite(" third")
	if err := h.fs.Rename("temporary.000003.dbtmp", "OPTIONS-000003"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, h.fs, "marker.manifest.000001.MANIFEST-000001", nil)
	round(2, "2 MANIFEST-000001@5+7 OPTIONS-000003@0+7 marker.manifest.000001.MANIFEST-000001@0+0")
	writeFile(t, h.fs, "000002.sst", pattern(2, 50)) // another file under the name
	if err := h.fs.Remove("OPTIONS-000003"); err != nil {
		t.Fatal(err)
	}
	round(3, "3 +000002.sst:50 -000002.sst -OPTIONS-000003")
	if err := h.fs.Remove("000002.sst"); err != nil {
		t.Fatal(err)
	}
	round(3, "3 -000002.sst")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	h.mustClose(t)
}

// A file that goes while a round uploads it stays until the round has ended, and the next one
// drops it.
func TestRemovalDuringARound(t *testing.T) {
	h := opened(t)
	writeFile(t, h.fs, "000001.sst", pattern(1, 300_000))
	h.store.SetBefore(func(_ context.Context, r objecttest.Request) error {
		if r.Op == "put" {
			if err := h.fs.Remove("000001.sst"); err != nil {
				return err
			}
			syncDir(t, h.fs)
		}
		return nil
	})
	writeBack(t, h.fs, 1)
	h.store.SetBefore(nil)
	if n := len(h.log.State().Tables); n != 1 {
		t.Fatalf("the log has %d tables", n)
	}
	if !h.fs.Changed() {
		t.Fatal("the removal is no change")
	}
	writeBack(t, h.fs, 2)
	if n := len(h.log.State().Tables); n != 0 {
		t.Fatalf("the log has %d tables", n)
	}
	h.mustClose(t)
	if u := h.nvme.Usage(); u.Dirty+u.Clean > 0 {
		t.Fatalf("local copies are left: %+v", u)
	}
	if err := h.collected(); err != nil {
		t.Fatal(err)
	}
}

// collected checks that the bucket holds what the log names and what it is going to delete.
func (h *host) collected() error {
	named := map[string]bool{}
	for _, t := range h.log.State().Tables {
		named[t.Object] = true
	}
	for _, o := range h.log.Deletable(0) {
		named[o] = true
	}
	for _, key := range h.store.Bucket().Keys() {
		if !named[key] {
			return fmt.Errorf("object %s is forgotten", key)
		}
		delete(named, key)
	}
	return nil
}

// A file that is gone before its upload begins is not uploaded, while the store is busy with others.
func TestFilesThatGoBeforeTheirUploadCostNoPut(t *testing.T) {
	h := opened(t)
	for i := range 40 {
		writeFile(t, h.fs, fmt.Sprintf("%06d.sst", i), pattern(uint64(i), 1000))
	}
	first := true
	h.store.SetBefore(func(_ context.Context, r objecttest.Request) error {
		if r.Op == "put" && first {
			first = false
			for i := range 40 {
				if err := h.fs.Remove(fmt.Sprintf("%06d.sst", i)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	writeBack(t, h.fs, 1)
	if n := h.store.Counts().Put; n > 12 {
		t.Fatalf("%d puts for files that were gone", n)
	}
	h.mustClose(t)
	if err := h.collected(); err != nil {
		t.Fatal(err)
	}
}

func TestAbandonedRoundKeepsItsUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := opened(t)
		writeFile(t, h.fs, "000001.sst", pattern(1, 1000))
		writeFile(t, h.fs, "000002.sst", pattern(2, 1000))
		h.store.SetPlan(func(r objecttest.Request) objecttest.Fault {
			if r.Op == "put" && r.N > 1 {
				return objecttest.HangLose
			}
			return objecttest.Deliver
		})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.fs.WriteBack(ctx, lsn(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("err = %v", err)
		}
		h.store.SetPlan(nil)
		h.store.ResetCounts()
		writeBack(t, h.fs, 1)
		if n := h.store.Counts().Put; n != 1 {
			t.Fatalf("%d puts, want the one whose answer was lost", n)
		}
		if n := len(h.log.State().Tables); n != 2 {
			t.Fatalf("the log has %d tables", n)
		}
		h.mustClose(t)
	})
}

// A round whose caller goes away while the Commit is on its way leaves it to the next round.
func TestCommitOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := opened(t)
		writeFile(t, h.fs, "000001.sst", pattern(1, 1000))
		hold := make(chan struct{})
		h.log.after = func() error { <-hold; return nil }
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := h.fs.WriteBack(ctx, lsn(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("err = %v", err)
		}
		if err := h.fs.Remove("000001.sst"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if len(h.nvme.Local()) != 1 {
			t.Fatal("the local copy went before the Commit was answered")
		}
		close(hold)
		writeBack(t, h.fs, 2)
		if n := len(h.log.State().Tables); n != 0 {
			t.Fatalf("the log has %d tables", n)
		}
		h.mustClose(t)
		if err := h.collected(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFailedCommitIsFinal(t *testing.T) {
	h := opened(t)
	writeFile(t, h.fs, "000001.sst", pattern(1, 1000))
	h.log.before = func(fence.Commit) error { return fence.ErrFenced }
	for range 2 {
		if err := h.fs.WriteBack(context.Background(), lsn(1)); !errors.Is(err, fence.ErrFenced) {
			t.Fatalf("err = %v", err)
		}
		h.log.before = nil
	}
	h.mustClose(t)
}

// A Commit that the log never sent, say for a body that the store refused, is tried again.
func TestUnsentCommitIsNotFinal(t *testing.T) {
	h := opened(t)
	writeFile(t, h.fs, "000001.sst", pattern(1, 1000))
	refused := errors.New("the store refused the body")
	h.log.before = func(fence.Commit) error { return refused }
	if err := h.fs.WriteBack(context.Background(), lsn(1)); !errors.Is(err, refused) {
		t.Fatalf("err = %v", err)
	}
	if !h.fs.Changed() {
		t.Fatal("nothing is left to commit")
	}
	h.log.before = nil
	writeBack(t, h.fs, 1)
	if n := len(h.log.State().Tables); n != 1 {
		t.Fatalf("the log has %d tables", n)
	}
	h.mustClose(t)
}

// File numbers repeat on the host that takes over; objects do not.
func TestNamesRepeatAfterTakeover(t *testing.T) {
	h := opened(t)
	writeFile(t, h.fs, "000001.sst", pattern(1, 1000))
	writeBack(t, h.fs, 1)
	writeFile(t, h.fs, "000002.sst", pattern(2, 1000)) // never committed

	o := h.other()
	o.mustOpen(t, true)
	writeFile(t, o.fs, "000002.sst", pattern(3, 1000))
	writeFile(t, o.fs, "000001.sst", pattern(4, 1000))
	writeBack(t, o.fs, 2)
	wantFile(t, o.fs, "000001.sst", pattern(4, 1000))
	o.mustClose(t)

	p := o.other()
	p.mustOpen(t, true)
	wantFile(t, p.fs, "000001.sst", pattern(4, 1000))
	wantFile(t, p.fs, "000002.sst", pattern(3, 1000))
	wantFile(t, h.fs, "000001.sst", pattern(1, 1000))
	p.mustClose(t)
	h.mustClose(t)
}

func TestSweepOrphans(t *testing.T) {
	clock := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	bucket := objecttest.NewBucket(func() time.Time { return clock })
	h := newHost(bucket, newFakeLog())
	h.epoch = 3
	h.mustOpen(t, false)
	writeFile(t, h.fs, "000001.sst", pattern(1, 1000))
	writeBack(t, h.fs, 1)
	h.mustClose(t)

	o := h.other() // epoch 4
	o.mustOpen(t, true)
	dead := "files/0000000000000002-00112233445566778899aabbccddeeff.sst"
	young := "files/0000000000000002-10112233445566778899aabbccddeeff.blob"
	body := "files/0000000000000002-20112233445566778899aabbccddeeff.ship"
	ours := "files/0000000000000004-30112233445566778899aabbccddeeff.sst"
	strange := "files/strange"
	for _, key := range []string{dead, body, ours, strange} {
		bucket.Set(key, []byte("x"))
	}
	clock = clock.Add(2 * time.Hour)
	bucket.Set(young, []byte("x"))
	if err := o.fs.SweepOrphans(context.Background(), o.log.State(), time.Hour); err != nil {
		t.Fatal(err)
	}
	left := strings.Join(bucket.Keys(), " ")
	for _, key := range []string{young, body, ours, strange, o.log.State().Tables["000001.sst"].Object} {
		if !strings.Contains(left, key) {
			t.Errorf("%s was deleted", key)
		}
	}
	if strings.Contains(left, dead) {
		t.Errorf("%s is still there", dead)
	}
	o.mustClose(t)
}

func TestCollect(t *testing.T) {
	h := opened(t)
	writeFile(t, h.fs, "000001.sst", pattern(1, 1000))
	writeBack(t, h.fs, 1)
	if err := h.fs.Remove("000001.sst"); err != nil {
		t.Fatal(err)
	}
	writeBack(t, h.fs, 1)
	if err := h.fs.Collect(context.Background()); err != nil {
		t.Fatal(err)
	}
	if keys := h.store.Bucket().Keys(); len(keys) > 0 || len(h.log.Deletable(0)) > 0 {
		t.Fatalf("left: %v", keys)
	}
	h.mustClose(t)
}

// An object that a Commit on its way is about to name is no orphan, though its epoch is dead, no
// local name has it any more, and the state of before does not know it.
func TestSweepSparesTheRoundUnderWay(t *testing.T) {
	clock := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := newHost(objecttest.NewBucket(func() time.Time { return clock }), newFakeLog())
	h.mustOpen(t, false)
	writeFile(t, h.fs, "000001.sst", pattern(1, 1000))
	h.mustClose(t)
	h.epoch = 2
	h.mustOpen(t, false)
	h.log.before = func(c fence.Commit) error {
		if err := h.fs.Remove("000001.sst"); err != nil {
			return err
		}
		syncDir(t, h.fs)
		clock = clock.Add(2 * time.Hour)
		return h.fs.SweepOrphans(context.Background(), h.log.State(), time.Hour)
	}
	writeBack(t, h.fs, 1)
	h.log.before = nil
	if _, ok := h.store.Bucket().Object(h.log.State().Tables["000001.sst"].Object); !ok {
		t.Fatal("the object that the log names was deleted")
	}
	h.mustClose(t)
}
