package engine

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestTidy overwrites a set of random data six times in random 8 KiB writes and tidies. It holds two
// promises at a scale: write amplification while it is busy, and the table files' size afterwards.
// ZEROFS_SCALE is the set in MiB; the memtable is scaled with it from 48 MiB at 1 GiB.
func TestTidy(t *testing.T) {
	mib := int64(24)
	if v, err := strconv.ParseInt(os.Getenv("ZEROFS_SCALE"), 10, 64); err == nil {
		mib = v
	}
	ctx := context.Background()
	set := mib << 20
	log := newFakeLog()
	log.discard = true
	dir := t.TempDir()
	opts := testOptions(vfs.Default, log)
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
	before := metrics(t, e).Written
	t.Logf("sequential: written %.2f × the data", float64(before)/float64(set))
	for n := int64(0); n < 6*set; n += 8 << 10 {
		fillRandom(p[:8<<10], rng.Uint64())
		if err := d.WriteAt(ctx, p[:8<<10], rng.Int64N(set>>13)<<13, false); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, e)
	m := metrics(t, e)
	amp := float64(m.Written-before) / float64(6*set)
	t.Logf("overwrites: written %.2f × the data, table files %.2f × the set, garbage %.2f, rewrites %d",
		amp, float64(m.LiveBytes)/float64(set), float64(m.GarbageBytes)/float64(set), m.Rewrites)
	if err := e.Tidy(ctx); err != nil {
		t.Fatal(err)
	}
	m2 := metrics(t, e)
	size := float64(tableBytes(t, dir)) / float64(set)
	t.Logf("tidied: written %.2f × the set, table files %.2f × the set, rewrites %d",
		float64(m2.Written-m.Written)/float64(set), float64(m2.LiveBytes)/float64(set), m2.Rewrites)
	if amp > 3 {
		t.Errorf("write amplification %.2f", amp)
	}
	if live := float64(m2.LiveBytes) / float64(set); live > 1.25 {
		t.Errorf("table files in use take %.2f × the live data", live)
	}
	t.Logf("files on disk %.2f × the set", size)
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
