package nvme

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
)

// A full disk makes a write wait, and go on when there is space; nothing is lost.
func TestWriteWaitsForSpace(t *testing.T) {
	for _, capacity := range []int64{0, 4096, 300 << 10, 900 << 10} { // full before the first byte, or in mid-file
		synctest.Test(t, func(t *testing.T) {
			fs := disktest.New(disktest.Options{})
			tier := open(t, fs, "/nvme", 64<<20)
			fs.SetCapacity(fs.Used() + capacity + 1)
			data := testData(1, 2_000_000)
			start := time.Now()
			done := make(chan error, 1)
			go func() { done <- tryWrite(tier, testID(1), data) }()
			time.Sleep(time.Hour)
			select {
			case err := <-done:
				t.Fatalf("capacity %d: write ended: %v", capacity, err)
			default:
			}
			if tier.Usage().Waiting == 0 {
				t.Fatal("nobody waits")
			}
			fs.SetCapacity(0)
			if err := <-done; err != nil {
				t.Fatalf("capacity %d: %v", capacity, err)
			}
			if took := time.Since(start); took > time.Hour+2*fullWaitMax {
				t.Errorf("write went on after %v", took)
			}
			if got, err := read(tier, testID(1), len(data), 100_000); err != nil || !bytes.Equal(got, data) {
				t.Fatal(err)
			}
			if u := tier.Usage(); u.Waiting != 0 {
				t.Errorf("%+v", u)
			}
			tier.Close()
		})
	}
}

// ENOSPC at each operation of a write in turn, for a while: it waits and succeeds, or fails if it
// is a sync and succeeds when it is done anew.
func TestFullAtEachOperation(t *testing.T) {
	for k := int64(1); ; k++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			fs := disktest.New(disktest.Options{})
			tier := open(t, fs, "/nvme", 64<<20)
			hook, n := disktest.Count()
			var failed atomic.Int64
			var failedSync atomic.Bool
			fs.SetOnOp(func(op, name string) error {
				hook(op, name)
				if disktest.Changes(op) && op != disktest.OpRemove && n.Load() >= k && failed.Add(1) <= 5 {
					if op == disktest.OpSync || op == disktest.OpSyncDir {
						failedSync.Store(true)
					}
					return disk.ErrFull
				}
				return nil
			})
			data := testData(1, 1_200_000)
			err := tryWrite(tier, testID(1), data)
			fs.SetOnOp(nil)
			done = failed.Load() == 0
			if failedSync.Load() {
				if !errors.Is(err, disk.ErrFull) || len(tableFiles(fs)) != 0 {
					t.Fatalf("full at sync %d: %v, %v", k, err, tableFiles(fs))
				}
				err = tryWrite(tier, testID(1), data)
			}
			if err != nil {
				t.Fatalf("full at %d: %v", k, err)
			}
			if got, err := read(tier, testID(1), len(data), 100_000); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("full at %d: %v", k, err)
			}
			tier.Close()
			clone := open(t, fs.CrashClone(1, 0), "/nvme", 64<<20)
			if got, err := read(clone, testID(1), len(data), 100_000); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("full at %d, then a crash: %v", k, err)
			}
			clone.Close()
		})
		if done {
			return
		}
	}
}

// Writers that wait end with the tier, or when somebody else aborts what they write.
func TestWaitEndsWithTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disktest.New(disktest.Options{})
		tier := open(t, fs, "/nvme", 64<<20)
		fs.SetCapacity(fs.Used() + 1)
		done := make(chan error, 1)
		go func() { done <- tryWrite(tier, testID(1), make([]byte, 100)) }()
		time.Sleep(time.Minute)
		w, err := tier.Create(testID(2))
		if err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, 3_000_000)[:600_000]) // its goroutine waits
		w.Abort()
		tier.Stop()
		if err := <-done; !errors.Is(err, ErrClosed) || !errors.Is(err, disk.ErrFull) {
			t.Fatal(err)
		}
		tier.Close()
		if _, err := tier.Create(testID(3)); !errors.Is(err, ErrClosed) {
			t.Errorf("Create after Close: %v", err)
		}
		if _, err := tier.OpenFile(testID(3), 1); !errors.Is(err, ErrClosed) {
			t.Errorf("OpenFile after Close: %v", err)
		}
	})
}

// Parts give way to a table that finds the disk full, and no read fails meanwhile.
func TestPartsGiveWayOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disktest.New(disktest.Options{})
		tier := open(t, fs, "/nvme", 64<<20)
		for p := range uint64(60) {
			tier.PutPart(testID(9), p, testData(int(p), PartSize))
		}
		synctest.Wait()
		fs.SetCapacity(fs.Used() + 4096)
		if err := tryWrite(tier, testID(1), testData(1, 3<<20)); err != nil {
			t.Fatal(err)
		}
		u := tier.Usage()
		if u.Parts >= 60*PartSize || u.Dirty < 3<<20 {
			t.Fatalf("%+v", u)
		}
		for p := range uint64(60) {
			if got := getPart(tier, testID(9), p); len(got) > 0 && !bytes.Equal(got, testData(int(p), PartSize)) {
				t.Errorf("part %d is wrong", p)
			}
		}
		tier.Close()
	})
}

// On a disk that is full at the start the part cache is emptied, and the tier opens.
func TestOpenOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disktest.New(disktest.Options{})
		tier := open(t, fs, "/nvme", 64<<20)
		write(t, tier, testID(1), testData(1, 100_000))
		for p := range uint64(60) {
			tier.PutPart(testID(9), p, testData(int(p), PartSize))
		}
		tier.Close()
		used := fs.Used()
		fs.SetCapacity(used)
		tier = open(t, fs, "/nvme", 64<<20)
		if fs.Used() > used-60*PartSize {
			t.Errorf("%d bytes used, %d before", fs.Used(), used)
		}
		if got, err := read(tier, testID(1), 100_000, 10_000); err != nil || !bytes.Equal(got, testData(1, 100_000)) {
			t.Error(err)
		}
		tier.Close()
		fs.SetOnOp(func(op, name string) error { // nothing can be made at all
			if op == disktest.OpCreate || op == disktest.OpWrite {
				return disk.ErrFull
			}
			return nil
		})
		fs.Remove("/nvme/parts.slab")
		fs.Remove("/nvme/ballast")
		tier = open(t, fs, "/nvme", 64<<20)
		tier.PutPart(testID(9), 1, []byte("x"))
		if len(getPart(tier, testID(9), 1)) != 0 || len(tier.Local()) != 1 {
			t.Error("more, or less, than the local copy")
		}
		tier.Close()
	})
}

// The index is saved now and then, so that a killed process loses little of the cache.
func TestIndexIsSavedPeriodically(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disktest.New(disktest.Options{})
		tier := open(t, fs, "/nvme", 64<<20)
		for p := range uint64(30) {
			tier.PutPart(testID(9), p, testData(int(p), PartSize))
		}
		time.Sleep(2 * saveEvery * maintainEvery)
		clone := open(t, fs.CrashClone(1, 0), "/nvme", 64<<20)
		for p := range uint64(30) {
			if got := getPart(clone, testID(9), p); !bytes.Equal(got, testData(int(p), PartSize)) {
				t.Fatalf("part %d has %d bytes", p, len(got))
			}
		}
		clone.Close()
		tier.Close()
	})
}
