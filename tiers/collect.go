package tiers

import (
	"context"
	"fmt"
	"time"

	"zerofs/fence"
)

const (
	// deleteGrace is how long an object stays after the last record stopped naming it: readers
	// of an older state may be about to read it.
	deleteGrace = 5 * time.Minute

	deleteBatch = 1000 // keys of one request
)

// Collect deletes objects that nothing needs any more.
func (f *FS) Collect(ctx context.Context) error {
	ctx, cancel := f.join(ctx)
	defer cancel()
	return f.deleteObjects(ctx, f.opts.Log.Deletable(deleteGrace))
}

// deleteObjects deletes objects and tells the log, batch by batch.
func (f *FS) deleteObjects(ctx context.Context, objects []string) error {
	for len(objects) > 0 {
		batch := objects[:min(deleteBatch, len(objects))]
		objects = objects[len(batch):]
		if err := f.opts.Store.Delete(ctx, batch...); err != nil {
			return fmt.Errorf("tiers: delete %d objects: %w", len(batch), err)
		}
		f.opts.Log.Deleted(batch)
	}
	return nil
}

// SweepOrphans deletes objects of dead epochs that no state and no local file names: uploads of
// an owner that died before it could commit or discard them. state is the volume's newest; what
// the log still has to delete after its grace is left to Collect. Younger objects than minAge, by
// the store's own clock, stay, and so do all when the store does not tell the time.
func (f *FS) SweepOrphans(ctx context.Context, state *fence.State, minAge time.Duration) error {
	ctx, cancel := f.join(ctx)
	defer cancel()
	named := f.namedObjects(state)
	for after := ""; ; {
		page, err := f.opts.Store.List(ctx, objectPrefix, after)
		if err != nil {
			return fmt.Errorf("tiers: list %s: %w", objectPrefix, err)
		}
		var orphans []string
		for _, e := range page.Entries {
			epoch, ok := tableEpoch(e.Key)
			if !ok || epoch >= f.opts.Epoch || named[e.Key] {
				continue
			}
			if page.Date.IsZero() || e.Modified.IsZero() || page.Date.Sub(e.Modified) < minAge {
				continue
			}
			orphans = append(orphans, e.Key)
		}
		if len(orphans) > 0 {
			f.opts.Logger.Info("deleting objects that no owner needs", "objects", len(orphans), "first", orphans[0])
			if err := f.deleteObjects(ctx, orphans); err != nil {
				return err
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}

// namedObjects returns the objects that state, the log as we know it, or a local file names, those
// of rounds under way among them, and those that the log is going to delete.
func (f *FS) namedObjects(state *fence.State) map[string]bool {
	named := make(map[string]bool, len(state.Tables))
	for _, t := range state.Tables {
		named[t.Object] = true
	}
	for _, object := range f.opts.Log.Deletable(0) {
		named[object] = true // Collect deletes it when its time has come
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, object := range f.wb.tables {
		named[object] = true
	}
	for t := range f.live {
		named[t.object] = true
	}
	return named
}
