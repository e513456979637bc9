package tiers_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/object/objecttest"
)

// written returns the bytes of all files below dir.
func written(t *testing.T, d *disktest.FS, dir string) (n int) {
	t.Helper()
	for _, name := range d.Files(dir) {
		data, err := d.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n += len(data)
	}
	return n
}

// Not a byte of a MANIFEST edit reaches the disk, its page cache included, before the journal is durable.
func TestManifestWaitsForTheJournal(t *testing.T) {
	h := newHost(objecttest.NewBucket(nil), newFakeLog())
	h.mustOpen(t, false)
	m, err := h.fs.Create("MANIFEST-000001", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	syncDir(t, h.fs)
	before := written(t, h.disk, "/data/tree")
	asked := 0
	h.barrier = func() error {
		asked++
		if n := written(t, h.disk, "/data/tree"); n != before {
			t.Errorf("%d bytes were written before the journal was durable", n-before)
		}
		if asked == 2 {
			return errors.New("the journal failed")
		}
		return nil
	}
	if _, err := m.Write(pattern(1, 10_000)); err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	before = written(t, h.disk, "/data/tree")
	if _, err := m.Write(pattern(2, 10_000)); err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(); err == nil {
		t.Fatal("a sync without its journal succeeded")
	}
	if n := written(t, h.disk, "/data/tree"); n != before || asked != 2 {
		t.Fatalf("%d bytes written, barrier asked %d times", n-before, asked)
	}
	c := h.crashed(1)
	c.mustOpen(t, false)
	wantFile(t, c.fs, "MANIFEST-000001", pattern(1, 10_000))
	c.mustClose(t)
	h.mustClose(t)
}

// A blob file that cannot be written is not told to Pebble, which would panic: the MANIFEST fails.
func TestFailedBlobStopsTheManifest(t *testing.T) {
	h := opened(t)
	m, err := h.fs.Create("MANIFEST-000001", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.fs.Create("000002.blob", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	bad := errors.New("bad disk")
	h.disk.SetOnOp(disktest.FailName("/data/nvme", bad, disktest.OpSync, disktest.OpWriteSync, disktest.OpWrite))
	if _, err := b.Write(pattern(1, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Sync(), b.Close()); err != nil {
		t.Fatal(err)
	}
	h.disk.SetOnOp(nil)
	if _, err := m.Write([]byte("names 000002.blob")); err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(); !errors.Is(err, bad) {
		t.Fatalf("err = %v", err)
	}
	if _, err := h.fs.Stat("000002.blob"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the file is there: %v", err)
	}
	h.mustClose(t)
}

// An aborted table file leaves nothing.
func TestAbortedTable(t *testing.T) {
	h := opened(t)
	f, err := h.fs.Create("000001.sst", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(pattern(1, 100_000)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.SyncTo(50_000); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.fs.Open("000001.sst"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("err = %v", err)
	}
	if h.fs.Changed() || h.fs.Usage().DirtyFiles != 0 {
		t.Fatal("an aborted file counts")
	}
	h.mustClose(t)
	if n := len(h.nvme.Local()); n > 0 {
		t.Fatalf("%d local copies", n)
	}
}

// A full disk releases the ballast, and makes a MANIFEST wait until there is space.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := opened(t)
		m, err := h.fs.Create("MANIFEST-000001", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Write(pattern(1, 10_000)); err != nil {
			t.Fatal(err)
		}
		if h.nvme.Usage().Ballast == 0 {
			t.Fatal("no ballast")
		}
		h.disk.SetCapacity(h.disk.Used())
		start := time.Now()
		var held atomic.Int64
		time.AfterFunc(time.Minute, func() {
			held.Store(h.nvme.Usage().Ballast)
			h.disk.SetCapacity(0)
		})
		if err := m.Sync(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < time.Minute {
			t.Fatalf("the sync took %v on a full disk", d)
		}
		if held.Load() > 0 {
			t.Fatal("the ballast was kept")
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		c := h.crashed(7)
		c.mustOpen(t, false)
		wantFile(t, c.fs, "MANIFEST-000001", pattern(1, 10_000))
		c.mustClose(t)
		h.mustClose(t)
	})
}

// A failed write of the map fails what depends on it, and never the sync of a directory.
func TestFailedMap(t *testing.T) {
	h := opened(t)
	bad := errors.New("bad disk")
	m, err := h.fs.Create("MANIFEST-000001", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	h.disk.SetOnOp(disktest.FailName("/data/tree/map", bad, disktest.OpSync))
	syncDir(t, h.fs)
	h.disk.SetOnOp(nil)
	if _, err := m.Write([]byte("edit")); err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(); !errors.Is(err, bad) {
		t.Fatalf("err = %v", err)
	}
	if _, err := h.fs.Create("marker.manifest.000001.MANIFEST-000001", vfs.WriteCategoryUnspecified); !errors.Is(err, bad) {
		t.Fatalf("err = %v", err)
	}
	if err := h.fs.Close(); !errors.Is(err, bad) {
		t.Fatalf("err = %v", err)
	}
	if err := h.nvme.Close(); err != nil {
		t.Fatal(err)
	}
}

// Stop ends reads that hang in the store, with its cause, and so do later calls.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := opened(t)
		writeFile(t, h.fs, "000001.sst", pattern(1, 1_000_000))
		writeBack(t, h.fs, 1)
		o := h.other()
		o.mustOpen(t, true)
		o.store.SetPlan(func(objecttest.Request) objecttest.Fault { return objecttest.Hang })
		f, err := o.fs.Open("000001.sst")
		if err != nil {
			t.Fatal(err)
		}
		cause := errors.New("fenced")
		time.AfterFunc(time.Hour, func() { o.fs.Stop(cause) })
		if _, err := f.ReadAt(make([]byte, 10), 5); !errors.Is(err, cause) {
			t.Fatalf("err = %v", err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := o.fs.Create("000009.sst", vfs.WriteCategoryUnspecified); !errors.Is(err, cause) {
			t.Fatalf("err = %v", err)
		}
		if err := o.fs.WriteBack(t.Context(), lsn(2)); !errors.Is(err, cause) {
			t.Fatalf("err = %v", err)
		}
		o.mustClose(t)
		h.mustClose(t)
	})
}

// The directory itself tells nothing of what is in it.
func TestNoNamesOnDisk(t *testing.T) {
	h := opened(t)
	writeFile(t, h.fs, "000123.sst", []byte("secret marker"))
	writeFile(t, h.fs, "OPTIONS-000007", []byte("secret marker"))
	writeBack(t, h.fs, 1)
	h.mustClose(t)
	for _, path := range h.disk.Files("/") {
		data, err := h.disk.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"secret", "000123.sst", "OPTIONS"} {
			if strings.Contains(path, word) || bytes.Contains(data, []byte(word)) {
				t.Errorf("%s shows %q", path, word)
			}
		}
	}
	for _, key := range h.store.Bucket().Keys() {
		data, _ := h.store.Bucket().Object(key)
		if bytes.Contains(data, []byte("secret")) {
			t.Errorf("object %s shows its contents", key)
		}
	}
}

func TestMissingOptions(t *testing.T) {
	h := newHost(objecttest.NewBucket(nil), newFakeLog())
	if err := h.openNVMe(); err != nil {
		t.Fatal(err)
	}
	o := h.options()
	o.Barrier = nil
	if _, err := tiers.Open(t.Context(), o, nil); err == nil {
		t.Fatal("a file system without a barrier opened")
	}
	if err := h.nvme.Close(); err != nil {
		t.Fatal(err)
	}
}
