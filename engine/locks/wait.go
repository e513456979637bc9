package locks

import (
	"context"
	"slices"
)

// waiting is a call that waits for locks to go.
type waiting struct {
	ino  uint64
	l    *Lock         // nil for a whole file
	wake chan struct{} // holds one
}

// wake has those who wait look again.
func (f *file) wake() {
	for w := range f.waiters {
		select {
		case w.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// Set sets a lock on a range in place of what its owner has there. If another owner's is in the way it waits until
// ctx ends, or without wait fails with ErrWouldBlock; it fails with ErrDeadlock if that owner waits,
// over however many others, for this one.
func (t *Table) Set(ctx context.Context, ino uint64, l Lock, wait bool) error {
	if l.End < l.Start {
		return ErrInvalid
	}
	return t.lock(ctx, ino, &l, wait, func(f *file) error {
		if f.blocker(&l) == nil {
			f.set(l)
			f.wake() // it may have been exclusive before
			return nil
		}
		if wait && t.ring(l.Owner, ino, &l, map[Owner]bool{}) {
			return ErrDeadlock
		}
		return ErrWouldBlock
	})
}

// Flock sets a lock on the whole file. A lock that the owner has is given up first if the new one has to wait
// for others or fails, as on Linux.
func (t *Table) Flock(ctx context.Context, ino uint64, o Owner, exclusive, wait bool) error {
	return t.lock(ctx, ino, nil, wait, func(f *file) error {
		for other, excl := range f.whole {
			if other != o && (excl || exclusive) {
				f.unflock(o)
				return ErrWouldBlock
			}
		}
		f.whole[o] = exclusive
		f.wake() // it may have been exclusive before
		return nil
	})
}

// lock tries until it succeeds, if it fails with ErrWouldBlock only and is to wait. With l it takes part in the
// search for rings.
func (t *Table) lock(ctx context.Context, ino uint64, l *Lock, wait bool, try func(*file) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.file(ino)
	defer t.done(ino, f)
	err := try(f)
	if err != ErrWouldBlock || !wait {
		return err
	}
	w := &waiting{ino: ino, l: l, wake: make(chan struct{}, 1)}
	f.waiters[w] = struct{}{}
	if l != nil {
		t.blocks[l.Owner] = append(t.blocks[l.Owner], w)
	}
	defer t.unblock(f, w)
	for {
		t.mu.Unlock()
		select {
		case <-w.wake:
			t.mu.Lock()
		case <-ctx.Done():
			t.mu.Lock()
			return context.Cause(ctx)
		}
		if err := try(f); err != ErrWouldBlock {
			return err
		}
	}
}

func (t *Table) unblock(f *file, w *waiting) {
	delete(f.waiters, w)
	if w.l == nil {
		return
	}
	b := slices.DeleteFunc(t.blocks[w.l.Owner], func(x *waiting) bool { return x == w })
	if len(b) == 0 {
		delete(t.blocks, w.l.Owner)
	} else {
		t.blocks[w.l.Owner] = b
	}
}

// ring reports whether somebody in l's way waits, directly or not, for owner.
func (t *Table) ring(owner Owner, ino uint64, l *Lock, seen map[Owner]bool) bool {
	f := t.inodes[ino]
	if f == nil {
		return false
	}
	for i := range f.ranges {
		b := &f.ranges[i]
		if !b.conflicts(l) || seen[b.Owner] {
			continue
		}
		if b.Owner == owner {
			return true
		}
		seen[b.Owner] = true
		for _, w := range t.blocks[b.Owner] {
			if t.ring(owner, w.ino, w.l, seen) {
				return true
			}
		}
	}
	return false
}
