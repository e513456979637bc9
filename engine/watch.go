package engine

import (
	"context"
	"slices"
)

// Note says what a change left different: an inode, or what a name in a directory stands for.
type Note struct {
	Ino  Ino    // the inode, or the directory
	Name string // of the entry that came or went; empty for the inode itself
	Data bool   // the inode's contents, and not its attributes alone
}

// watcher is told of changes.
type watcher struct {
	origin uint64
	fn     func(Note)
}

type originKey struct{}

// WithOrigin returns a context whose changes the watcher of this origin is not told of: it made them. Origins are
// above zero.
func WithOrigin(ctx context.Context, origin uint64) context.Context {
	return context.WithValue(ctx, originKey{}, origin)
}

// Watch has fn called after every change of files until stop is called: when the change is visible and no lock is
// held, before the call that made it returns. It is called by many goroutines at once and must not wait. Changes under
// WithOrigin(origin) are left out, as are access times, and what the clients of a block device write.
func (e *Engine) Watch(origin uint64, fn func(Note)) (stop func()) {
	w := &watcher{origin: origin, fn: fn}
	e.editWatchers(func(all []*watcher) []*watcher { return append(all, w) })
	return func() {
		e.editWatchers(func(all []*watcher) []*watcher {
			return slices.DeleteFunc(all, func(o *watcher) bool { return o == w })
		})
	}
}

func (e *Engine) editWatchers(edit func([]*watcher) []*watcher) {
	for {
		old := e.watchers.Load()
		var all []*watcher
		if old != nil {
			all = slices.Clone(*old)
		}
		all = edit(all)
		next := &all
		if len(all) == 0 {
			next = nil
		}
		if e.watchers.CompareAndSwap(old, next) {
			return
		}
	}
}

// watched is what a transaction tells its watchers; its zero value tells nobody.
type watched struct {
	all    *[]*watcher
	origin uint64
	names  []Note
	done   bool // the change is visible
}

func (e *Engine) watch(ctx context.Context) watched {
	all := e.watchers.Load()
	if all == nil {
		return watched{}
	}
	origin, _ := ctx.Value(originKey{}).(uint64)
	for _, w := range *all {
		if w.origin != origin {
			return watched{all: all, origin: origin}
		}
	}
	return watched{}
}

func (w *watched) named(dir Ino, name string) {
	if w.all != nil {
		w.names = append(w.names, Note{Ino: dir, Name: name})
	}
}

// tell tells of what was committed. No lock is held.
func (t *txn) tell() {
	w := &t.watched
	if w.all == nil || !w.done {
		return
	}
	for _, to := range *w.all {
		if to.origin == w.origin {
			continue
		}
		for _, n := range w.names {
			to.fn(n)
		}
		for i := range t.fixups {
			f := &t.fixups[i]
			if f.before.Ctime != f.after.Ctime || f.before.Nlink != f.after.Nlink {
				to.fn(Note{Ino: f.n.ino, Data: f.before.Size != f.after.Size || f.before.Mtime != f.after.Mtime})
			}
		}
	}
}
