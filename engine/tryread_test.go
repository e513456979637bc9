package engine

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestTryReadAt: what was written is in the memory tier and is had at once; what is not, or lies
// outside, is left to ReadAt.
func TestTryReadAt(t *testing.T) {
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	e.cache = newMapCache(func() bool { return false })
	dev := openDevice(t, e, "d", 1<<20)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1024)
	if err := dev.WriteAt(t.Context(), want, 8192, false); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		off, n int64
		ok     bool
	}{
		{8192, 16384, true}, {8192, 4096, true}, {9000, 5000, true},
		{8192, 20480, false}, {4096, 8192, false}, {0, 0, false}, {1<<20 - 512, 1024, false}, {-1, 2, false},
	} {
		got := make([]byte, c.n)
		ok := dev.TryReadAt(got, c.off)
		if ok != c.ok {
			t.Errorf("%d bytes at %d: %v", c.n, c.off, ok)
		}
		if ok && !bytes.Equal(got, want[c.off-8192:c.off-8192+c.n]) {
			t.Errorf("%d bytes at %d: wrong data", c.n, c.off)
		}
	}
}
