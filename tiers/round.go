package tiers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"zerofs/fence"
)

// errStale reports that a captured file went before its upload began.
var errStale = errors.New("a captured file was removed before its upload")

// captured is a table file of a round.
type captured struct {
	name string
	t    *table
}

// metaChange is what a Commit says of a meta file.
type metaChange struct {
	delta fence.MetaDelta
	m     *metaFile
}

// round is what one Commit says: how the directory differed from the log at one moment. It holds
// references to its table files.
type round struct {
	added   []captured
	dropped []string
	metas   []metaChange
	changes uint64 // FS.changes at that moment
}

func (r *round) empty() bool { return len(r.added)+len(r.dropped)+len(r.metas) == 0 }

// capture compares the directory with the log. The result is consistent: Pebble syncs a table
// file and its name before a MANIFEST edit that needs them, and removes a file only after the
// edit that drops it was synced. f.mu is held.
func (f *FS) capture() *round {
	r := &round{changes: f.changes}
	for name, x := range f.names {
		switch x := x.(type) {
		case *table:
			if x.whole && f.wb.tables[name] != x.object {
				f.ref(x)
				r.added = append(r.added, captured{name, x})
			}
		case *metaFile:
			if !classify(name).travels() {
				continue
			}
			if delta, ok := f.metaDelta(name, x); ok {
				r.metas = append(r.metas, metaChange{delta, x})
			}
		}
	}
	for name, object := range f.wb.tables {
		if t, ok := f.names[name].(*table); !ok || !t.whole || t.object != object {
			r.dropped = append(r.dropped, name)
		}
	}
	for name := range f.wb.metas {
		if _, ok := f.names[name].(*metaFile); !ok {
			r.metas = append(r.metas, metaChange{delta: fence.MetaDelta{Name: name, Removed: true}})
		}
	}
	return r
}

// metaDelta returns what the log lacks of a meta file. f.mu is held.
func (f *FS) metaDelta(name string, m *metaFile) (delta fence.MetaDelta, changed bool) {
	was, known := f.wb.metas[name]
	from := 0
	if known && was.m == m {
		from = was.n
	}
	if known && was.m == m && from == m.synced {
		return delta, false
	}
	return fence.MetaDelta{Name: name, Offset: int64(from), Data: m.data[from:m.synced:m.synced]}, true
}

// drop gives the round's references back. f.mu is held.
func (f *FS) drop(r *round) {
	for _, c := range r.added {
		f.unref(c.t)
	}
}

// commit returns the record, in an order that does not depend on maps.
func (r *round) commit(lsn uint64) fence.Commit {
	c := fence.Commit{LSN: lsn, Dropped: slices.Sorted(slices.Values(r.dropped))}
	for _, a := range r.added {
		c.Added = append(c.Added, fence.Table{Name: a.name, Object: a.t.object, Size: a.t.size, ID: a.t.id})
	}
	for _, m := range r.metas {
		c.Meta = append(c.Meta, m.delta)
	}
	slices.SortFunc(c.Added, func(a, b fence.Table) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Meta, func(a, b fence.MetaDelta) int { return strings.Compare(a.Name, b.Name) })
	return c
}

// upload puts the round's files that are not in the store yet, several at a time. It ends with
// the first error. With skip, a file that was removed before its upload began makes it end with
// errStale.
func (f *FS) upload(ctx context.Context, r *round, skip bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan captured)
	var workers sync.WaitGroup
	for range min(uploads, len(r.added)) {
		workers.Go(func() {
			for c := range next {
				if err := f.uploadOne(ctx, c, skip); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for _, c := range r.added {
		select {
		case next <- c:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

// uploadOne puts one file unless that was done.
func (f *FS) uploadOne(ctx context.Context, c captured, skip bool) error {
	f.mu.Lock()
	done, stale := c.t.uploaded, c.t.gone && !c.t.offered && skip
	if !done && !stale {
		c.t.offered = true
	}
	f.mu.Unlock()
	switch {
	case done:
		return nil
	case stale:
		return errStale
	}
	if err := f.putObject(ctx, c); err != nil {
		return err
	}
	f.mu.Lock()
	c.t.uploaded = true
	f.mu.Unlock()
	return nil
}
