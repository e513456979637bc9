package journal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
)

// flip inverts one bit of a byte of a file, durably.
func flip(t testing.TB, fs *disktest.FS, path string, at int64) {
	t.Helper()
	f, err := fs.OpenDirect(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := disk.Alloc(disk.Align)
	base := at &^ (disk.Align - 1)
	if _, err := f.ReadAt(b, base); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	b[at-base] ^= 0x10
	if _, err := f.WriteAtSync(b, base); err != nil {
		t.Fatal(err)
	}
}

// damageWorld returns a disk with a journal of three turns whose ring went round, and the first
// record that is needed. The last turn ends by a clean Close or by a kill.
func damageWorld(t *testing.T, clean bool) (fs *disktest.FS, from, last LSN) {
	t.Helper()
	fs = disktest.New(disktest.Options{})
	for turn := range 3 {
		j := startJournal(t, testOptions(fs, smallRing, uint64(turn)), 1)
		for range []int{60, 11, 9}[turn] {
			lsn := mustPut(t, j, payload(j.Last()+1, 1, damageSize(j.Last()+1)))
			mustSync(t, j, lsn)
			if turn == 0 && lsn > 10 {
				j.Release(lsn - 10)
			}
		}
		last = j.Last()
		if turn < 2 || clean {
			mustClose(t, j)
			continue
		}
		was := fs
		fs = fs.KillClone()
		defer func() { was.Crash(); _ = j.Close(context.Background()) }()
	}
	return fs, 51, last
}

func damageSize(lsn LSN) int { return int(lsn*1777) % 9000 }

// liveBytes returns the ranges of each segment whose every byte is needed to replay from on.
func liveBytes(t *testing.T, fs *disktest.FS, from LSN) map[string][][2]int64 {
	t.Helper()
	j := openJournal(t, testOptions(fs, smallRing, 99))
	defer j.Close(context.Background())
	live := map[string][][2]int64{}
	for _, s := range j.found.live {
		sc := scanner{keys: newKeyring(testKey())}
		sc.scan(s, &s.hdr, s.ready, firstRun)
		for {
			f, ok, err := sc.next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if f.count > 0 && f.last() >= from && f.first <= s.last {
				live[s.path] = append(live[s.path], [2]int64{f.off, f.off + f.size()})
			}
		}
		if len(live[s.path]) > 0 {
			live[s.path] = append(live[s.path], [2]int64{0, disk.Align})
		}
	}
	return live
}

// TestDamage flips bytes all over the ring. In what is needed and named durable each must be
// found, and the file named; nothing else may be replayed wrong, or be missing.
func TestDamage(t *testing.T) {
	step := int64(61)
	if testing.Short() {
		step = 997
	}
	for _, clean := range []bool{true, false} {
		fs, from, last := damageWorld(t, clean)
		live := liveBytes(t, fs, from)
		j := openJournal(t, testOptions(fs, smallRing, 98))
		known := j.found.known
		mustClose(t, j)
		if clean && known != last || !clean && known != last-1 {
			t.Fatalf("clean %v: known %d of %d", clean, known, last)
		}
		found := 0
		for _, path := range segmentFiles(t, fs) {
			for at := int64(0); at < segmentMin; at += step {
				if within := at % disk.Align; within > 120 && step < 100 && at%5 != 0 {
					continue
				}
				found += checkFlip(t, fs, path, at, from, last, known, live[path], clean)
			}
		}
		if found < 200/int(step) {
			t.Fatalf("%d flips were found", found)
		}
	}
}

// checkFlip flips one byte, replays and flips it back. It returns 1 if the damage was reported.
func checkFlip(t *testing.T, fs *disktest.FS, path string, at int64, from, last, known LSN, live [][2]int64, clean bool) int {
	t.Helper()
	flip(t, fs, path, at)
	defer flip(t, fs, path, at)
	recs, err := openAndReplay(fs, from)
	checkRecords(t, recs, from, func(lsn LSN) []byte { return payload(lsn, 1, damageSize(lsn)) })
	needed := false
	for _, r := range live {
		needed = needed || r[0] <= at && at < r[1]
	}
	got := from + LSN(len(recs)) - 1
	switch {
	case err != nil && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path)):
		t.Fatalf("%s at %d: error does not name it: %v", path, at, err)
	case err != nil:
		return 1
	case got < known:
		t.Fatalf("%s at %d: replayed to %d without error, known to %d", path, at, got, known)
	case needed && clean:
		t.Fatalf("%s at %d: needed, and no error", path, at)
	case needed && got == last:
		t.Fatalf("%s at %d: needed, and all was replayed", path, at)
	}
	return 0
}

func openAndReplay(fs *disktest.FS, from LSN) ([]record, error) {
	j, err := Open(context.Background(), testOptions(fs, smallRing, 7))
	if err != nil {
		return nil, err
	}
	defer j.Close(context.Background())
	return replayAll(j, from, 0)
}

// TestDamageCovered: the last record, which no other names, is damage if the caller knows it.
func TestDamageCovered(t *testing.T) {
	fs, from, last := damageWorld(t, false)
	live := liveBytes(t, fs, last)
	for path, ranges := range live {
		flip(t, fs, path, ranges[0][0]+runHdrSize)
		j := openJournal(t, testOptions(fs, smallRing, 7))
		if recs, err := replayAll(j, from, 0); err != nil || len(recs) != int(last-from) {
			t.Fatalf("torn tail: %d records: %v", len(recs), err)
		}
		if _, err := replayAll(j, from, last); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
			t.Fatalf("covered: %v", err)
		}
		if _, err := replayAll(j, last+1, last); err != nil {
			t.Fatalf("nothing is wanted: %v", err)
		}
		mustClose(t, j)
	}
}

// TestDamageBehindCovered: records behind damage that is covered from elsewhere are not lost, and
// stay held when the journal starts after them.
func TestDamageBehindCovered(t *testing.T) {
	fs, _, last := damageWorld(t, true)
	hole := last - 3
	live := liveBytes(t, fs, hole)
	for path, ranges := range live {
		flip(t, fs, path, ranges[0][0])
	}
	for turn := range 2 {
		j := openJournal(t, testOptions(fs, smallRing, 70+uint64(turn)))
		if _, err := replayAll(j, hole, 0); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("hole: %v", err)
		}
		recs, err := replayAll(j, hole+1, hole)
		if err != nil || len(recs) != 3 {
			t.Fatalf("behind the hole: %d records: %v", len(recs), err)
		}
		if err := j.Start(1, last); err != nil {
			t.Fatal(err)
		}
		mustClose(t, j)
	}
}

// TestSwapped: segments under each other's names hold the same records; a copy of one is refused.
func TestSwapped(t *testing.T) {
	fs, from, last := damageWorld(t, true)
	paths := segmentFiles(t, fs)
	for _, r := range [][2]string{{paths[0], "/x"}, {paths[1], paths[0]}, {"/x", paths[1]}} {
		if err := fs.Rename(r[0], r[1]); err != nil {
			t.Fatal(err)
		}
	}
	recs, err := openAndReplay(fs, from)
	if err != nil || len(recs) != int(last-from+1) {
		t.Fatalf("swapped: %d records: %v", len(recs), err)
	}
	copySegment(t, fs, paths[0], fs.PathJoin(testDir, segmentName(77)))
	if _, err := openAndReplay(fs, from); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("copied: %v", err)
	}
}

func copySegment(t *testing.T, fs *disktest.FS, from, to string) {
	t.Helper()
	src, err := fs.OpenDirect(from, false)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := fs.OpenDirect(to, true)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	b := disk.Alloc(segmentMin)
	if _, err := src.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if _, err := dst.WriteAtSync(b, 0); err != nil {
		t.Fatal(err)
	}
}

// TestTornBeyond loses the first of two runs in flight and keeps the second: neither is replayed,
// nor is the second when the gap before it has been filled by a later turn.
func TestTornBeyond(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	j := startJournal(t, testOptions(fs, smallRing, 1), 1)
	first := mustPut(t, j, payload(1, 1, 100))
	mustSync(t, j, first)

	hold, held := make(chan struct{}), make(chan struct{})
	var writes atomic.Int64
	fs.SetOnOp(func(op, _ string) error {
		if op == disktest.OpWriteSync {
			if writes.Add(1) == 1 {
				close(held)
				<-hold
				return disktest.ErrCrash
			}
		}
		return nil
	})
	lsn := mustPut(t, j, payload(2, 1, 100))
	torn := make(chan error)
	go func() { torn <- j.Sync(context.Background(), lsn) }()
	<-held
	beyond := mustPut(t, j, payload(3, 1, 100))
	answered := make(chan error)
	go func() { answered <- j.Sync(context.Background(), beyond) }()
	for { // until the second run is on disk
		j.mu.Lock()
		written := len(j.flight) == 2 && j.flight[1].written
		j.mu.Unlock()
		if written {
			break
		}
		runtime.Gosched()
	}
	close(hold)
	if err := <-torn; !errors.Is(err, ErrFailed) {
		t.Fatalf("sync of the lost run: %v", err)
	}
	if err := <-answered; !errors.Is(err, ErrFailed) {
		t.Fatalf("sync of the run behind it: %v", err)
	}
	_ = j.Close(context.Background())

	fs = fs.CrashClone(1, 0)
	j = openJournal(t, testOptions(fs, smallRing, 2))
	if recs, err := replayAll(j, 1, 0); err != nil || len(recs) != 1 {
		t.Fatalf("%d records: %v", len(recs), err)
	}
	if err := j.Start(2, 1); err != nil {
		t.Fatal(err)
	}
	mustSync(t, j, mustPut(t, j, payload(2, 2, 100)))
	mustClose(t, j)
	recs, err := openAndReplay(fs, 1)
	if err != nil || len(recs) != 2 || !bytes.Equal(recs[1].payload, payload(2, 2, 100)) {
		t.Fatalf("%d records: %v", len(recs), err)
	}
}
