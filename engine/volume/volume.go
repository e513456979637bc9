package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"zerofs/engine"
	"zerofs/fence"
	"zerofs/journal"
	"zerofs/tiers"
	"zerofs/tiers/memory"
	"zerofs/tiers/nvme"
)

// Volume is one open volume: our turn at it, from Claim to Release.
type Volume struct {
	opts   Options
	log    *slog.Logger
	dirs   *dirs
	opened time.Time

	lineage *fence.Lineage
	owner   *fence.Owner
	nvme    *nvme.Tier
	memory  *memory.Tier
	journal *journal.Journal
	tree    *tiers.FS
	engine  *engine.Engine

	metered meteredLog
	gate    gate
	ships   shipper
	loops   loops

	ctx     context.Context // ends when the volume fails or stops; background work runs under it
	cancel  context.CancelCauseFunc
	failed  chan struct{} // closed when failure is set
	once    sync.Once     // guards failure and failed
	failure error

	stoppable atomic.Pointer[tiers.FS] // tree, for those who end it while Open goes on

	refused atomic.Bool // devices stay closed until Accept
	lossy   atomic.Bool // the takeover may have lost acknowledged writes
	closing sync.Once
	result  error // of Close
}

// Open locks the directories, claims the volume, brings the local tree up to the log and replays
// what it lacks. When it returns, requests can be served. On an error nothing stays open. The order
// of the steps, and what a crash leaves between two of them, is in docs/design/volume.md.
func Open(ctx context.Context, opts Options) (_ *Volume, err error) {
	v := &Volume{opts: opts, log: opts.Logger, opened: opts.Now(), failed: make(chan struct{})}
	v.ctx, v.cancel = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			v.abandon(err)
		}
	}()
	ctx, done := v.joined(ctx)
	defer done()
	if err := v.openDirs(ctx); err != nil {
		return nil, err
	}
	if err := v.claim(ctx); err != nil {
		return nil, err
	}
	if err := v.openTiers(ctx); err != nil {
		return nil, err
	}
	defer v.stopLater(ctx)()
	if err := v.openEngine(ctx); err != nil {
		return nil, err
	}
	if err := v.replay(ctx); err != nil {
		return nil, err
	}
	if err := v.owner.Err(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	v.start()
	return v, nil
}

// stopLater stops the tree when Pebble, which knows no contexts, still waits for the store some time
// after ctx ended. The function that it returns is called when Pebble has come back.
func (v *Volume) stopLater(ctx context.Context) (back func()) {
	done := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		t := time.NewTimer(openStop)
		defer t.Stop()
		select {
		case <-t.C:
			v.tree.Stop(context.Cause(ctx))
		case <-done:
		}
	})
	return func() { close(done); waiter.Wait() }
}

// joined returns ctx that also ends with the volume.
func (v *Volume) joined(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(v.ctx, func() { cancel(context.Cause(v.ctx)) })
	return ctx, func() { unhook(); cancel(nil) }
}

func (v *Volume) openDirs(ctx context.Context) (err error) {
	o := &v.opts
	v.dirs, err = openDirs(o.Disk, o.NVMeDir, o.JournalDir, o.Volume.ID, o.Rand)
	if err != nil {
		return err
	}
	if o.Locked != nil {
		if err := o.Locked(ctx); err != nil {
			return err
		}
	}
	v.lineage, err = fence.OpenLineage(o.Disk, o.Disk.PathJoin(o.NVMeDir, lineageName), o.Volume.Key, o.Volume.ID, o.Rand)
	return err
}

// claim takes our turn at the volume.
func (v *Volume) claim(ctx context.Context) error {
	o := &v.opts
	id, err := o.Identity(o.Disk.PathJoin(o.NVMeDir, lockName))
	if err != nil {
		return fmt.Errorf("volume: identity: %w", err)
	}
	id.Dir = v.dirs.id
	v.owner, err = fence.Open(ctx, fence.Options{
		Store: o.Store, Key: o.Volume.Key, Volume: o.Volume.ID, Lineage: v.lineage, Identity: id,
		Owner: o.Owner, Lease: o.Lease, Durability: o.Durability, Takeover: o.Takeover, ContinueOnLoss: o.ContinueOnLoss,
		Boottime: o.Boottime, Rand: o.Rand, Logger: v.log, Waiting: o.Waiting,
	})
	if err != nil {
		return err
	}
	go v.watchOwner()
	return v.tellTakeover()
}

// tellTakeover makes a takeover that may have lost writes visible.
func (v *Volume) tellTakeover() error {
	prev := v.owner.Previous()
	if prev.Diverged {
		v.log.Error("the log has another record where this directory knows one: the store was rolled back and went on without it")
	}
	if prev.Epoch == 0 || prev.Released || prev.Ours {
		return v.keepRefused(prev.Ours)
	}
	attrs := []any{"epoch", v.owner.Epoch(), "from_epoch", prev.Epoch, "from_owner", prev.Owner, "durability", durabilityName(prev.Durability), "lsn", v.owner.Covered()}
	if prev.Durability != fence.Local {
		v.log.Info("volume taken over from an owner that did not release it; nothing acknowledged is lost", attrs...)
		return v.keepRefused(false)
	}
	v.lossy.Store(true)
	v.log.Warn("volume taken over from an owner that did not release it; what it acknowledged after this LSN is only in its journal", attrs...)
	if !v.opts.RefuseAfterLoss {
		return nil
	}
	v.refused.Store(true)
	return v.dirs.setMark(refusedName, true)
}

// keepRefused keeps devices closed that were when this directory was left, if nobody had the volume
// since.
func (v *Volume) keepRefused(ours bool) error {
	if ours && v.opts.RefuseAfterLoss && v.dirs.isMarked(refusedName) {
		v.refused.Store(true)
		return nil
	}
	return v.dirs.setMark(refusedName, false)
}

// openTiers makes the local directory the one to go on with: as it stands, or anew from the log.
func (v *Volume) openTiers(ctx context.Context) (err error) {
	o := &v.opts
	wins := v.owner.LocalWins()
	if !wins {
		clean := v.dirs.isMarked(cleanName) && !v.owner.Previous().Diverged
		kept, err := v.dirs.setAside(fmt.Sprintf("before-epoch-%d", v.owner.Epoch()), clean)
		if err != nil {
			return err
		}
		if kept != "" {
			v.log.Warn("the log went on without this directory; its own state was set aside", "dir", kept)
		}
	}
	if err := v.dirs.setMark(cleanName, false); err != nil {
		return err
	}
	v.nvme, err = nvme.Open(ctx, nvme.Options{
		Disk: o.Disk, Dir: o.Disk.PathJoin(o.NVMeDir, tablesName), Size: o.NVMeSize, Key: o.Volume.Key, Rand: o.Rand, Logger: v.log,
	})
	if err != nil {
		return err
	}
	topts := tiers.Options{
		Disk: o.Disk, Dir: o.Disk.PathJoin(o.NVMeDir, treeName), NVMe: v.nvme, Store: o.Store, Key: o.Volume.Key,
		Epoch: v.owner.Epoch(), Log: v.owner, Barrier: v.barrier, Rand: o.Rand, Boottime: o.Boottime, Logger: v.log,
	}
	if !wins {
		done := o.waiting("store")
		err := tiers.Materialise(ctx, topts, v.owner.State())
		done()
		if err != nil {
			return err
		}
	}
	volatile := false
	if o.Volatile != nil {
		if volatile, err = o.Volatile(o.JournalDir); err != nil {
			return fmt.Errorf("volume: %w", err)
		}
		lost, err := o.Volatile(o.NVMeDir) // the journal forgets what table files there hold
		if err != nil {
			return fmt.Errorf("volume: %w", err)
		}
		if lost {
			v.log.Warn("NVMe directory does not survive a power failure: what is not in the bucket yet is not durable", "dir", o.NVMeDir)
		}
	}
	v.journal, err = journal.Open(ctx, journal.Options{
		Volatile: volatile, Disk: o.Disk, Dir: o.Disk.PathJoin(o.JournalDir, ringName), Size: o.JournalSize, Key: o.Volume.Key, Rand: o.Rand, Logger: v.log,
	})
	if err != nil {
		return err
	}
	if err := v.owner.Adopt(); err != nil {
		return err
	}
	v.tree, err = tiers.Open(ctx, topts, v.owner.State())
	if err != nil {
		return err
	}
	v.stoppable.Store(v.tree)
	return v.Err() // which came too early to stop it
}

// barrier is the write-ahead rule of the MANIFEST: an edit is not synced before the journal has
// every change that the edit's tables may hold. The journal answers in any case, and Pebble does not
// outlive an error here, so it does not end with the volume.
func (v *Volume) barrier() error {
	return v.journal.Sync(context.Background(), v.journal.Last())
}

func (v *Volume) openEngine(ctx context.Context) (err error) {
	o := &v.opts
	v.memory, err = memory.New(o.MemorySize, int(o.Volume.ChunkSize))
	if err != nil {
		return err
	}
	v.metered.Journal = v.journal
	v.gate.init(v)
	v.ships.init(v)
	v.engine, err = engine.Open(ctx, engine.Options{
		FS: v.tree, Dir: "", Log: &v.metered, Durable: v.durable, Gate: v.gate.wait, Memory: v.memory,
		ChunkSize: int(o.Volume.ChunkSize), Compression: o.Volume.Compression,
		MemTableSize: o.memTableSize(), MemTables: memTables, MaxSize: o.MaxSize, Now: o.Now, Logger: v.log, Fatal: v.fail,
	})
	return err
}

// meteredLog counts what is appended to the journal.
type meteredLog struct {
	*journal.Journal
	appended atomic.Int64 // bytes of payload
}

// Append is the journal's.
func (m *meteredLog) Append(payload []byte, reserved int) (journal.LSN, error) {
	lsn, err := m.Journal.Append(payload, reserved)
	if err == nil {
		m.appended.Add(int64(len(payload)))
	}
	return lsn, err
}

// durable waits until lsn is on stable storage as far as the configured durability asks.
func (v *Volume) durable(ctx context.Context, lsn journal.LSN) error {
	if err := v.journal.Sync(ctx, lsn); err != nil {
		if errors.Is(err, journal.ErrFailed) {
			v.fail(err)
		}
		return err
	}
	if v.opts.Durability == fence.Object {
		return v.ships.wait(ctx, lsn)
	}
	return nil
}

// fail ends the volume: nothing is acknowledged any more. The first cause counts.
func (v *Volume) fail(err error) {
	v.once.Do(func() {
		v.failure = err
		close(v.failed)
		v.cancel(err)
		if tree := v.stoppable.Load(); tree != nil {
			tree.Stop(err)
		}
		v.log.Error("volume stops serving", "error", err)
	})
}

// watchOwner fails the volume when another owner took it.
func (v *Volume) watchOwner() {
	select {
	case <-v.owner.Done():
		if err := v.owner.Err(); errors.Is(err, fence.ErrFenced) {
			v.fail(err)
		}
	case <-v.ctx.Done():
	}
}

// Done is closed when the volume can no longer serve; Err says why.
func (v *Volume) Done() <-chan struct{} { return v.failed }

// Err returns nil while the volume serves, and why not afterwards.
func (v *Volume) Err() error {
	select {
	case <-v.failed:
		return v.failure
	default:
		return nil
	}
}

// Wait returns nil once an answer may be sent: the lease holds and the volume has not failed.
func (v *Volume) Wait(ctx context.Context) error {
	select {
	case <-v.failed:
		return v.failure
	default:
	}
	if v.owner.Valid() == nil {
		return nil
	}
	if err := v.owner.Wait(ctx); err != nil {
		return err
	}
	return v.Err()
}

// Accept opens the devices that RefuseAfterLoss keeps closed. It reports whether they were.
func (v *Volume) Accept() bool {
	was := v.refused.Swap(false)
	if was {
		v.log.Warn("devices opened by an operator's word after a takeover that may have lost writes")
		if err := v.dirs.setMark(refusedName, false); err != nil {
			v.log.Error("the next start will ask for the operator's word again", "error", err)
		}
	}
	return was
}

// Engine returns the file system. It must not be used after Close.
func (v *Volume) Engine() *engine.Engine { return v.engine }

// Device opens the block device of that name.
func (v *Volume) Device(ctx context.Context, name string) (*engine.Device, error) {
	if v.refused.Load() {
		return nil, fmt.Errorf("%w: device %s", ErrRefused, name)
	}
	return v.engine.Device(ctx, name)
}

// Devices returns the names of the block devices, sorted.
func (v *Volume) Devices(ctx context.Context) ([]string, error) { return v.engine.Devices(ctx) }

// EnsureDevice makes the block device of that name and size in bytes, or grows it.
func (v *Volume) EnsureDevice(ctx context.Context, name string, size int64) error {
	return v.engine.EnsureDevice(ctx, name, size)
}
