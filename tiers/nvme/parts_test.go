package nvme

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/seal"
)

func getPart(tier *Tier, id seal.FileID, part uint64) []byte {
	dst := disk.Alloc(PartSize)
	return dst[:tier.GetPart(id, part, dst)]
}

func TestParts(t *testing.T) {
	for _, on := range []struct {
		name string
		fs   disk.FS
		dir  string
	}{
		{"memory", disktest.New(disktest.Options{}), "/nvme"},
		{"os", disk.OS(), t.TempDir()},
	} {
		t.Run(on.name, func(t *testing.T) {
			tier := open(t, on.fs, on.dir, 64<<20)
			lengths := []int{PartSize, 1, 4095, 4096, seal.FrameSize + 1, PartSize - 1}
			for i, n := range lengths {
				tier.PutPart(testID(1), uint64(i), testData(i, n))
			}
			check := func(when string) {
				t.Helper()
				for i, n := range lengths {
					if got := getPart(tier, testID(1), uint64(i)); !bytes.Equal(got, testData(i, n)) {
						t.Fatalf("%s: part %d has %d bytes, want %d", when, i, len(got), n)
					}
				}
			}
			check("at once")
			waitParts(tier)
			check("from the disk")
			checkPartAt(t, tier, testData(0, PartSize))
			for _, bad := range []struct{ part, n uint64 }{{1 << 40, 10}, {77, 0}, {78, PartSize + 1}} {
				tier.PutPart(testID(1), bad.part, make([]byte, bad.n))
				if got := getPart(tier, testID(1), bad.part); len(got) != 0 {
					t.Fatalf("part %d of %d bytes was taken", bad.part, bad.n)
				}
			}
			if err := tier.Close(); err != nil {
				t.Fatal(err)
			}
			tier = open(t, on.fs, on.dir, 64<<20)
			check("after reopening")
			if u := tier.Usage(); u.PartHits != int64(len(lengths)) || u.PartMisses != 0 {
				t.Fatalf("%+v", u)
			}
			tier.DropPart(testID(1), 2)
			if len(getPart(tier, testID(1), 2)) != 0 || len(getPart(tier, testID(1), 1)) == 0 {
				t.Fatal("DropPart dropped nothing, or too much")
			}
			tier.PutPart(testID(2), 0, []byte("other"))
			tier.Remove(testID(1))
			for i := range lengths {
				if len(getPart(tier, testID(1), uint64(i))) != 0 {
					t.Fatalf("part %d of a removed file", i)
				}
			}
			if string(getPart(tier, testID(2), 0)) != "other" {
				t.Fatal("Remove took another file's part")
			}
		})
	}
}

// checkPartAt reads frames out of part 0 of file 1, with aligned buffers and others.
func checkPartAt(t *testing.T, tier *Tier, want []byte) {
	t.Helper()
	for _, tc := range []struct {
		off int64
		n   int
	}{{0, 100}, {seal.FrameSize, seal.FrameSize}, {3 * seal.FrameSize, 2 * seal.FrameSize}, {7 * seal.FrameSize, PartSize}, {7 * seal.FrameSize, 5}} {
		buf := disk.Alloc(tc.n + disk.Align)
		for _, dst := range [][]byte{buf[:tc.n], buf[1 : 1+tc.n]} {
			rest := want[tc.off:]
			n := tier.GetPartAt(testID(1), 0, dst, tc.off)
			if n != min(len(rest), tc.n) || !bytes.Equal(dst[:n], rest[:n]) {
				t.Fatalf("%d bytes at %d: %d", tc.n, tc.off, n)
			}
		}
	}
	for _, off := range []int64{-seal.FrameSize, 1, 4096, PartSize, 1 << 40} {
		if n := tier.GetPartAt(testID(1), 0, make([]byte, 100), off); n != 0 {
			t.Fatalf("offset %d gives %d bytes", off, n)
		}
	}
}

// Every byte of the index, flipped: the cache starts, and what it has is right or missing.
func TestDamagedIndex(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 16<<20)
	for i := range 5 {
		tier.PutPart(testID(1), uint64(i), testData(i, 5000))
	}
	tier.Close()
	index, err := fs.ReadFile("/nvme/parts.index")
	if err != nil {
		t.Fatal(err)
	}
	for off := range index {
		clone := fs.KillClone()
		clone.Damage("/nvme/parts.index", int64(off), 1)
		tier := open(t, clone, "/nvme", 16<<20)
		if u := tier.Usage(); u.Parts != 0 {
			t.Fatalf("byte %d flipped: %+v", off, u)
		}
		tier.Close()
	}
	tier = open(t, fs, "/nvme", 16<<20)
	if u := tier.Usage(); u.Parts != 5*PartSize {
		t.Fatalf("%+v", u)
	}
}

// A slab that does not have what the index says loses parts and no more.
func TestIndexOlderThanSlab(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 16<<20)
	for i := range 5 {
		tier.PutPart(testID(1), uint64(i), testData(i, 5000))
	}
	tier.Close()
	f, err := fs.OpenDirect("/nvme/parts.slab", false)
	if err != nil {
		t.Fatal(err)
	}
	f.Truncate(2*PartSize + 4096)
	f.Close()
	tier = open(t, fs, "/nvme", 16<<20)
	for i := range 5 {
		if got := getPart(tier, testID(1), uint64(i)); len(got) != 0 && !bytes.Equal(got, testData(i, 5000)) {
			t.Errorf("part %d is wrong", i)
		}
	}
}

// Errors of the disk make misses, not errors.
func TestPartErrorsAreMisses(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 16<<20)
	broken := errors.New("broken")
	tier.PutPart(testID(1), 0, testData(0, 5000))
	waitParts(tier)
	fs.SetOnOp(disktest.FailName("parts.slab", broken, disktest.OpRead))
	if len(getPart(tier, testID(1), 0)) != 0 {
		t.Fatal("a read that failed is a hit")
	}
	fs.SetOnOp(disktest.FailName("parts.slab", broken, disktest.OpWrite))
	tier.PutPart(testID(1), 1, testData(1, 5000))
	waitParts(tier)
	fs.SetOnOp(nil)
	for i := range uint64(2) {
		if len(getPart(tier, testID(1), i)) != 0 {
			t.Fatalf("part %d is there", i)
		}
	}
	if u := tier.Usage(); u.PartsDropped != 1 || u.Parts > 2*PartSize {
		t.Fatalf("%+v", u)
	}
	tier.PutPart(testID(1), 1, testData(1, 5000))
	waitParts(tier)
	if !bytes.Equal(getPart(tier, testID(1), 1), testData(1, 5000)) {
		t.Fatal("no part is taken any more")
	}
}

// A disk that does not keep up makes the cache drop parts, not its caller wait.
func TestPutPartDoesNotBlock(t *testing.T) {
	stuck := make(chan struct{})
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 64<<20)
	fs.SetOnOp(func(op, name string) error {
		if op == disktest.OpWrite {
			<-stuck
		}
		return nil
	})
	for i := range uint64(3 * partQueue) {
		tier.PutPart(testID(1), i, testData(int(i), 3000))
	}
	held := 0
	for i := range uint64(3 * partQueue) {
		if got := getPart(tier, testID(1), i); len(got) > 0 {
			held++
			if !bytes.Equal(got, testData(int(i), 3000)) {
				t.Fatalf("part %d is wrong", i)
			}
		}
	}
	if got := tier.Usage().PartsDropped; got != int64(3*partQueue-held) {
		t.Errorf("%d dropped, %d held", got, held)
	}
	if held < partQueue || held > partQueue+partWriters {
		t.Errorf("%d parts held", held)
	}
	tier.DropPart(testID(1), 0) // is being written
	tier.DropPart(testID(1), 5) // waits
	close(stuck)
	waitParts(tier)
	tier.Close() // and with it those writers
	tier = open(t, fs, "/nvme", 64<<20)
	for _, p := range []uint64{0, 5} {
		if len(getPart(tier, testID(1), p)) != 0 {
			t.Errorf("part %d, which was dropped while it waited, is there", p)
		}
	}
	if len(getPart(tier, testID(1), 1)) == 0 {
		t.Error("part 1 is not there")
	}
}

// A slot that gets another part while it is read is a miss.
func TestSlotReusedWhileRead(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 64<<20)
	tier.PutPart(testID(1), 0, testData(0, 5000))
	waitParts(tier)
	fs.SetOnOp(func(op, name string) error {
		if op == disktest.OpRead {
			fs.SetOnOp(nil)
			tier.DropPart(testID(1), 0)
			tier.PutPart(testID(1), 1, testData(1, 5000))
			waitParts(tier)
		}
		return nil
	})
	if got := getPart(tier, testID(1), 0); len(got) != 0 {
		t.Errorf("%d bytes of another part", len(got))
	}
	if got := tier.parts.table.Slots(); got != 1 {
		t.Fatalf("%d slots: the test does not do what it says", got)
	}
}

// Readers, writers and removers of few parts at once, in a cache that has room for half of them.
func TestPartsConcurrently(t *testing.T) {
	tier := open(t, disktest.New(disktest.Options{}), "/nvme", SizeMin)
	var workers sync.WaitGroup
	const files, parts = 3, 20
	var data [files][parts][]byte
	for f := range files {
		for p := range parts {
			data[f][p] = testData(f*parts+p, 3000)
		}
	}
	for seed := range uint64(6) {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			dst := disk.Alloc(PartSize)
			for range 1500 {
				f, p := r.IntN(files), r.IntN(parts)
				switch r.IntN(12) {
				case 0:
					tier.DropPart(testID(f), uint64(p))
				case 1:
					if r.IntN(10) == 0 {
						tier.Remove(testID(f))
					}
				case 2:
					if r.IntN(10) == 0 {
						tier.making.Lock()
						tier.parts.shrink(1)
						tier.making.Unlock()
					}
				case 3, 4, 5, 6:
					tier.PutPart(testID(f), uint64(p), data[f][p])
				default:
					if n := tier.GetPart(testID(f), uint64(p), dst); n > 0 && !bytes.Equal(dst[:n], data[f][p]) {
						t.Errorf("file %d part %d: %d wrong bytes", f, p, n)
					}
				}
			}
		})
	}
	workers.Wait()
	waitParts(tier)
	u := tier.Usage()
	if u.PartHits == 0 || u.PartMisses == 0 || u.Parts > u.Size || u.Parts != int64(tier.parts.table.Occupied())*PartSize {
		t.Errorf("%+v, %d slots", u, tier.parts.table.Occupied())
	}
}
