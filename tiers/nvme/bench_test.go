package nvme

import (
	"math/rand/v2"
	"testing"

	"zerofs/tiers/disk"
)

const benchBytes = 256 << 20

func benchTier(b *testing.B) (*Tier, int64) {
	tier := open(b, disk.OS(), b.TempDir(), 2<<30)
	w, err := tier.Create(testID(1))
	if err != nil {
		b.Fatal(err)
	}
	block := testData(1, 1<<20)
	for range benchBytes >> 20 {
		if _, err := w.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		b.Fatal(err)
	}
	return tier, benchBytes
}

// 16 readers of 4 KiB at random, each read with its own reference as tiers.FS does it.
func BenchmarkRandomRead4K(b *testing.B) {
	tier, size := benchTier(b)
	b.SetBytes(4096)
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		r := rand.New(rand.NewPCG(rand.Uint64(), 1))
		p := make([]byte, 4096)
		for pb.Next() {
			f, err := tier.OpenFile(testID(1), size)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := f.ReadAt(p, r.Int64N(size-4096)); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}

// The same on the raw file.
func BenchmarkRawRandomRead4K(b *testing.B) {
	tier, size := benchTier(b)
	f, err := tier.disk.OpenDirect(tier.path(testID(1), finalSuffix), false)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(4096)
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		r := rand.New(rand.NewPCG(rand.Uint64(), 1))
		p := disk.Alloc(4096)
		for pb.Next() {
			if _, err := f.ReadAt(p, r.Int64N(size/4096)*4096); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Frames of parts, as a cold read in an evicted file takes them.
func BenchmarkGetPartAt(b *testing.B) {
	tier := open(b, disk.OS(), b.TempDir(), 2<<30)
	const parts = 1024
	block := testData(1, PartSize)
	for p := range uint64(parts) {
		tier.PutPart(testID(1), p, block)
		waitParts(tier)
	}
	b.SetBytes(16384)
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		r := rand.New(rand.NewPCG(rand.Uint64(), 1))
		p := disk.Alloc(16384)
		for pb.Next() {
			if tier.GetPartAt(testID(1), r.Uint64N(parts), p, r.Int64N(8)*16384) == 0 {
				b.Fatal("a miss")
			}
		}
	})
}

// Blocks of 32 KiB one after the other, which straddle frames.
func BenchmarkSequentialRead32K(b *testing.B) {
	tier, size := benchTier(b)
	f, err := tier.OpenFile(testID(1), size)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 32768)
	b.SetBytes(32768)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		if _, err := f.ReadAt(p, i*32768%(size-32768)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	tier := open(b, disk.OS(), b.TempDir(), 8<<30)
	block := testData(1, 1<<20)
	b.SetBytes(64 << 20)
	i := 0
	for b.Loop() {
		i++
		w, err := tier.Create(testID(i))
		if err != nil {
			b.Fatal(err)
		}
		for range 64 {
			if _, err := w.Write(block); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Finish(); err != nil {
			b.Fatal(err)
		}
		tier.Remove(testID(i))
	}
}

func BenchmarkRawWrite(b *testing.B) {
	dir := b.TempDir()
	block := disk.Alloc(1 << 20)
	copy(block, testData(1, 1<<20))
	b.SetBytes(64 << 20)
	for b.Loop() {
		f, err := disk.OS().OpenDirect(dir+"/raw", true)
		if err != nil {
			b.Fatal(err)
		}
		for i := range int64(64) {
			if _, err := f.WriteAt(block, i<<20); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		f.Close()
		disk.OS().Remove(dir + "/raw")
	}
}
