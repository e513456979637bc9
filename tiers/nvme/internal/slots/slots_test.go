package slots

import (
	"bytes"
	"encoding/binary"
	"flag"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata")

func id(n int) (f [16]byte) {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range f {
		f[i] = byte(r.Uint32())
	}
	return f
}

func key(file, part int) Key { return Key{File: id(file), Part: uint32(part)} }

// check looks at everything that must hold between the parts of a table.
func check(t *testing.T, tb *Table) {
	t.Helper()
	parts := 0
	counts := map[uint32]uint32{}
	for _, q := range []queue{tb.small, tb.main} {
		n, prev := 0, uint32(0)
		for s := q.oldest; s != 0; s = tb.slots[s-1].next {
			e := &tb.slots[s-1]
			if e.state != ready || e.prev != prev || tb.queueOf(e) == nil {
				t.Fatalf("slot %d: %+v in a queue after %d", s-1, *e, prev)
			}
			if got, ok := tb.find(Key{File: tb.files[e.file].id, Part: e.part}); !ok || got != s-1 {
				t.Fatalf("slot %d is found as %d, %v", s-1, got, ok)
			}
			counts[e.file]++
			prev = s
			n++
		}
		if n != q.n || q.newest != prev {
			t.Fatalf("queue of %d has %d", q.n, n)
		}
		parts += n
	}
	for num, n := range counts {
		if tb.files[num].parts != n || tb.fileOf[tb.files[num].id] != num {
			t.Fatalf("file %d: %+v has %d parts", num, tb.files[num], n)
		}
	}
	if len(counts) != len(tb.fileOf) {
		t.Fatalf("%d files named, %d have parts", len(tb.fileOf), len(counts))
	}
	if parts+tb.nFree+tb.nHole+tb.nBusy != len(tb.slots) {
		t.Fatalf("%d ready, %d free, %d holes, %d busy of %d", parts, tb.nFree, tb.nHole, tb.nBusy, len(tb.slots))
	}
}

// A table beside a map: what it holds is what was put there, until it says otherwise.
func TestAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		tb, held := New(100), map[Key]uint32{}
		limit := 1 + r.IntN(200)
		for range 3000 {
			k := key(r.IntN(8), r.IntN(100)*(1+r.IntN(2)*1e6))
			switch r.IntN(10) {
			case 0:
				if _, was := held[k]; tb.Delete(k) && !was {
					t.Fatalf("seed %d: %v was there", seed, k)
				}
				delete(held, k)
			case 1:
				if r.IntN(20) == 0 {
					tb.DeleteFile(k.File)
					for o := range held {
						if o.File == k.File {
							delete(held, o)
						}
					}
				}
			case 2:
				for _, slot := range tb.TakeAny(r.IntN(4)) {
					tb.Punched(slot)
				}
			case 3, 4, 5:
				ref, ok := tb.Get(k)
				if n, was := held[k]; ok && (!was || ref.N != n || !tb.Still(ref)) {
					t.Fatalf("seed %d: %v gives %+v, want %d", seed, k, ref, n)
				}
			default:
				slot, ok := tb.Take(tb.Occupied() < limit)
				if !ok {
					t.Fatalf("seed %d: no slot in %d of %d", seed, tb.Occupied(), limit)
				}
				if was := tb.Has(k); was || r.IntN(10) == 0 {
					tb.Release(slot)
					continue
				}
				held[k] = uint32(1 + r.IntN(100))
				tb.Publish(slot, k, held[k])
			}
			if tb.Occupied() > limit {
				t.Fatalf("seed %d: %d slots occupied, limit %d", seed, tb.Occupied(), limit)
			}
		}
		check(t, tb)
		again, err := Decode(tb.Encode(nil), 100, uint32(tb.Slots()))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		check(t, again)
		for k, n := range held {
			a, okA := tb.Get(k)
			b, okB := again.Get(k)
			if okA != okB || a.Slot != b.Slot || a.N != b.N || okA && a.N != n {
				t.Fatalf("seed %d: %v is %+v, %v and decoded %+v, %v", seed, k, a, okA, b, okB)
			}
		}
		tb.Clear()
		check(t, tb)
		if tb.Ready() != 0 || tb.Occupied() != 0 {
			t.Fatalf("%d ready, %d occupied after Clear", tb.Ready(), tb.Occupied())
		}
	}
}

// A slot that was given to another part, or to the same one again, is not still the same.
func TestStill(t *testing.T) {
	tb := New(100)
	put := func(k Key) {
		slot, _ := tb.Take(tb.Slots() == 0)
		tb.Publish(slot, k, 10)
	}
	put(key(1, 1))
	ref, _ := tb.Get(key(1, 1))
	if !tb.Still(ref) {
		t.Fatal("nothing happened and it is gone")
	}
	put(key(1, 2))
	if tb.Still(ref) {
		t.Fatal("another part is taken for the first")
	}
	put(key(1, 1))
	if tb.Still(ref) {
		t.Fatal("the part written anew is taken for the old")
	}
}

// zipf reads and misses fill; a long scan goes by now and then.
func hitRatio(scan bool) float64 {
	const parts, capacity = 4000, 400
	r := rand.New(rand.NewPCG(7, 7))
	z := rand.NewZipf(r, 1.01, 1, parts-1)
	tb := New(100)
	hits, reads, next := 0, 0, 0
	read := func(k Key) bool {
		if _, ok := tb.Get(k); ok {
			return true
		}
		slot, _ := tb.Take(tb.Occupied() < capacity)
		tb.Publish(slot, k, 10)
		return false
	}
	for i := range 200_000 {
		if scan && i%2000 == 0 {
			for range 2 * capacity {
				k := key(2, next)
				for range 8 { // its frames, one after the other
					read(k)
				}
				next++
			}
		}
		reads++
		if read(key(1, int(z.Uint64()))) {
			hits++
		}
	}
	return float64(hits) / float64(reads)
}

func TestScanDoesNotWashOut(t *testing.T) {
	alone, mixed := hitRatio(false), hitRatio(true)
	t.Logf("hit ratio %.3f alone, %.3f with scans", alone, mixed)
	if alone < 0.68 || mixed < alone-0.06 {
		t.Errorf("hit ratio %.3f alone, %.3f with scans", alone, mixed)
	}
}

func golden() *Table {
	tb := New(131072)
	for i := range 6 {
		slot, _ := tb.Take(true)
		tb.Publish(slot, key(i%2, i), uint32(131072-i))
	}
	tb.Get(key(1, 3))
	tb.Take(false)
	tb.Delete(key(0, 4))
	return tb
}

func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "index.golden")
	got := golden().Encode(nil)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("format changed:\n%x\n%x", got, want)
	}
	if _, err := Decode(want, 131072, 6); err != nil {
		t.Error(err)
	}
	for i := range want {
		bad := bytes.Clone(want)
		bad[i] ^= 1
		if _, err := Decode(bad, 131072, 6); err == nil {
			t.Errorf("byte %d flipped goes unnoticed", i)
		}
		if _, err := Decode(want[:i], 131072, 6); err == nil {
			t.Errorf("cut at %d goes unnoticed", i)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(golden().Encode(nil))
	f.Add(New(10).Encode(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		tb, err := Decode(fixSum(data), 131072, 1<<12)
		if err != nil {
			return
		}
		check(t, tb)
		again, err := Decode(tb.Encode(nil), 131072, 1<<12)
		if err != nil {
			t.Fatal(err)
		}
		check(t, again)
		if again.Ready() != tb.Ready() {
			t.Fatalf("%d parts, %d after a round", tb.Ready(), again.Ready())
		}
	})
}

func BenchmarkGet(b *testing.B) {
	tb := New(100)
	for i := range 100_000 {
		slot, _ := tb.Take(true)
		tb.Publish(slot, Key{File: [16]byte{byte(i >> 9)}, Part: uint32(i & 511)}, 10)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		j := i * 7919 % 100_000
		tb.Get(Key{File: [16]byte{byte(j >> 9)}, Part: uint32(j & 511)})
	}
}

// fixSum makes the checksum fit, so that the fuzzer gets past it.
func fixSum(data []byte) []byte {
	if len(data) < sumSize {
		return data
	}
	body := data[:len(data)-sumSize]
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

func TestMemoryPerSlot(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	const n = 1 << 17
	before := heap()
	tb := New(100)
	for i := range n + 1 { // just past a power of two: the worst place
		slot, _ := tb.Take(true)
		tb.Publish(slot, Key{File: [16]byte{byte(i >> 17), byte(i >> 9)}, Part: uint32(i & 511)}, 10)
	}
	per := float64(heap()-before) / n
	runtime.KeepAlive(tb)
	t.Logf("%.1f bytes per slot", per)
	if per > 64 {
		t.Errorf("%.1f bytes per slot", per)
	}
}
