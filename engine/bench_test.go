package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/memory"
)

// benchDevice returns a device of size bytes on a file system, of which the first written bytes hold
// random data. The log keeps nothing.
func benchDevice(b *testing.B, fs vfs.FS, dir string, size, written int64) *Device {
	b.Helper()
	log := newFakeLog()
	log.discard = true
	opts := testOptions(fs, log)
	opts.Dir, opts.MemTableSize, opts.BlockCache = dir, 0, 0
	e := openEngine(b, opts, log)
	d := openDevice(b, e, "bench", size)
	p := make([]byte, 1<<20)
	for off := int64(0); off < written; off += int64(len(p)) {
		fillRandom(p, uint64(off))
		if err := d.WriteAt(context.Background(), p, off, false); err != nil {
			b.Fatal(err)
		}
	}
	if written > 0 {
		flush(b, e)
	}
	return d
}

func flush(t testing.TB, e *Engine) {
	t.Helper()
	done, err := e.Flush()
	if err != nil {
		t.Fatal(err)
	}
	<-done
}

func fillRandom(p []byte, seed uint64) {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), byte(seed >> 32)})
	_, _ = r.Read(p)
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{512, 4 << 10, 8 << 10, 128 << 10} {
		for _, workers := range []int{1, 16} {
			b.Run(fmt.Sprintf("size=%d/workers=%d", size, workers), func(b *testing.B) {
				d := benchDevice(b, vfs.Default, b.TempDir(), 1<<30, 0)
				benchmarkIO(b, size, workers, func(p []byte, off int64) error {
					return d.WriteAt(context.Background(), p, off, false)
				})
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	const span = 256 << 20
	d := benchDevice(b, vfs.Default, b.TempDir(), span, span)
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		for _, workers := range []int{1, 16} {
			b.Run(fmt.Sprintf("size=%d/workers=%d", size, workers), func(b *testing.B) {
				benchmarkIO(b, size, workers, func(p []byte, off int64) error {
					return d.ReadAt(context.Background(), p, off%span)
				})
			})
		}
	}
}

func BenchmarkHotRead(b *testing.B) {
	tier, err := memory.New(64<<20, 4<<10)
	if err != nil {
		b.Fatal(err)
	}
	defer tier.Close()
	const span = 8 << 20
	d := benchDevice(b, vfs.Default, b.TempDir(), span, 0)
	d.e.cache = newChunkCache(tier)
	p := make([]byte, 4<<10)
	for range 2 {
		for off := int64(0); off < span; off += int64(len(p)) {
			fillRandom(p, uint64(off))
			if err := d.WriteAt(context.Background(), p, off, false); err != nil {
				b.Fatal(err)
			}
		}
	}
	benchmarkIO(b, 4<<10, 1, func(p []byte, off int64) error {
		return d.ReadAt(context.Background(), p, off%span)
	})
}

// benchmarkIO runs b.N operations of size bytes at random multiples of size within 1 GiB.
func benchmarkIO(b *testing.B, size, workers int, op func(p []byte, off int64) error) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.SetParallelism(workers)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
		p := make([]byte, size)
		fillRandom(p, rng.Uint64())
		for pb.Next() {
			if err := op(p, rng.Int64N(int64(1<<30/size))*int64(size)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
