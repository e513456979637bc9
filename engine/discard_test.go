package engine

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestDiscardSettles discards parts of tables. The space comes back, and then the tree is at rest: Pebble does
// not rewrite the same values for ever because it takes them for garbage.
func TestDiscardSettles(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	const set = 24 << 20
	log := newFakeLog()
	log.discard = true
	counted := &countFS{FS: vfs.Default}
	opts := testOptions(counted, log)
	opts.Dir, opts.TidyAfter = t.TempDir(), -1
	opts.MemTableSize = 2 << 20
	e := openEngine(t, opts, log)
	d := openDevice(t, e, "d", set)
	rng := rand.New(rand.NewPCG(3, 5))
	p := make([]byte, 1<<20)
	for off := int64(0); off < set; off += int64(len(p)) {
		fillRandom(p, rng.Uint64())
		if err := d.WriteAt(ctx, p, off, false); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, e)
	if err := e.Tidy(ctx); err != nil {
		t.Fatal(err)
	}
	live := int64(set)
	for off := int64(100 << 10); off < set; off += 3 << 20 {
		if err := d.Trim(ctx, off, 2<<20, false); err != nil {
			t.Fatal(err)
		}
		live -= min(2<<20, set-off)
	}
	flush(t, e)
	before := counted.written.Load()
	m := metrics(t, e)
	for m.LiveBytes > live*5/4 { // Pebble estimates what goes bit by bit, in the background; keepTidy tidies again and again
		for e.deletedShare() <= deletedQuiet {
			if ctx.Err() != nil {
				t.Fatalf("tables of %d bytes for %d live ones, and Pebble does not tell what lies below range tombstones", m.LiveBytes, live)
			}
			time.Sleep(time.Millisecond)
		}
		if err := e.Tidy(ctx); err != nil {
			t.Fatalf("after %d bytes were written: %v", counted.written.Load()-before, err)
		}
		m = metrics(t, e)
	}
	t.Logf("%d bytes live: tables of %d, %d written to get there, %d rewrites", live, m.LiveBytes, counted.written.Load()-before, m.Rewrites)
	if n := counted.written.Load() - before; n > 2*set {
		t.Errorf("wrote %d bytes to give back %d", n, set-live)
	}
}
