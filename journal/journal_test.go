package journal

import (
	"context"
	"errors"
	"testing"

	"zerofs/tiers/disk/disktest"
)

func TestAppendSyncReplay(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	size := func(lsn LSN) int { return int(lsn*lsn*37) % 9000 }
	next := LSN(1)
	for epoch := range 3 {
		j := startJournal(t, testOptions(fs, 4<<20, uint64(epoch)), 1)
		for range 50 {
			if lsn := mustPut(t, j, payload(next, 0, size(next))); lsn != next {
				t.Fatalf("lsn %d, want %d", lsn, next)
			}
			if next%7 == 0 {
				mustSync(t, j, next)
			}
			next++
		}
		mustClose(t, j)
	}
	j := openJournal(t, testOptions(fs, 4<<20, 9))
	if first, last := j.Held(); first != 1 || last != next-1 {
		t.Fatalf("held %d to %d, want 1 to %d", first, last, next-1)
	}
	recs, err := replayAll(j, 1, next-1)
	if err != nil || len(recs) != int(next-1) {
		t.Fatalf("replayed %d of %d: %v", len(recs), next-1, err)
	}
	checkRecords(t, recs, 1, func(lsn LSN) []byte { return payload(lsn, 0, size(lsn)) })
	mustClose(t, j)
}

func TestRecycle(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	j := startJournal(t, testOptions(fs, smallRing, 1), 1)
	var lsn LSN
	for range 1000 {
		lsn = mustPut(t, j, payload(lsn+1, 1, 5000))
		if lsn%3 == 0 {
			mustSync(t, j, lsn)
			j.Release(lsn - 2)
		}
	}
	mustClose(t, j)
	if n := len(segmentFiles(t, fs)); n > 4 {
		t.Fatalf("%d segments", n)
	}
	j = openJournal(t, testOptions(fs, smallRing, 2))
	first, last := j.Held()
	if last != lsn || first > lsn-2 {
		t.Fatalf("held %d to %d, appended %d", first, last, lsn)
	}
	recs, err := replayAll(j, first, last)
	if err != nil || len(recs) != int(last-first+1) {
		t.Fatalf("replayed %d: %v", len(recs), err)
	}
	checkRecords(t, recs, first, func(lsn LSN) []byte { return payload(lsn, 1, 5000) })
	if _, err := replayAll(j, 1, last); !errors.Is(err, ErrGone) {
		t.Fatalf("replay of what was released: %v", err)
	}
	mustClose(t, j)
}

func TestLargeRecord(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	j := startJournal(t, testOptions(fs, 2<<20, 1), 1)
	n := j.MaxRecord()
	for range 40 {
		lsn := mustPut(t, j, payload(j.Last()+1, 1, n))
		j.Release(lsn)
		mustPut(t, j, payload(lsn+1, 1, 100))
	}
	if err := j.Reserve(context.Background(), n+1); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("reserve of more than the largest record: %v", err)
	}
	mustSync(t, j, j.Last())
	mustClose(t, j)
}
