package journal

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/disk/disktest"
)

// TestWriteError: it is final, everyone who waits hears of it, and what was durable stays so.
func TestWriteError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disktest.New(disktest.Options{})
		j := startJournal(t, testOptions(fs, smallRing, 1), 1)
		good := mustPut(t, j, payload(1, 1, 10))
		mustSync(t, j, good)
		fs.SetOnOp(func(op, _ string) error {
			if op == disktest.OpWriteSync {
				time.Sleep(time.Millisecond)
				return errDisk
			}
			return nil
		})
		var wg sync.WaitGroup
		for range 5 {
			lsn := mustPut(t, j, payload(j.Last()+1, 1, 10))
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := j.Sync(context.Background(), lsn); !errors.Is(err, ErrFailed) || !errors.Is(err, errDisk) {
					t.Errorf("sync %d: %v", lsn, err)
				}
			}()
		}
		wg.Wait()
		fs.SetOnOp(nil)
		if err := j.Sync(context.Background(), good); err != nil {
			t.Errorf("sync of what is durable: %v", err)
		}
		if err := j.Sync(context.Background(), good+1); !errors.Is(err, ErrFailed) {
			t.Errorf("sync later: %v", err)
		}
		if err := j.Reserve(context.Background(), 1); !errors.Is(err, ErrFailed) {
			t.Errorf("reserve: %v", err)
		}
		if _, err := j.Append(nil, 0); !errors.Is(err, ErrFailed) {
			t.Errorf("append: %v", err)
		}
		if j.Durable() != good || !errors.Is(j.Usage().Failed, errDisk) {
			t.Errorf("durable %d, %v", j.Durable(), j.Usage().Failed)
		}
		if err := j.Close(context.Background()); !errors.Is(err, ErrFailed) {
			t.Errorf("close: %v", err)
		}
	})
}

// TestGroup: at most two runs are in flight, answers come in LSN order, and what waited meanwhile
// goes as one run.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disktest.New(disktest.Options{})
		j := startJournal(t, testOptions(fs, 16<<20, 1), 1)
		synctest.Wait()
		var flying, most, writes atomic.Int64
		fs.SetOnOp(func(op, _ string) error {
			if op == disktest.OpWriteSync {
				most.Store(max(most.Load(), flying.Add(1)))
				n := writes.Add(1)
				time.Sleep(time.Duration(2-n%2) * time.Millisecond) // the first of two takes longer
				flying.Add(-1)
			}
			return nil
		})
		var answered atomic.Uint64
		var wg sync.WaitGroup
		for range 200 {
			lsn := mustPut(t, j, payload(j.Last()+1, 1, 500))
			wg.Add(1)
			go func() {
				defer wg.Done()
				mustSync(t, j, lsn)
				if d := j.Durable(); d < lsn {
					t.Errorf("lsn %d answered, durable %d", lsn, d)
				}
				answered.Add(1)
			}()
			if lsn%20 == 0 {
				time.Sleep(100 * time.Microsecond)
			}
		}
		wg.Wait()
		if most.Load() != writers {
			t.Errorf("%d runs in flight", most.Load())
		}
		if writes.Load() > 12 {
			t.Errorf("%d writes for 200 records", writes.Load())
		}
		mustClose(t, j)
	})
}

// TestLazy: what nobody waits for is written before long, and Close writes the rest.
func TestLazy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disktest.New(disktest.Options{})
		j := startJournal(t, testOptions(fs, smallRing, 1), 1)
		for range 3 {
			lsn := mustPut(t, j, payload(j.Last()+1, 1, 10))
			time.Sleep(lazyDelay / 2)
			synctest.Wait()
			if j.Durable() >= lsn {
				t.Error("written at once though nobody waits")
			}
			time.Sleep(lazyDelay)
			synctest.Wait()
			if j.Durable() != lsn {
				t.Errorf("durable %d of %d", j.Durable(), lsn)
			}
		}
		lsn := mustPut(t, j, payload(j.Last()+1, 1, 10))
		mustClose(t, j)
		if j.Durable() != lsn {
			t.Errorf("durable %d of %d after close", j.Durable(), lsn)
		}
		if _, err := j.Append(nil, 0); !errors.Is(err, ErrClosed) {
			t.Errorf("append after close: %v", err)
		}
		if err := j.Sync(context.Background(), lsn); err != nil {
			t.Errorf("sync of what is durable after close: %v", err)
		}
	})
}

// TestSyncContext: who waits for another's write can stop waiting.
func TestSyncContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disktest.New(disktest.Options{})
		j := startJournal(t, testOptions(fs, smallRing, 1), 1)
		synctest.Wait()
		hang := make(chan struct{})
		fs.SetOnOp(func(op, _ string) error {
			if op == disktest.OpWriteSync {
				<-hang
			}
			return nil
		})
		for range writers {
			lsn := mustPut(t, j, payload(j.Last()+1, 1, 10))
			go func() { _ = j.Sync(context.Background(), lsn) }()
			synctest.Wait()
		}
		lsn := mustPut(t, j, payload(j.Last()+1, 1, 10))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := j.Sync(ctx, lsn); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("sync: %v", err)
		}
		if err := j.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close with a disk that hangs: %v", err)
		}
		if err := j.Sync(context.Background(), lsn); !errors.Is(err, ErrClosed) {
			t.Errorf("sync after close: %v", err)
		}
		close(hang)
		<-j.finished
	})
}

// TestStartRefuses what would lose records or let an older writer in.
func TestStartRefuses(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	j := startJournal(t, testOptions(fs, smallRing, 1), 5)
	for range 3 {
		mustSync(t, j, mustPut(t, j, payload(j.Last()+1, 5, 10)))
	}
	mustClose(t, j)
	j = openJournal(t, testOptions(fs, smallRing, 2))
	if err := j.Start(4, 3); err == nil {
		t.Error("started in an older epoch")
	}
	if err := j.Start(6, 2); err == nil {
		t.Error("started before a durable record")
	}
	if err := j.Reserve(context.Background(), 1); err == nil {
		t.Error("reserved before start")
	}
	if err := j.Start(6, 10); err != nil { // the tree is ahead: nothing here is needed
		t.Fatal(err)
	}
	if first, last := j.Held(); first != 0 || last != 0 {
		t.Errorf("held %d to %d", first, last)
	}
	if lsn := mustPut(t, j, nil); lsn != 11 {
		t.Errorf("lsn %d", lsn)
	}
	mustSync(t, j, 11)
	mustClose(t, j)
	j = openJournal(t, testOptions(fs, smallRing, 3))
	if first, last := j.Held(); first != 11 || last != 11 {
		t.Errorf("held %d to %d", first, last)
	}
	if _, err := replayAll(j, 3, 0); !errors.Is(err, ErrGone) {
		t.Errorf("replay of what was let go: %v", err)
	}
	mustClose(t, j)
}
