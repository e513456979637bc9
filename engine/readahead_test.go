package engine

import (
	"bytes"
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/memory"
)

func TestStreams(t *testing.T) {
	const size, block = 64 << 20, 128 << 10
	var s streams
	want := int64(0) // read ahead so far
	for off := int64(0); off < 32<<20; off += block {
		from, to := s.note(off, off+block, size, off >= want)
		if from == to {
			continue
		}
		if from < want || from < off+block || to <= from || to > off+block+aheadMax {
			t.Fatalf("read at %d: ahead from %d to %d after %d", off, from, to, want)
		}
		if want > 0 && from != want {
			t.Fatalf("read at %d: ahead from %d, not %d", off, from, want)
		}
		want = to
	}
	if want < 32<<20 {
		t.Errorf("a sequential reader of 32 MiB was read ahead of to %d", want)
	}
	var warm streams
	for off := int64(0); off < 8<<20; off += block {
		if from, to := warm.note(off, off+block, size, false); from != to {
			t.Fatalf("reader of warm data was read ahead of, %d to %d", from, to)
		}
	}
	var random streams
	for i := range int64(500) {
		off := i * 7919 % 16000 * 4096
		if from, to := random.note(off, off+4096, size, true); from != to {
			t.Fatalf("random reader was read ahead of, %d to %d", from, to)
		}
	}
	var end streams
	for off := int64(0); off < 1<<20; off += block {
		if _, to := end.note(off, off+block, 1<<20, true); to > 1<<20 {
			t.Fatalf("read ahead to %d, beyond the end", to)
		}
	}
}

// TestReadAhead reads a device from end to end: it reads right, and most of it was there before it was asked for.
func TestReadAhead(t *testing.T) {
	const size = 16 << 20
	ctx := context.Background()
	fs, log := vfs.NewMem(), newFakeLog()
	e := openEngine(t, testOptions(fs, log), log)
	d := openDevice(t, e, "d", size)
	want := make([]byte, size)
	fillRandom(want, 9)
	if err := d.WriteAt(ctx, want, 0, false); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	tier, err := memory.New(64<<20, 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer tier.Close()
	opts := testOptions(fs, log)
	opts.Memory = tier
	e = openEngine(t, opts, log)
	d = openDevice(t, e, "d", size)
	p := make([]byte, 128<<10)
	for off := int64(0); off < size; off += int64(len(p)) {
		if err := d.ReadAt(ctx, p, off); err != nil || !bytes.Equal(p, want[off:off+int64(len(p))]) {
			t.Fatalf("read at %d: %v", off, err)
		}
	}
	if m := metrics(t, e); m.Prefetched < size/4 {
		t.Errorf("read ahead %d bytes of %d", m.Prefetched, size)
	}
	if err := d.Cache(ctx, 0, size); err != nil {
		t.Error(err)
	}
}
