package journal

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/disk/disktest"
)

// fillRing appends until Reserve would wait, and returns what the context's end made of it.
func fillRing(t *testing.T, j *Journal, n int) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := j.Reserve(ctx, n)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.Append(payload(j.Last()+1, 1, n), n); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReserveOrder: nobody overtakes the first who waits, and who stops waiting is forgotten.
func TestReserveOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := startJournal(t, testOptions(disktest.New(disktest.Options{}), smallRing, 1), 1)
		fillRing(t, j, 8000)
		if u := j.Usage(); u.Used < u.Size*3/4 || u.Used > u.Size {
			t.Errorf("used %d of %d in a full ring", u.Used, u.Size)
		}
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		cancelled, cancel := context.WithCancel(context.Background())
		for i, n := range []int{20000, 10, 9000, 30000, 1} {
			ctx := context.Background()
			if i == 2 {
				ctx = cancelled
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				err := j.Reserve(ctx, n)
				mu.Lock()
				defer mu.Unlock()
				if i == 2 {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("cancelled: %v", err)
					}
					return
				}
				if err != nil {
					t.Error(err)
				}
				order = append(order, i)
				j.Unreserve(n)
			}()
			synctest.Wait()
		}
		if len(order) != 0 {
			t.Errorf("%v went through a full ring", order)
		}
		cancel()
		synctest.Wait()
		mustSync(t, j, j.Last())
		for lsn := range j.Last() {
			j.Release(lsn + 1)
			synctest.Wait()
			if len(order) > 0 && !slices.Contains(order, 0) {
				t.Fatalf("%v overtook the first", order)
			}
		}
		wg.Wait()
		if slices.Sort(order); !slices.Equal(order, []int{0, 1, 3, 4}) {
			t.Errorf("%v were served", order)
		}
		mustClose(t, j)
	})
}

func TestReserveEnds(t *testing.T) {
	for _, how := range []string{"close", "fail"} {
		synctest.Test(t, func(t *testing.T) {
			fs := disktest.New(disktest.Options{})
			j := startJournal(t, testOptions(fs, smallRing, 1), 1)
			fillRing(t, j, 8000)
			got := make(chan error, 1)
			go func() { got <- j.Reserve(context.Background(), 8000) }()
			synctest.Wait()
			want := ErrClosed
			if how == "fail" {
				fs.SetOnOp(disktest.FailName(segmentSuffix, errDisk, disktest.OpWriteSync))
				j.Release(j.Last()) // the header of the next segment fails
				want = ErrFailed
			} else {
				mustClose(t, j)
			}
			if err := <-got; !errors.Is(err, want) {
				t.Errorf("%s: %v", how, err)
			}
			_ = j.Close(context.Background())
			if err := j.Close(context.Background()); !errors.Is(err, ErrClosed) {
				t.Errorf("second close: %v", err)
			}
		})
	}
}

// logLines counts the lines of a log.
type logLines struct{ n atomic.Int64 }

func (l *logLines) Enabled(context.Context, slog.Level) bool  { return true }
func (l *logLines) Handle(context.Context, slog.Record) error { l.n.Add(1); return nil }
func (l *logLines) WithAttrs([]slog.Attr) slog.Handler        { return l }
func (l *logLines) WithGroup(string) slog.Handler             { return l }

// TestFullDisk: no space for another segment makes writers wait, with a line in the log now and
// then; what is released is used again, and space that comes back is taken.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logLines
		fs := disktest.New(disktest.Options{Capacity: 2*segmentMin + 8192})
		opts := testOptions(fs, 1<<20, 1)
		opts.Logger = slog.New(&log)
		j := startJournal(t, opts, 1)
		fillRing(t, j, 8000)
		full := j.Last()
		if full > 2*segmentMin/8000 {
			t.Errorf("%d records on a full disk", full)
		}
		time.Sleep(25 * time.Second) // of the bubble's time
		if n := log.n.Load(); n < 2 || n > 5 {
			t.Errorf("%d log lines", n)
		}
		mustSync(t, j, full)
		for range 100 {
			j.Release(j.Durable())
			mustSync(t, j, mustPut(t, j, payload(j.Last()+1, 1, 8000)))
		}
		full = j.Last()
		fs.SetCapacity(8 << 20)
		time.Sleep(2 * noSpaceRetry)
		fillRing(t, j, 8000)
		if j.Last()-full < 5*segmentMin/8000 {
			t.Errorf("%d records after space came back", j.Last()-full)
		}
		mustClose(t, j)
		if j.Usage().Failed != nil {
			t.Error(j.Usage().Failed)
		}
	})
}

// TestStartOnFullDisk: a ring that is full to the last byte, on a disk that is, can be opened.
func TestStartOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disktest.New(disktest.Options{})
		j := startJournal(t, testOptions(fs, smallRing, 1), 1)
		fillRing(t, j, 8000)
		last := j.Last()
		mustClose(t, j)
		for epoch := range 3 {
			j = openJournal(t, testOptions(fs, smallRing, 2+uint64(epoch)))
			recs, err := replayAll(j, 1, 0)
			if err != nil || LSN(len(recs)) != last {
				t.Fatalf("%d of %d records: %v", len(recs), last, err)
			}
			if err := j.Start(1, last); err != nil {
				t.Fatal(err)
			}
			mustClose(t, j)
		}
		j = startJournal(t, testOptions(fs, smallRing, 9), 1)
		j.Release(last)
		for range 50 {
			last = mustPut(t, j, payload(j.Last()+1, 1, 8000))
			j.Release(last)
		}
		synctest.Wait()
		mustClose(t, j)
		if n := len(segmentFiles(t, fs)); n > smallRing/segmentMin {
			t.Errorf("%d segments stay", n)
		}
	})
}

// TestReservedFits: whatever the sizes and the order, what was reserved can be placed.
func TestReservedFits(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			fs := disktest.New(disktest.Options{})
			j := startJournal(t, testOptions(fs, smallRing+int64(seed%3)*segmentMin, seed), 1)
			var wg sync.WaitGroup
			for w := range uint64(4) {
				wg.Add(1)
				go func() {
					defer wg.Done()
					rng := rand.New(rand.NewPCG(seed, w))
					for range 60 {
						n := rng.IntN([]int{100, 5000, 20000, j.MaxRecord() + 1}[rng.IntN(4)])
						if err := j.Reserve(context.Background(), n); err != nil {
							t.Error(err)
							return
						}
						if rng.IntN(8) == 0 {
							j.Unreserve(n)
							continue
						}
						time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
						lsn, err := j.Append(make([]byte, rng.IntN(n+1)), n)
						if err == nil && rng.IntN(4) == 0 {
							err = j.Sync(context.Background(), lsn)
						}
						if err != nil {
							t.Error(err)
							return
						}
						j.Release(lsn)
					}
				}()
			}
			wg.Wait()
			mustSync(t, j, j.Last())
			synctest.Wait()
			j.mu.Lock()
			if j.space.pending != 0 || j.space.outstanding != 0 {
				t.Errorf("pending %d, outstanding %d at the end", j.space.pending, j.space.outstanding)
			}
			j.mu.Unlock()
			mustClose(t, j)
		})
	}
}

// TestResize opens a ring with another size, larger and smaller.
func TestResize(t *testing.T) {
	for _, clean := range []bool{false, true} {
		resize(t, clean)
	}
}

// resize goes through several sizes. With clean everything is released in between, so that a large
// segment is used again in a small ring.
func resize(t *testing.T, clean bool) {
	fs := disktest.New(disktest.Options{})
	var last LSN
	sizes := []int64{1 << 20, 4 << 20, smallRing, 2 << 20}
	if clean {
		sizes = sizes[1:]
	}
	for i, size := range sizes {
		j := openJournal(t, testOptions(fs, size, uint64(i)))
		recs, err := replayAll(j, 1, 0)
		if i > 0 && !clean && (err != nil || LSN(len(recs)) < last) {
			if !errors.Is(err, ErrGone) {
				t.Fatalf("size %d: %d of %d records: %v", size, len(recs), last, err)
			}
		}
		if clean && i > 0 {
			last += 5 // the tree is ahead of the journal
		}
		if err := j.Start(1, last); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			j.Release(j.Durable())
			last = mustPut(t, j, payload(j.Last()+1, 1, 6000))
			mustSync(t, j, last)
		}
		j.Release(last)
		mustClose(t, j)
	}
	var bytes int64
	for _, path := range segmentFiles(t, fs) {
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	if bytes > 2<<20 {
		t.Errorf("%d bytes of segments", bytes)
	}
	if _, err := Open(context.Background(), testOptions(fs, smallRing-1, 1)); err == nil {
		t.Error("a ring below the least size was opened")
	}
}
