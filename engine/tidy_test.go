package engine

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestTidy overwrites a set of random data six times in random 8 KiB writes and tidies. It holds two
// promises at a scale: how much is written, and the table files' size afterwards.
// ZEROFS_SCALE is the set in MiB; the memtable is scaled with it from 48 MiB at 1 GiB.
func TestTidy(t *testing.T) {
	if testing.Short() {
		t.Skip("writes much")
	}
	mib := int64(24)
	if v, err := strconv.ParseInt(os.Getenv("ZEROFS_SCALE"), 10, 64); err == nil {
		mib = v
	}
	ctx := context.Background()
	set := mib << 20
	log := newFakeLog()
	log.discard = true
	dir := t.TempDir()
	counted := &countFS{FS: vfs.Default}
	opts := testOptions(counted, log)
	opts.Dir, opts.TidyAfter = dir, -1
	opts.MemTableSize = max(1<<20, 48*set>>10)
	e := openEngine(t, opts, log)
	d := openDevice(t, e, "d", set)
	rng := rand.New(rand.NewPCG(1, 5))
	p := make([]byte, 1<<20)
	for off := int64(0); off < set; off += 1 << 20 {
		fillRandom(p, rng.Uint64())
		if err := d.WriteAt(ctx, p, off, false); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, e)
	share := func(n int64) float64 { return float64(n) / float64(set) }
	sequential := counted.written.Load()
	t.Logf("sequential: wrote %.2f × the data", share(sequential))
	for n := int64(0); n < 6*set; n += 8 << 10 {
		fillRandom(p[:8<<10], rng.Uint64())
		if err := d.WriteAt(ctx, p[:8<<10], rng.Int64N(set>>13)<<13, false); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, e)
	overwrites := counted.written.Load() - sequential
	m := metrics(t, e)
	t.Logf("overwrites: wrote %.2f × the data; table files %.2f × the set, garbage in blob files %.2f, rewrites %d",
		share(overwrites)/6, share(m.LiveBytes), share(m.GarbageBytes), m.Rewrites)
	if err := e.Tidy(ctx); err != nil {
		t.Fatal(err)
	}
	tidied := counted.written.Load() - sequential - overwrites
	m = metrics(t, e)
	t.Logf("tidy: wrote %.2f × the set; table files %.2f × the set, %.2f with those not deleted yet, rewrites %d",
		share(tidied), share(m.LiveBytes), share(tableBytes(t, dir)), m.Rewrites)
	if got := share(sequential); got > 1.1 {
		t.Errorf("sequential writes: wrote %.2f × the data", got)
	}
	if got := share(overwrites+tidied) / 6; got > 3 {
		t.Errorf("overwrites: wrote %.2f × the data, tidying included", got)
	}
	if got := share(m.LiveBytes); got > 1.25 {
		t.Errorf("after tidying table files take %.2f × the live data", got)
	}
}

// countFS counts bytes written to files.
type countFS struct {
	vfs.FS
	written atomic.Int64
}

func (c *countFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, category)
	return &countFile{File: f, written: &c.written}, err
}

type countFile struct {
	vfs.File
	written *atomic.Int64
}

func (f *countFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.written.Add(int64(n))
	return n, err
}

func metrics(t *testing.T, e *Engine) Metrics {
	t.Helper()
	m, err := e.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tableBytes returns the size of the table files in dir.
func tableBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range entries {
		if ext := filepath.Ext(d.Name()); ext != ".sst" && ext != ".blob" {
			continue
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}
