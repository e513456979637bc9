package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"zerofs/fence"
	"zerofs/tiers/disk/disktest"
)

// world is what a volume's writer knows through crashes: what it appended, and what it was told.
type world struct {
	seed     uint64
	rng      *rand.Rand
	disk     *disktest.FS
	epoch    fence.Epoch
	mu       sync.Mutex
	appended map[LSN]wrote
	last     LSN // highest appended in this epoch, or where it started
	acked    LSN // highest that Sync covered
	released LSN
}

// wrote says what a record's payload is made from.
type wrote struct {
	epoch fence.Epoch
	size  int
}

func newWorld(seed uint64) *world {
	return &world{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), appended: map[LSN]wrote{},
		disk: disktest.New(disktest.Options{}),
	}
}

// recover opens the disk and checks what it holds against what is known: every acknowledged
// record, no gap, no wrong byte. It returns the last LSN.
func (w *world) recover(j *Journal) (LSN, error) {
	next := w.released + 1
	recs, err := replayAll(j, next, w.released)
	if err != nil {
		return 0, err
	}
	for _, r := range recs {
		was, ok := w.appended[r.lsn]
		switch {
		case r.lsn != next:
			return 0, fmt.Errorf("lsn %d where %d comes next", r.lsn, next)
		case !ok:
			return 0, fmt.Errorf("lsn %d was never appended, or void", r.lsn)
		case string(r.payload) != string(payload(r.lsn, was.epoch, was.size)):
			return 0, fmt.Errorf("lsn %d is not what was appended in epoch %d", r.lsn, was.epoch)
		}
		next++
	}
	if next <= w.acked {
		return 0, fmt.Errorf("replay ends at %d, acknowledged %d", next-1, w.acked)
	}
	if _, last := j.Held(); last != next-1 && !(last == 0 && len(recs) == 0) {
		return 0, fmt.Errorf("held to %d, replayed to %d", last, next-1)
	}
	return next - 1, nil
}

// turn opens, checks, starts and writes until the power is cut or the work is done.
func (w *world) turn(t *testing.T, records int) {
	t.Helper()
	ctx := context.Background()
	j, err := Open(ctx, testOptions(w.disk, smallRing, w.rng.Uint64()))
	if err != nil {
		w.crashed(t, "open", err)
		return
	}
	last, err := w.recover(j)
	if err != nil {
		w.crashed(t, "recover", err)
		_ = j.Close(ctx)
		return
	}
	w.acked, w.last = last, last
	for lsn := range w.appended {
		if lsn > last {
			delete(w.appended, lsn)
		}
	}
	w.epoch++
	if err := j.Start(w.epoch, last); err != nil {
		w.crashed(t, "start", err)
		_ = j.Close(ctx)
		return
	}
	var wg sync.WaitGroup
	for range 3 {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 2))
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := w.write(j, rng, records/3); err != nil && !errors.Is(err, ErrFailed) {
				t.Errorf("seed %d: write: %v", w.seed, err)
			}
		}()
	}
	wg.Wait()
	if err := j.Close(ctx); err != nil && !errors.Is(err, ErrFailed) {
		t.Errorf("seed %d: close: %v", w.seed, err)
	}
}

func (w *world) crashed(t *testing.T, what string, err error) {
	t.Helper()
	if !w.disk.Crashed() || errors.Is(err, ErrCorrupt) {
		t.Fatalf("seed %d, epoch %d: %s: %v", w.seed, w.epoch, what, err)
	}
}

// write appends, syncs and releases.
func (w *world) write(j *Journal, rng *rand.Rand, records int) error {
	ctx := context.Background()
	for range records {
		n := rng.IntN(9000)
		if rng.IntN(20) == 0 {
			n = rng.IntN(30000)
		}
		if err := w.makeRoom(j); err != nil {
			return err
		}
		if err := j.Reserve(ctx, n); err != nil {
			return err
		}
		w.mu.Lock()
		p := payload(w.last+1, w.epoch, n)
		w.appended[w.last+1] = wrote{w.epoch, n}
		lsn, err := j.Append(p, n)
		if err != nil {
			delete(w.appended, w.last+1)
			w.mu.Unlock()
			return err
		}
		w.last = lsn
		w.mu.Unlock()
		if rng.IntN(3) != 0 {
			if err := j.Sync(ctx, lsn); err != nil {
				return err
			}
			w.mu.Lock()
			w.acked = max(w.acked, lsn)
			w.mu.Unlock()
		}
	}
	return nil
}

// makeRoom syncs and releases when much is held: the ring must not be full with nobody to release.
func (w *world) makeRoom(j *Journal) error {
	w.mu.Lock()
	last, held := w.last, w.last-w.released
	w.mu.Unlock()
	if held < 8 {
		return nil
	}
	if err := j.Sync(context.Background(), last); err != nil {
		return err
	}
	w.mu.Lock()
	w.acked = max(w.acked, last)
	w.released = max(w.released, w.acked-3)
	released := w.released
	w.mu.Unlock()
	j.Release(released)
	return nil
}

// TestCrashEverywhere cuts the power at each operation of a first turn and, after each, at a
// random one of each later turn.
func TestCrashEverywhere(t *testing.T) {
	records := 60
	if testing.Short() {
		records = 15
	}
	for k := int64(1); ; k++ {
		w := newWorld(uint64(k))
		w.disk.SetOnOp(disktest.CrashAt(k))
		w.turn(t, records)
		done := !w.disk.Crashed()
		w.laterTurns(t, 4, records)
		if t.Failed() || done {
			t.Logf("%d operations", k)
			return
		}
	}
}

// laterTurns crashes a world several times more, each time early or late.
func (w *world) laterTurns(t *testing.T, n, records int) {
	t.Helper()
	for range n {
		w.disk.Crash()
		w.disk = w.disk.CrashClone(w.rng.Uint64(), []int{0, 30, 50, 90, 100}[w.rng.IntN(5)])
		most := []int64{4, 20, 150}[w.rng.IntN(3)]
		w.disk.SetOnOp(disktest.CrashAt(1 + w.rng.Int64N(most)))
		w.turn(t, records)
	}
	w.disk.Crash()
	w.disk = w.disk.CrashClone(w.rng.Uint64(), 50)
	w.turn(t, 3)
}

// TestCrashRecovery cuts the power at each operation of opening and starting, again and again on
// what the one before left.
func TestCrashRecovery(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(1000 + seed)
		w.disk.SetOnOp(disktest.CrashAt(20 + int64(seed)*3))
		w.turn(t, 60)
		for k := int64(1); k < 12; k++ {
			w.disk.Crash()
			w.disk = w.disk.CrashClone(w.rng.Uint64(), 50)
			w.disk.SetOnOp(disktest.CrashAt(k))
			w.turn(t, 6)
		}
		w.laterTurns(t, 1, 30)
	}
}

// TestKill ends the process without a power cut: what was not synced is still there, not durable,
// and the power goes only after the next process has opened the journal.
func TestKill(t *testing.T) {
	for seed := range uint64(50) {
		w := newWorld(2000 + seed)
		for range 4 {
			w.disk.SetOnOp(disktest.CrashAt(1 + w.rng.Int64N(120)))
			w.turn(t, 40)
			w.disk.Crash()
			w.disk = w.disk.KillClone()
			if w.rng.IntN(2) == 0 { // the next process only reads and starts
				w.turn(t, 0)
				w.disk.Crash()
				w.disk = w.disk.CrashClone(w.rng.Uint64(), 30)
			}
		}
		w.turn(t, 3)
	}
}
