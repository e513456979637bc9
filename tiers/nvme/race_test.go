package nvme

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
)

// Everything at once on a tier that is too small: a read gives a file's bytes, or says that there is
// no local copy; a dirty file is always there.
func TestConcurrently(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 5<<20)
	const n, fileSize = 40, 200_000
	var data [n][]byte
	for i := range data {
		data[i] = testData(i, fileSize)
	}
	var hits, misses atomic.Int64
	var owners, readers sync.WaitGroup
	stop := make(chan struct{})
	for o := range 2 { // each owns half of the files: it alone writes, marks and removes them
		owners.Go(func() {
			r := rand.New(rand.NewPCG(uint64(o), 5))
			for range 60 {
				i := r.IntN(n/2)*2 + o
				id := testID(i)
				tier.Remove(id)
				err := tryWrite(tier, id, data[i])
				if err != nil && tier.Local()[id] == 0 {
					continue // the removed one is still read
				}
				if got, err := read(tier, id, fileSize, 100_000); err != nil || !bytes.Equal(got, data[i]) {
					t.Errorf("dirty file %d: %v", i, err)
				}
				tier.MarkClean(id)
			}
		})
	}
	for seed := range uint64(4) {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 6))
			p := make([]byte, 50_000)
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := r.IntN(n)
				file, err := tier.OpenFile(testID(i), fileSize)
				if errors.Is(err, ErrNotLocal) {
					misses.Add(1)
					tier.PutPart(testID(1000+i), 0, data[i][:PartSize])
					continue
				}
				if err != nil {
					t.Errorf("open %d: %v", i, err)
					return
				}
				off := r.Int64N(fileSize - int64(len(p)))
				if _, err := file.ReadAt(p, off); err != nil || !bytes.Equal(p, data[i][off:][:len(p)]) {
					t.Errorf("read %d: %v", i, err)
				}
				hits.Add(1)
				file.Close()
				if r.IntN(50) == 0 {
					tier.closeIdle(r.Int64N(10))
				}
				tier.Usage()
			}
		})
	}
	owners.Wait()
	close(stop)
	readers.Wait()
	waitParts(tier)
	for id := range tier.Local() {
		tier.Remove(id)
	}
	u := tier.Usage()
	if u.Dirty != 0 || u.Clean != 0 || len(tableFiles(fs)) != 0 || tier.opened.Load() != 0 {
		t.Errorf("%+v, %d files, %d open", u, len(tableFiles(fs)), tier.opened.Load())
	}
	if hits.Load() == 0 || misses.Load() == 0 || u.Evicted == 0 {
		t.Errorf("%d hits, %d misses, %+v", hits.Load(), misses.Load(), u)
	}
}

// One reader used by many goroutines, in overlapping reads that share frames.
func TestOneReaderShared(t *testing.T) {
	tier := open(t, disk.OS(), t.TempDir(), 64<<20)
	data := testData(1, 3<<20)
	write(t, tier, testID(1), data)
	file, err := tier.OpenFile(testID(1), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var workers sync.WaitGroup
	for seed := range uint64(8) {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 7))
			for range 200 {
				p := make([]byte, r.IntN(70_000))
				off := r.Int64N(int64(len(data) - len(p)))
				if n, err := file.ReadAt(p, off); n != len(p) || err != nil || !bytes.Equal(p, data[off:][:n]) {
					t.Errorf("%d bytes at %d: %d, %v", len(p), off, n, err)
				}
			}
		})
	}
	workers.Wait()
}
