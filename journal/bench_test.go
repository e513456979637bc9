package journal

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zerofs/tiers/disk"
)

// benchDir returns an empty directory on a real disk: below ZEROFS_BENCH_DIR, or of the working
// directory.
func benchDir(b *testing.B) string {
	b.Helper()
	parent := os.Getenv("ZEROFS_BENCH_DIR")
	if parent == "" {
		parent = "."
	}
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func benchJournal(b *testing.B) *Journal {
	b.Helper()
	opts := Options{Disk: disk.OS(), Dir: benchDir(b) + "/journal", Size: 256 << 20, Key: testKey(), Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler)}
	return startJournal(b, opts, 1)
}

// benchWarm writes the ring once, so that what is measured is recycled segments.
func benchWarm(b *testing.B, j *Journal) {
	b.Helper()
	p := randomPayload(1 << 20)
	for range 2 * 256 {
		lsn := mustPut(b, j, p)
		j.Release(lsn - min(lsn, 200))
	}
	mustSync(b, j, j.Last())
	j.Release(j.Last())
}

func randomPayload(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.Read(p)
	return p
}

// reportTimes adds percentiles of what one operation took.
func reportTimes(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2])/1e3, "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100])/1e3, "p99-µs")
}

// BenchmarkSync measures one writer that syncs each record of 4 KiB, beside raw writes of 4 KiB,
// and of 8 KiB, which is what a sealed record of 4 KiB takes. The three take turns, so that a disk
// whose speed changes meanwhile favours none.
func BenchmarkSync(b *testing.B) {
	j := benchJournal(b)
	benchWarm(b, j)
	raw := benchRaw(b, 16<<20)
	p := randomPayload(4096)
	buf := disk.Alloc(8192)
	copy(buf, p)
	var times [3][]time.Duration
	off := int64(0)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		lsn := mustPut(b, j, p)
		mustSync(b, j, lsn)
		times[0] = append(times[0], time.Since(began))
		j.Release(lsn)
		for i, n := range []int{4096, 8192} {
			began = time.Now()
			if _, err := raw.WriteAtSync(buf[:n], off); err != nil {
				b.Fatal(err)
			}
			times[1+i] = append(times[1+i], time.Since(began))
			off = (off + 8192) % (16 << 20)
		}
	}
	b.StopTimer()
	for i, name := range []string{"journal", "raw4k", "raw8k"} {
		slices.Sort(times[i])
		b.ReportMetric(float64(times[i][len(times[i])/2])/1e3, name+"-p50-µs")
	}
	b.ReportMetric(float64(times[0][len(times[0])/2])/float64(times[1][len(times[1])/2]), "ratio")
	mustClose(b, j)
}

func benchRaw(b *testing.B, size int64) disk.File {
	b.Helper()
	f, err := disk.OS().OpenDirect(benchDir(b)+"/raw", true)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	buf := disk.Alloc(1 << 20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if _, err := f.WriteAt(buf, off); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkGroup measures records of 4 KiB, each synced by its writer, with many writers.
func BenchmarkGroup(b *testing.B) {
	for _, writers := range []int{1, 4, 16, 64} {
		b.Run("journal-"+strconv.Itoa(writers), func(b *testing.B) {
			j := benchJournal(b)
			benchWarm(b, j)
			p := randomPayload(4096)
			b.ReportAllocs()
			benchParallel(b, writers, func() {
				lsn, err := put(j, p)
				if err == nil {
					err = j.Sync(context.Background(), lsn)
				}
				if err != nil {
					b.Error(err)
				}
				j.Release(lsn)
			})
			mustClose(b, j)
		})
		b.Run("raw-"+strconv.Itoa(writers), func(b *testing.B) {
			g := newRawGroup(benchRaw(b, 64<<20))
			p := randomPayload(4096)
			benchParallel(b, writers, func() { g.put(p) })
		})
	}
}

// benchParallel runs b.N operations on so many goroutines.
func benchParallel(b *testing.B, writers int, op func()) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	times := make([][]time.Duration, writers)
	b.ResetTimer()
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for left.Add(-1) >= 0 {
				began := time.Now()
				op()
				times[w] = append(times[w], time.Since(began))
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	reportTimes(b, slices.Concat(times...))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// rawGroup is group commit and nothing else: records of 4 KiB, two writes in flight, answers in
// order.
type rawGroup struct {
	f     disk.File
	off   int64
	mu    sync.Mutex
	cond  *sync.Cond
	open  *rawRun
	order []*rawRun
	busy  int
}

type rawRun struct {
	buf  []byte
	n    int
	done bool
	ack  bool
}

func newRawGroup(f disk.File) *rawGroup {
	g := &rawGroup{f: f, open: &rawRun{buf: disk.Alloc(1 << 20)}}
	g.cond = sync.NewCond(&g.mu)
	return g
}

func (g *rawGroup) put(p []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.open
	r.n += copy(r.buf[r.n:], p)
	for !r.ack {
		if r != g.open || g.busy == writers {
			g.cond.Wait()
			continue
		}
		g.open = &rawRun{buf: disk.Alloc(1 << 20)}
		g.order = append(g.order, r)
		g.busy++
		if g.off+int64(r.n) > 64<<20 {
			g.off = 0
		}
		off := g.off
		g.off += int64(r.n)
		g.mu.Unlock()
		if _, err := g.f.WriteAtSync(r.buf[:r.n], off); err != nil {
			panic(err)
		}
		g.mu.Lock()
		g.busy--
		r.done = true
		for len(g.order) > 0 && g.order[0].done {
			g.order[0].ack = true
			g.order = g.order[1:]
		}
		g.cond.Broadcast()
	}
}

// BenchmarkStream measures records of 1 MiB of random data with one sync at the end of each 64.
func BenchmarkStream(b *testing.B) {
	b.Run("journal", func(b *testing.B) {
		j := benchJournal(b)
		benchWarm(b, j)
		p := randomPayload(1 << 20)
		b.SetBytes(64 << 20)
		b.ResetTimer()
		for range b.N {
			for range 64 {
				mustPut(b, j, p)
			}
			mustSync(b, j, j.Last())
			j.Release(j.Last())
		}
		b.StopTimer()
		mustClose(b, j)
	})
	b.Run("raw", func(b *testing.B) {
		f := benchRaw(b, 64<<20)
		buf := disk.Alloc(1 << 20)
		copy(buf, randomPayload(1<<20))
		b.SetBytes(64 << 20)
		b.ResetTimer()
		for range b.N {
			for i := range int64(64) {
				if _, err := f.WriteAtSync(buf, i<<20); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
