package memory

import (
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"
)

// zipfKeys are reads of n chunks, skewed by s, the same each time.
func zipfKeys(n int, s float64, reads int) []uint64 {
	r := rand.New(rand.NewPCG(1, 2))
	z := rand.NewZipf(r, s, 1, uint64(n-1))
	place := r.Perm(n)
	keys := make([]uint64, reads)
	for i := range keys {
		keys[i] = uint64(place[z.Uint64()])
	}
	return keys
}

// hitRatio replays reads, each miss of which fills. With scan, runs of chunks that come never
// again are read in between.
func hitRatio(t *testing.T, scan bool) float64 {
	const chunks, size = 20_000, 8 << 20 // a tenth of the set
	m := newTier(t, size, 4096)
	data := make([]byte, 4096)
	read := func(inode, i uint64) bool {
		if _, ok := m.Get(nil, inode, i); ok {
			return true
		}
		m.Fill(m.BeginFill(inode, i), inode, i, data)
		return false
	}
	hits, reads, next := 0, 0, uint64(0)
	for i, k := range zipfKeys(chunks, 1.001, 250_000) {
		if scan && i%2000 == 0 {
			for range 2000 {
				read(2, next)
				next++
			}
		}
		if read(1, k) && i > 50_000 {
			hits++
		}
		if i > 50_000 {
			reads++
		}
	}
	return float64(hits) / float64(reads)
}

func TestHitRatio(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, and slow with the race detector")
	}
	alone, mixed := hitRatio(t, false), hitRatio(t, true)
	t.Logf("hit ratio %.3f, with as many reads of scans mixed in %.3f", alone, mixed)
	if alone < 0.70 || mixed < 0.62 {
		t.Errorf("hit ratio %.3f, with scans %.3f", alone, mixed)
	}
}

func heap() uint64 {
	runtime.GC()
	debug.FreeOSMemory()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapInuse
}

// The heap stays within the size and a tenth, whatever the chunks are.
func TestHeapWithinSize(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, and slow with the race detector")
	}
	for _, tc := range []struct {
		size  int64
		chunk int
		empty bool
	}{{1 << 20, 4096, false}, {3 << 20, 4096, true}, {20 << 20, 65536, false}, {64 << 20, 4096, false}, {64 << 20, 4096, true}, {64 << 20, 65536, false}} {
		before := heap()
		m := newTier(t, tc.size, tc.chunk)
		chunk := make([]byte, tc.chunk)
		n := uint64(3 * tc.size / int64(tc.chunk))
		if tc.empty {
			chunk, n = nil, uint64(3*tc.size/emptyLength)
		}
		for i := range n {
			m.Fill(m.BeginFill(1, i), 1, i, chunk)
			if i%3 == 0 {
				m.Write(1, i, chunk)
				m.Get(nil, 1, i)
			}
		}
		used := int64(heap() - before)
		held := m.Stats().Bytes
		t.Logf("size %d, chunks of %d: heap %d (%.3f), held %d", tc.size, len(chunk), used, float64(used)/float64(tc.size), held)
		if used > tc.size+tc.size/10 {
			t.Errorf("size %d, chunks of %d: heap %d", tc.size, len(chunk), used)
		}
		if !tc.empty && held < tc.size*3/4 {
			t.Errorf("size %d: only %d held", tc.size, held)
		}
		runtime.KeepAlive(m)
		m.Close()
	}
}

func filled(b *testing.B, chunks uint64) *Tier {
	m := newTier(b, int64(chunks)*4096*13/10, 4096)
	data := make([]byte, 4096)
	for i := range chunks {
		m.Fill(m.BeginFill(1, i), 1, i, data)
		m.Get(nil, 1, i)
	}
	return m
}

func BenchmarkGet(b *testing.B) {
	const chunks = 1 << 14
	m := filled(b, chunks)
	b.ReportAllocs()
	b.SetBytes(4096)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 0, 4096)
		r := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for pb.Next() {
			m.Get(buf, 1, r.Uint64N(chunks))
		}
	})
	s := m.Stats()
	b.ReportMetric(float64(s.Hits)/float64(s.Hits+s.Misses), "hits/op")
}

func BenchmarkMiss(b *testing.B) {
	m := filled(b, 1<<14)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		m.Get(nil, 2, i)
	}
}

func BenchmarkFill(b *testing.B) {
	m := filled(b, 1<<14)
	data := make([]byte, 4096)
	b.ReportAllocs()
	b.SetBytes(4096)
	for i := uint64(0); b.Loop(); i++ {
		m.Fill(m.BeginFill(2, i), 2, i, data)
	}
}

func BenchmarkWrite(b *testing.B) {
	m := filled(b, 1<<14)
	data := make([]byte, 4096)
	b.ReportAllocs()
	b.SetBytes(4096)
	for i := uint64(0); b.Loop(); i++ {
		m.Write(1, i&(1<<14-1), data)
	}
}

func BenchmarkInvalidate100GiB(b *testing.B) {
	m := filled(b, 1<<16)
	for b.Loop() {
		m.Invalidate(3, 5, 100<<30/4096)
	}
}
