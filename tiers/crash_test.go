package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zerofs/fence"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/object/objecttest"
)

var errCrashed = errors.New("test: crashed")

// life is one run of a process that ends in a crash.
type life struct {
	h    *host
	seed uint64

	enqueued  atomic.Uint64 // last LSN that the journal was handed
	journaled atomic.Uint64 // last LSN that the barrier made durable
	durable   atomic.Uint64 // highest LSN that the tree was known to hold durably

	once    sync.Once
	crashed chan struct{}
}

// crash stops everything at one moment: log, store and, by its return value, the disk. It returns
// when all have stopped; from its first step on what fails is the crash's doing.
func (l *life) crash() error {
	l.once.Do(func() {
		close(l.crashed)
		l.h.log.freeze()
		l.h.store.Kill()
		l.h.disk.Crash()
	})
	return disktest.ErrCrash
}

func (l *life) isOver() bool {
	select {
	case <-l.crashed:
		return true
	default:
		return false
	}
}

// crashAfter crashes at the n-th operation on disk or store that changes something.
func (l *life) crashAfter(n int64) {
	var count atomic.Int64
	l.h.disk.SetOnOp(func(op, name string) error {
		if l.isOver() {
			select {} // a dead process does nothing more; Pebble would try again for ever
		}
		if disktest.Changes(op) && count.Add(1) == n {
			return l.crash()
		}
		return nil
	})
	at := func(objecttest.Request) error {
		if count.Add(1) == n {
			return l.crash()
		}
		return nil
	}
	l.h.store.SetBefore(func(_ context.Context, r objecttest.Request) error { return at(r) })
	l.h.store.SetAfter(func(r objecttest.Request, err error) error { return errors.Join(at(r), err) })
	l.h.log.before = func(fence.Commit) error { return at(objecttest.Request{}) }
	l.h.log.after = func() error { return at(objecttest.Request{}) }
}

// run opens the tree and works on it until it is done or something fails.
func (l *life) run(fresh bool, rng *rand.Rand) error {
	l.h.barrier = func() error {
		if l.isOver() {
			return errCrashed
		}
		l.journaled.Store(l.enqueued.Load())
		return nil
	}
	if err := l.h.open(fresh); err != nil {
		return err
	}
	tr, err := openTree(l.h, l.seed)
	if err != nil {
		return err
	}
	l.enqueued.Store(tr.lsn)
	for range 6 + rng.IntN(10) {
		for range rng.IntN(40) {
			l.enqueued.Store(tr.lsn + 1)
			if err := tr.step(); err != nil {
				return err
			}
		}
		if rng.IntN(3) == 0 {
			if err := tr.db.Flush(); err != nil {
				return err
			}
			if at, err := tr.durableLSN(); err != nil {
				return err
			} else if at < tr.lsn {
				return fmt.Errorf("flushed lsn %d, durable is %d", tr.lsn, at)
			}
			l.durable.Store(tr.lsn)
		}
		if rng.IntN(2) == 0 {
			if err := l.h.fs.WriteBack(context.Background(), tr.durableLSN); err != nil {
				return err
			}
		}
		if rng.IntN(4) == 0 {
			if err := l.h.fs.Collect(context.Background()); err != nil {
				return err
			}
		}
	}
	if err := tr.db.Close(); err != nil {
		return err
	}
	return l.h.close()
}

// live runs a process and crashes it at its n-th operation, or at its end.
func live(h *host, seed uint64, fresh bool, n int64, rng *rand.Rand) (*life, error) {
	dying := *h // what the process opens, and goes on with after its death as far as tests see
	l := &life{h: &dying, seed: seed, crashed: make(chan struct{})}
	l.crashAfter(n)
	done := make(chan error, 1)
	go func() { done <- l.run(fresh, rng) }() // lost in Pebble if it crashes there
	select {
	case err := <-done:
		if err != nil && !l.isOver() {
			return nil, fmt.Errorf("failed without a crash: %w", err)
		}
	case <-l.crashed:
	case <-time.After(time.Minute):
		return nil, errors.New("stuck")
	}
	_ = l.crash()
	return l, nil
}

// TestCrashAnywhere cuts the power, or kills the process, at some operation on disk or store;
// goes on from what is left, here or on an empty host; and does so several times in a row.
func TestCrashAnywhere(t *testing.T) {
	rounds := 24
	if testing.Short() {
		rounds = 6
	}
	if s := os.Getenv("ZEROFS_CRASH_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	first := uint64(1)
	if s := os.Getenv("ZEROFS_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
	}
	for seed := first; seed < first+uint64(rounds); seed++ {
		if err := crashes(seed); err != nil {
			t.Fatalf("ZEROFS_SEED=%d: %v", seed, err)
		}
	}
}

func crashes(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 99))
	h := newHost(objecttest.NewBucket(nil), newFakeLog())
	h.size = int64(4+rng.IntN(60)) << 20
	fresh := false
	for turn := range 4 {
		l, err := live(h, seed, fresh, 1+rng.Int64N(600), rand.New(rand.NewPCG(seed, uint64(turn))))
		if err != nil {
			return fmt.Errorf("turn %d: %w", turn, err)
		}
		here := h.successor(rng)
		there := h.other()
		there.log = h.log.clone()
		there.store = h.store.Bucket().Clone().Connect(seed)
		at, err := revive(here, seed, here.empty())
		if err != nil {
			return fmt.Errorf("turn %d, on the host: %w", turn, err)
		}
		if at < l.durable.Load() {
			return fmt.Errorf("turn %d: the tree is at lsn %d, lsn %d was durable", turn, at, l.durable.Load())
		}
		if j := l.journaled.Load(); at > j && at > 0 && j > 0 {
			return fmt.Errorf("turn %d: the tree is at lsn %d, and the journal at %d", turn, at, j)
		}
		at, err = revive(there, seed, true)
		if err != nil {
			return fmt.Errorf("turn %d, on another host: %w", turn, err)
		}
		if lsn := h.log.State().LSN; at < lsn {
			return fmt.Errorf("turn %d: the bucket is at lsn %d, the commit said %d", turn, at, lsn)
		}
		if rng.IntN(4) == 0 {
			next := h.other()
			next.log, next.store = h.log.clone(), h.store.Bucket().Connect(seed)
			h, fresh = next, true
		} else {
			h = h.successor(rng)
			fresh = h.empty()
		}
	}
	return nil
}

// successor returns the process after this one on the same host: after a power cut or a kill.
func (h *host) successor(rng *rand.Rand) *host {
	c := *h
	if rng.IntN(3) == 0 {
		c.disk = h.disk.KillClone()
	} else {
		c.disk = h.disk.CrashClone(rng.Uint64(), rng.IntN(101))
	}
	c.store = h.store.Bucket().Connect(rng.Uint64())
	c.log = h.log.clone()
	c.nvme, c.fs = nil, nil
	return &c
}

// empty reports whether the host has no tree: the crash came before there was one.
func (h *host) empty() bool {
	_, err := h.disk.Stat("/data/tree")
	return errors.Is(err, fs.ErrNotExist)
}

// revive opens a copy of what a crash left, checks the tree, and returns its LSN.
func revive(h *host, seed uint64, fresh bool) (uint64, error) {
	h.barrier = func() error { return nil }
	if err := h.open(fresh); err != nil {
		return 0, err
	}
	tr, err := openTree(h, seed)
	if err != nil {
		return 0, err
	}
	at, err := tr.check()
	if err != nil {
		return 0, err
	}
	if err := h.fs.WriteBack(context.Background(), tr.durableLSN); err != nil {
		return 0, err
	}
	return at, errors.Join(tr.db.Close(), h.close())
}
