package nvme

import (
	"bytes"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/seal"
)

// Many files that are read in turns, in pieces smaller than a frame, as a compaction does: the disk is
// asked once per eight frames, and random reads bring no more than they need.
func TestReadsInTurns(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "nvme", 1<<30)
	const files, size, piece = 20, 40 * seal.FrameData, 6000
	want := map[int][]byte{}
	readers := map[int]*Reader{}
	for i := range files {
		want[i] = testData(i, size)
		write(t, tier, testID(i+1), want[i])
		r, err := tier.OpenFile(testID(i+1), size)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		readers[i] = r
	}
	var reads atomic.Int64
	fs.SetOnOp(func(op, name string) error {
		if op == disktest.OpRead && strings.Contains(name, "tables") {
			reads.Add(1)
		}
		return nil
	})
	for off := 0; off < size; off += piece {
		for i := range files {
			p := make([]byte, min(piece, size-off))
			if _, err := readers[i].ReadAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p, want[i][off:off+len(p)]) {
				t.Fatalf("file %d differs at %d", i, off)
			}
		}
	}
	// Slots are lost where two files want the same, so that it is not exactly one in eight.
	if n := reads.Load(); n > files*40/4 {
		t.Errorf("%d reads of the disk for %d frames", n, files*40)
	}
	reads.Store(0)
	for k := range 40 {
		frame := k * 17 % 40
		if _, err := readers[0].ReadAt(make([]byte, 100), int64(frame*seal.FrameData)); err != nil {
			t.Fatal(err)
		}
	}
	if n := reads.Load(); n > 40 {
		t.Errorf("%d reads of the disk for 40 random ones", n)
	}
}

// A frame that is damaged is told to who asks for it, not to who reads before it.
func TestDamageAhead(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "nvme", 1<<30)
	const size = 12 * seal.FrameData
	write(t, tier, testID(1), testData(1, size))
	names := tableFiles(fs)
	if len(names) != 1 {
		t.Fatalf("files: %v", names)
	}
	if err := fs.Damage(names[0], seal.HeaderSize+5*seal.FrameSize+77, 1); err != nil {
		t.Fatal(err)
	}
	r, err := tier.OpenFile(testID(1), size)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 100)
	for _, at := range []int64{0, seal.FrameData - 50, 2*seal.FrameData - 50} {
		if _, err := r.ReadAt(p, at); err != nil {
			t.Errorf("at %d: %v", at, err)
		}
	}
	if _, err := r.ReadAt(p, 5*seal.FrameData); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("in the damaged frame: %v", err)
	}
}
