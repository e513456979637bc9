package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zerofs/fence"
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
	if err := v.loops.flush(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotUploaded, err)
	}
	last, err := v.engine.Flushed()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotUploaded, err)
	}
	// Pebble is closed first, so that no compaction changes the tree behind the last Commit.
	err = v.engine.Close()
	v.engine = nil
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotUploaded, err)
	}
	for v.tree.Changed() || uint64(last) > v.owner.Covered() {
		err := v.tree.WriteBack(ctx, func() (uint64, error) { return uint64(last), nil })
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
	if err := v.owner.Release(ctx); err != nil {
		if errors.Is(err, fence.ErrFenced) {
			return err
		}
		return fmt.Errorf("%w: release: %w", ErrNotUploaded, err)
	}
	return v.dirs.setClean(true)
}

// abandon closes what Open had opened when it failed.
func (v *Volume) abandon(err error) {
	v.cancel(err)
	v.closeParts()
}

// journalStop is how long the journal may take to write what is queued.
const journalStop = 10 * time.Second

// closeParts closes in the reverse order of Open, each if it is open.
func (v *Volume) closeParts() error {
	var errs []error
	note := func(err error) {
		if err != nil && !errors.Is(err, fence.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if v.tree != nil && v.Err() != nil {
		v.tree.Stop(v.failure)
	}
	if v.engine != nil {
		note(v.engine.Close())
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
	if v.owner != nil {
		note(v.owner.Close())
	}
	if v.lineage != nil {
		note(v.lineage.Close())
	}
	if v.dirs != nil {
		v.dirs.close()
	}
	return errors.Join(errs...)
}
