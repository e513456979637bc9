package tiers

import (
	"errors"
	"io/fs"
)

// kickTidy wakes tidy.
func (f *FS) kickTidy() {
	select {
	case f.tidyKick <- struct{}{}:
	default:
	}
}

// tidy makes changes durable that nobody waits for, a moment after they were made, and removes
// the local bytes of files that are gone. Local bytes outlive the name on the disk: otherwise a
// crash would leave a name without bytes.
func (f *FS) tidy() {
	for {
		select {
		case <-f.tidyKick:
		case <-f.ctx.Done():
			return
		}
		if !f.pause(tidyDelay) {
			return
		}
		if f.flush(true) == nil {
			f.removeDead()
		}
	}
}

// removeDead removes the local bytes of files whose removal is durable.
func (f *FS) removeDead() {
	tables, metas := f.takeDead()
	var discarded []string
	for _, t := range tables {
		if err := f.opts.NVMe.Remove(t.id); err != nil {
			f.opts.Logger.Warn("removing a local table file failed", "object", t.object, "error", err)
		}
		if t.offered && !t.committed.Load() {
			discarded = append(discarded, t.object)
		}
	}
	if len(discarded) > 0 {
		f.opts.Log.Discard(discarded)
	}
	for _, m := range metas {
		if err := closeMeta(m); err != nil {
			f.opts.Logger.Warn("closing a meta file failed", "id", metaName(m.id), "error", err)
		}
		if m.id == noID {
			continue
		}
		if err := f.opts.Disk.Remove(f.local(metaName(m.id))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.opts.Logger.Warn("removing a meta file failed", "id", metaName(m.id), "error", err)
		}
	}
}

// takeDead takes what may be removed now off the lists. Tables without references stay without:
// nothing finds them any more.
func (f *FS) takeDead() (tables []*table, metas []*metaFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	later := f.deadTables[:0]
	for _, t := range f.deadTables {
		if t.deleteOp > f.flushedOps {
			later = append(later, t)
			continue
		}
		tables = append(tables, t)
		delete(f.live, t)
		if !t.committed.Load() {
			f.dirtyFiles--
			f.dirtyBytes -= t.stored()
		}
	}
	clear(f.deadTables[len(later):])
	f.deadTables = later
	keep := f.deadMetas[:0]
	for _, d := range f.deadMetas {
		if d.op > f.flushedOps {
			keep = append(keep, d)
		} else {
			metas = append(metas, d.m)
		}
	}
	f.deadMetas = keep
	return tables, metas
}
