package disk

import (
	"bytes"
	"sync"
	"testing"
)

func TestBuffers(t *testing.T) {
	for n := 1; n < 20<<20; n = n*3 + 1 {
		b := Alloc(n)
		if len(b) != n || !isAligned(b) {
			t.Fatalf("Alloc(%d): %d bytes, aligned %t", n, len(b), isAligned(b))
		}
		if bytes.Count(b, []byte{0}) != n {
			t.Fatalf("Alloc(%d): not zeroed", n)
		}
		for range 2 {
			b := GetBuf(n)
			if len(b) != n || !isAligned(b) {
				t.Fatalf("GetBuf(%d): %d bytes, aligned %t", n, len(b), isAligned(b))
			}
			b[0], b[n-1] = 1, 1
			PutBuf(b[:0])
		}
	}
	for _, n := range []int{0, -1} {
		if Alloc(n) != nil || GetBuf(n) != nil {
			t.Errorf("a buffer of %d bytes", n)
		}
	}
	PutBuf(nil)
	PutBuf(make([]byte, 5000))
	PutBuf(Alloc(3 * Align)[1:])
}

// A buffer is nobody else's between GetBuf and PutBuf.
func TestBuffersAreExclusive(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				b := GetBuf(Align << (i % 3))
				for j := range b {
					b[j] = byte(i)
				}
				if bytes.Count(b, []byte{byte(i)}) != len(b) {
					t.Error("two owners")
					return
				}
				PutBuf(b)
			}
		})
	}
	wg.Wait()
}

func TestBuffersDoNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { PutBuf(GetBuf(64 << 10)) }); n >= 1 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}
