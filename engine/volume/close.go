package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zerofs/engine"
	"zerofs/fence"
	"zerofs/journal"
)

// Close ends the volume cleanly: everything is uploaded and the Release is written, within the
// context's time. When that fails the error wraps ErrNotUploaded, and the journal and the NVMe
// tier keep what the bucket lacks. Writes that come after Close began fail. A fenced or failed
// volume uploads nothing; its error is the cause.
func (v *Volume) Close(ctx context.Context) error {
	v.closing.Do(func() { v.result = v.close(ctx) })
	return v.result
}

func (v *Volume) close(ctx context.Context) error {
	v.gate.stop()
	if err := v.nvme.ReleaseBallast(); err != nil {
		v.log.Warn("stop: the space set aside for it is not released", "error", err)
	}
	// Table files wait for a full disk as long as there is time to upload what makes room.
	defer context.AfterFunc(ctx, v.nvme.Stop)()
	v.loops.close()
	err := v.Err()
	if err == nil {
		err = v.upload(ctx)
	}
	v.cancel(ErrStopping)
	return errors.Join(err, v.closeParts())
}

// upload brings the bucket up to the last change and releases the volume.
func (v *Volume) upload(ctx context.Context) error {
	last, err := v.flushAll(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotUploaded, err)
	}
	// Pebble is closed first, so that no compaction changes the tree behind the last Commit.
	if err := v.closeEngine(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotUploaded, err)
	}
	if err := v.Err(); err != nil {
		return err
	}
	for !v.uploaded() {
		err := v.uploadOnce(ctx, last)
		if err == nil {
			continue
		}
		if errors.Is(err, fence.ErrFenced) {
			return err
		}
		v.log.Warn("stop: upload failed; it is tried again", "error", err)
		if v.loops.pause(ctx) != nil {
			return fmt.Errorf("%w: %w", ErrNotUploaded, err)
		}
	}
	if v.refused.Load() {
		// Whoever comes next must know of it, and is told by the Release that is not there.
		v.log.Warn("stop: not released, since nobody has accepted the takeover that may have lost writes")
		return nil
	}
	if err := v.owner.Release(ctx); err != nil {
		if errors.Is(err, fence.ErrFenced) {
			return err
		}
		return fmt.Errorf("%w: release: %w", ErrNotUploaded, err)
	}
	return v.dirs.setMark(cleanName, true)
}

// flushAll writes every change to table files and returns the last one's LSN.
func (v *Volume) flushAll(ctx context.Context) (journal.LSN, error) {
	for {
		done, err := v.loops.flush(ctx)
		if err != nil {
			return 0, err
		}
		if !done { // the disk is full: what is uploaded makes room
			if err := v.loops.commit(ctx, false); err != nil {
				if v.Err() != nil || errors.Is(err, fence.ErrFenced) {
					return 0, err
				}
				v.log.Warn("stop: upload failed; it is tried again", "error", err)
			}
			if err := v.loops.pause(ctx); err != nil {
				return 0, err
			}
			continue
		}
		last, err := v.engine.Flushed()
		if err != nil || last >= v.engine.Applied() {
			return last, err
		}
	}
}

// uploaded reports whether the bucket holds everything. Nothing is committed any more.
func (v *Volume) uploaded() bool {
	return !v.tree.Changed() && v.journal.Last() <= v.ships.covered()
}

// uploadOnce brings what the closed tree holds into the bucket, flushed at least up to the LSN, and
// then what came to the journal after that flush.
func (v *Volume) uploadOnce(ctx context.Context, flushed journal.LSN) error {
	if v.tree.Changed() || v.ships.covered() < flushed {
		if err := v.tree.WriteBack(ctx, func() (uint64, error) { return uint64(flushed), nil }); err != nil {
			return err
		}
		v.ships.advanced()
	}
	last := v.journal.Last()
	if err := v.journal.Sync(ctx, last); err != nil {
		return err
	}
	return v.ships.ship(ctx, last, shipBytesCalm)
}

// closeEngine closes the engine. Once ctx has ended it waits a while, then a while with the tree
// stopped, since Pebble may be reading from a store that does not answer, and then no more.
func (v *Volume) closeEngine(ctx context.Context) error {
	closed := make(chan error, 1)
	go func() { closed <- v.engine.Close() }()
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
	}
	for range 2 {
		t := time.NewTimer(engineStop)
		select {
		case err := <-closed:
			t.Stop()
			return err
		case <-t.C:
			v.tree.Stop(context.Cause(ctx))
		}
	}
	return fmt.Errorf("the tree is not closed yet: %w", context.Cause(ctx))
}

// abandon closes what Open had opened when it failed.
func (v *Volume) abandon(err error) {
	v.cancel(err)
	v.closeParts()
}

// How long the tree may wait for the store once it is to open no more, or to close, and how long the
// journal may take to write what is queued.
const (
	openStop    = 45 * time.Second
	engineStop  = 5 * time.Second
	journalStop = 10 * time.Second
)

// closeParts closes in the reverse order of Open, each if it is open. The owner goes first: what
// waits for the lease or for the log would wait as long as the store is away.
func (v *Volume) closeParts() error {
	var errs []error
	note := func(err error) {
		if err != nil && !errors.Is(err, fence.ErrClosed) && !errors.Is(err, engine.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if v.tree != nil && v.Err() != nil {
		v.tree.Stop(v.failure)
	}
	if v.nvme != nil {
		v.nvme.Stop()
	}
	if v.owner != nil {
		note(v.owner.Close())
	}
	if v.engine != nil {
		note(v.closeEngine(v.ctx))
	}
	if v.tree != nil {
		note(v.tree.Close())
	}
	if v.journal != nil {
		ctx, cancel := context.WithTimeout(context.Background(), journalStop)
		note(v.journal.Close(ctx))
		cancel()
	}
	if v.memory != nil {
		note(v.memory.Close())
	}
	if v.nvme != nil {
		note(v.nvme.Close())
	}
	if v.lineage != nil {
		note(v.lineage.Close())
	}
	if v.dirs != nil {
		v.dirs.close()
	}
	return errors.Join(errs...)
}
