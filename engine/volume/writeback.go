package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"zerofs/fence"
	"zerofs/journal"
	"zerofs/tiers/object"
)

// When a round is a Commit and not a Ship.
const (
	commitUnshipped = 8 << 20          // bytes of journal not in the log yet: the tables are cheaper
	commitShipped   = 64 << 20         // bytes of Ships since the last Commit
	commitDirty     = 32 << 20         // bytes of tables not uploaded
	commitAge       = 10 * time.Minute // since the last Commit
)

// How often the loops look.
const (
	lookEvery    = 20 * time.Millisecond
	releaseEvery = 200 * time.Millisecond
	collectEvery = time.Minute
	sweepFirst   = 10 * time.Minute // after the start, then every
	sweepEvery   = 24 * time.Hour
	deleteGrace  = 5 * time.Minute
	retryPause   = time.Second
)

// loops are the goroutines that drain the volume towards the bucket.
type loops struct {
	v    *Volume
	wg   sync.WaitGroup
	stop context.CancelFunc
	ctx  context.Context

	kick   chan struct{} // wakes the write-back loop before its interval; holds at most one
	rounds chan struct{} // holds one token: one round at a time

	commitFirst bool         // set before start: the first round is a Commit
	lastCommit  atomic.Int64 // Boottime of the last Commit
	roundAt     atomic.Int64 // bytes appended to the journal when the last round that succeeded began
	flushing    atomic.Bool  // a memtable flush asked for by us is under way
	lag         lagMeter
	errors      atomic.Int64 // rounds that failed
}

// start begins the loops. They end with close.
func (v *Volume) start() {
	l := &v.loops
	l.v = v
	l.ctx, l.stop = context.WithCancel(v.ctx)
	l.kick, l.rounds = make(chan struct{}, 1), make(chan struct{}, 1)
	l.rounds <- struct{}{}
	l.lastCommit.Store(int64(v.opts.Boottime()))
	l.goRun(l.writeBack)
	l.goRun(l.watch)
	l.goRun(l.collect)
	if v.opts.Durability == fence.Object {
		l.goRun(func() { v.ships.run(l.ctx) })
	}
}

func (l *loops) goRun(f func()) {
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		f()
	}()
}

// close ends the loops and waits for them.
func (l *loops) close() {
	if l.stop != nil {
		l.stop()
		l.wg.Wait()
	}
}

// writeBack runs a round at each interval with changes, and when kicked.
func (l *loops) writeBack() {
	t := time.NewTicker(l.v.opts.Interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-l.kick:
		case <-l.ctx.Done():
			return
		}
		if err := l.round(l.ctx); err != nil {
			l.note(err)
		}
	}
}

// round brings the bucket up to what is durable locally now.
func (l *loops) round(ctx context.Context) error {
	select {
	case <-l.rounds:
		defer func() { l.rounds <- struct{}{} }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	v := l.v
	appended, durable := v.metered.appended.Load(), v.journal.Durable()
	behind := durable > v.ships.covered()
	if !behind && !v.tree.Changed() && !l.commitFirst {
		return nil
	}
	if !l.commitDue(behind) {
		err := v.ships.ship(ctx, durable, shipBytesCalm)
		if !errors.Is(err, errNeedCommit) {
			return l.ended(appended, err)
		}
	}
	err := l.commit(ctx, behind)
	if errors.Is(err, errDiskFull) {
		err = v.ships.ship(ctx, durable, shipBytesCalm)
	}
	return l.ended(appended, err)
}

// ended notes that what was appended before a round is in the bucket, if the round succeeded.
func (l *loops) ended(appended int64, err error) error {
	if err == nil {
		l.roundAt.Store(appended)
	}
	return err
}

// commitDue says whether a round is a Commit.
func (l *loops) commitDue(behind bool) bool {
	v := l.v
	if l.commitFirst || !behind || v.diskFull() && v.tree.Changed() {
		return true
	}
	usage := v.journal.Usage()
	age := v.opts.Boottime() - time.Duration(l.lastCommit.Load())
	return v.owner.ShippedBytes() > commitShipped ||
		v.tree.DirtyBytes() > commitDirty ||
		usage.Used > usage.Size/2 ||
		age > commitAge ||
		v.metered.appended.Load()-l.roundAt.Load() > commitUnshipped
}

// commit runs a write-back round. With flush the memtables go to table files first, so that the
// Commit covers what was written before it.
func (l *loops) commit(ctx context.Context, flush bool) error {
	v := l.v
	if flush {
		done, err := l.flush(ctx)
		if err != nil {
			return err
		}
		if !done && !v.tree.Changed() {
			return errDiskFull
		} // else what is uploaded now makes room for the flush
	}
	err := v.tree.WriteBack(ctx, func() (uint64, error) {
		lsn, err := v.engine.Flushed()
		return uint64(lsn), err
	})
	if err != nil {
		return fmt.Errorf("volume: write-back: %w", err)
	}
	l.commitFirst = false
	l.lastCommit.Store(int64(v.opts.Boottime()))
	v.ships.advanced()
	return nil
}

// commitNow is a Commit that somebody waits for.
func (l *loops) commitNow(ctx context.Context) error {
	select {
	case <-l.rounds:
		defer func() { l.rounds <- struct{}{} }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	appended := l.v.metered.appended.Load()
	return l.ended(appended, l.commit(ctx, true))
}

// errDiskFull reports that a flush waits for a full disk, and that no upload would make room for it.
var errDiskFull = errors.New("volume: the disk is full, and nothing on it can go to the bucket")

// diskFull reports whether table files wait for a full disk.
func (v *Volume) diskFull() bool { return v.nvme.Usage().Waiting > 0 }

// flush writes the memtables to table files and waits. It reports false when table files wait for
// a full disk: then the flush goes on by itself, once somebody makes room.
func (l *loops) flush(ctx context.Context) (done bool, err error) {
	type begun struct {
		flushed <-chan struct{}
		err     error
	}
	if l.v.diskFull() {
		return false, nil
	}
	begin := make(chan begun, 1)
	go func() { // it may wait as long as a commit does, and ends before the engine's Close
		flushed, err := l.v.engine.Flush()
		begin <- begun{flushed, err}
	}()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var flushed <-chan struct{}
	for {
		select {
		case b := <-begin:
			if b.err != nil {
				return false, b.err
			}
			flushed = b.flushed
		case <-flushed:
			return true, nil
		case <-look.C:
			if l.v.diskFull() {
				return false, nil
			}
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// watch sets the gate's pressure, releases journal segments and measures the lag.
func (l *loops) watch() {
	look, release := time.NewTicker(lookEvery), time.NewTicker(releaseEvery)
	defer look.Stop()
	defer release.Stop()
	for {
		select {
		case <-look.C:
			l.setPressure()
		case <-release.C:
			l.release()
			l.lag.look(l.v.journal.Last(), l.v.ships.covered(), l.v.opts.Boottime())
		case <-l.ctx.Done():
			return
		}
	}
}

// setPressure looks at what may fill: dirty table files on NVMe and memtables in memory. The
// journal's ring has a queue of its own, in Reserve.
func (l *loops) setPressure() {
	v := l.v
	size := float64(v.opts.NVMeSize)
	dirty := float64(v.tree.DirtyBytes())
	mem, table := float64(v.engine.MemTableBytes()), float64(v.opts.memTableSize())
	p := max(share(dirty, size*0.5, size*0.75), share(mem, table*(memTables-1), table*(memTables-0.1)))
	was := v.gate.set(p)
	if p >= 1 && was < 1 {
		v.log.Warn("writers wait: not enough room", "dirty_bytes", int64(dirty), "nvme_bytes", v.opts.NVMeSize, "memtable_bytes", int64(mem))
	}
	if dirty > commitDirty {
		poke(l.kick)
	}
}

// release gives journal segments back that nothing needs any more, and asks for a flush when the
// ring is half full.
func (l *loops) release() {
	v := l.v
	flushed, err := v.engine.Flushed()
	if err != nil {
		l.note(err)
		return
	}
	if v.opts.Durability == fence.Object {
		flushed = min(flushed, v.ships.covered())
	}
	v.journal.Release(flushed)
	u := v.journal.Usage()
	if u.Used > u.Size/2 && l.flushing.CompareAndSwap(false, true) {
		l.goRun(func() {
			defer l.flushing.Store(false)
			if _, err := l.flush(l.ctx); err != nil {
				l.note(err)
			}
			poke(l.kick)
		})
	}
	if u.Failed != nil {
		v.fail(u.Failed)
	}
}

// collect deletes objects whose grace is over, and once a day what dead epochs left behind.
func (l *loops) collect() {
	t, sweep := time.NewTicker(collectEvery), time.NewTimer(sweepFirst)
	defer t.Stop()
	defer sweep.Stop()
	for {
		var err error
		select {
		case <-t.C:
			err = l.v.tree.Collect(l.ctx)
		case <-sweep.C:
			sweep.Reset(sweepEvery)
			err = errors.Join(
				l.v.tree.SweepOrphans(l.ctx, l.v.owner.State(), time.Hour),
				object.Sweep(l.ctx, l.v.opts.Store, "files/", sweepEvery),
			)
		case <-l.ctx.Done():
			return
		}
		if err != nil {
			l.note(err)
		}
	}
}

// note logs an error of the background, once for each that is not merely the end, and ends the
// volume for those that are final.
func (l *loops) note(err error) {
	switch {
	case l.v.ctx.Err() != nil, errors.Is(err, context.Canceled):
	case errors.Is(err, fence.ErrFenced), errors.Is(err, journal.ErrFailed):
		l.v.fail(err)
	case errors.Is(err, object.ErrTransient):
		l.errors.Add(1)
		l.v.log.Warn("write-back waits for the store", "error", err, "lag", l.lag.age(l.v.opts.Boottime()).Round(time.Second))
	default:
		l.errors.Add(1)
		l.v.log.Error("write-back failed; it is tried again", "error", err)
	}
}

// pause waits before a failed round is tried again.
func (l *loops) pause(ctx context.Context) error {
	t := time.NewTimer(retryPause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
