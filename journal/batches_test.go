package journal

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"zerofs/tiers/disk/disktest"
)

// shipAll reads all batches from the given LSN on and checks them.
func shipAll(t *testing.T, j *Journal, from LSN, most int, want func(LSN) []byte) LSN {
	t.Helper()
	for next := from; ; {
		body, last, err := j.Batches(context.Background(), next, most)
		if err != nil {
			t.Fatalf("batches from %d: %v", next, err)
		}
		if body == nil {
			if last != next-1 {
				t.Fatalf("nothing from %d, yet to %d", next, last)
			}
			return last
		}
		bytesIn := 0
		err = DecodeBatches(body, func(lsn LSN, p []byte) error {
			if lsn != next || !bytes.Equal(p, want(lsn)) {
				t.Fatalf("lsn %d where %d comes next, %d bytes", lsn, next, len(p))
			}
			if bytesIn += len(p); bytesIn > most && bytesIn > len(p) {
				t.Fatalf("%d bytes, at most %d were asked for", bytesIn, most)
			}
			next++
			return nil
		})
		if err != nil || next != last+1 {
			t.Fatalf("decoded to %d of %d: %v", next-1, last, err)
		}
	}
}

func TestBatches(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	size := func(lsn LSN) []byte { return payload(lsn, 1, int(lsn*131)%12000) }
	j := startJournal(t, testOptions(fs, 32<<20, 1), 1)
	for range 2000 {
		lsn := mustPut(t, j, size(j.Last()+1))
		if lsn%10 == 0 {
			mustSync(t, j, lsn)
		}
	}
	mustSync(t, j, 2000)
	if j.tail.bytes > tailMost || j.tail.runs[0].first < 2 {
		t.Fatalf("tail of %d bytes from lsn %d", j.tail.bytes, j.tail.runs[0].first)
	}
	for _, from := range []LSN{1, 777, 1999, 2001} {
		for _, most := range []int{0, 300000, 1 << 20} {
			if most == 0 && from < 1999 {
				continue // a record at a time
			}
			if last := shipAll(t, j, from, most, size); last != 2000 {
				t.Fatalf("from %d: shipped to %d", from, last)
			}
		}
	}
	mustClose(t, j)
	if _, _, err := j.Batches(context.Background(), 1, 1); !errors.Is(err, ErrClosed) {
		t.Fatalf("after close: %v", err)
	}

	j = startJournal(t, testOptions(fs, 32<<20, 2), 1)
	if last := shipAll(t, j, 1, 1<<20, size); last != 2000 {
		t.Fatalf("after a restart: shipped to %d", last)
	}
	lsn := mustPut(t, j, size(2001))
	mustSync(t, j, lsn)
	if last := shipAll(t, j, 1900, 1<<20, size); last != 2001 {
		t.Fatalf("across two turns: shipped to %d", last)
	}
	j.Release(1000)
	if _, _, err := j.Batches(context.Background(), 1, 1); !errors.Is(err, ErrGone) {
		t.Fatalf("of what was released: %v", err)
	}
	mustClose(t, j)
}

// TestBatchesDurable: what is not durable is not shipped.
func TestBatchesDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := func(lsn LSN) []byte { return payload(lsn, 1, 10) }
		j := startJournal(t, testOptions(disktest.New(disktest.Options{}), smallRing, 1), 1)
		mustSync(t, j, mustPut(t, j, want(1)))
		mustPut(t, j, want(2))
		if last := shipAll(t, j, 1, 100, want); last != 1 {
			t.Errorf("shipped to %d", last)
		}
		mustClose(t, j)
	})
}

// TestBatchesWhileRecycled reads old records while their segments are written again: right ones,
// or ErrGone.
func TestBatchesWhileRecycled(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	j := startJournal(t, testOptions(fs, smallRing, 1), 1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for seed := range uint64(2) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(seed, 3))
			for {
				select {
				case <-stop:
					return
				default:
				}
				first, last := j.Held()
				if last == 0 {
					continue
				}
				from := first + LSN(rng.Uint64N(uint64(last-first)+1))
				body, _, err := j.Batches(context.Background(), from, 20000)
				if errors.Is(err, ErrGone) {
					continue
				}
				if err == nil {
					err = DecodeBatches(body, func(lsn LSN, p []byte) error {
						if !bytes.Equal(p, payload(lsn, 1, 3000)) {
							t.Errorf("lsn %d is wrong", lsn)
						}
						return nil
					})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for range 2000 {
		lsn := mustPut(t, j, payload(j.Last()+1, 1, 3000))
		if lsn%4 == 0 {
			mustSync(t, j, lsn)
			j.mu.Lock()
			for _, r := range j.tail.runs { // so that all is read from disk
				j.unrefLocked(r)
			}
			j.tail = tail{}
			j.mu.Unlock()
			j.Release(lsn - min(lsn, 20))
		}
	}
	close(stop)
	wg.Wait()
	mustClose(t, j)
}

func TestDecodeBatchesBad(t *testing.T) {
	b := bodyBuilder{first: 5, most: 1 << 20}
	for lsn := range LSN(3) {
		_ = b.add(lsn, bytes.Repeat([]byte{byte(lsn)}, 100))
	}
	good := b.body()
	for n := range good {
		if err := DecodeBatches(good[:n], func(LSN, []byte) error { return nil }); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	stop := errors.New("stop")
	if err := DecodeBatches(good, func(LSN, []byte) error { return stop }); err != stop {
		t.Errorf("error of fn: %v", err)
	}
}
