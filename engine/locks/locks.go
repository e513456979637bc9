package locks

import (
	"errors"
	"slices"
	"sync"
)

// Kinds of error.
var (
	// ErrWouldBlock reports a lock of another owner, to a caller that does not wait: EAGAIN.
	ErrWouldBlock = errors.New("locks: held by another owner")
	// ErrDeadlock reports that waiting would never end: EDEADLK.
	ErrDeadlock = errors.New("locks: deadlock")
	// ErrInvalid reports a range that ends before it starts: EINVAL.
	ErrInvalid = errors.New("locks: empty range")
)

// Owner is whom a lock belongs to.
type Owner struct {
	Client uint64 // a connection or mount
	ID     uint64 // the lock owner in it
}

// Lock is a lock on bytes of a file.
type Lock struct {
	Owner      Owner
	PID        uint32 // for those who ask who has it
	Start, End uint64 // both included; an End of ^0 is the end of the file, wherever it is
	Exclusive  bool
}

// conflicts reports whether both cannot be there.
func (l *Lock) conflicts(m *Lock) bool {
	return l.Owner != m.Owner && (l.Exclusive || m.Exclusive) && l.Start <= m.End && m.Start <= l.End
}

// Table holds the locks of a volume.
type Table struct {
	mu     sync.Mutex
	inodes map[uint64]*file     // guarded by mu; those with locks or waiters
	blocks map[Owner][]*waiting // guarded by mu; who waits in Set
}

// file is what is locked of an inode.
type file struct {
	ranges  []Lock // by start; those of one owner apart
	whole   map[Owner]bool
	waiters map[*waiting]struct{}
}

// New returns an empty table.
func New() *Table {
	return &Table{inodes: map[uint64]*file{}, blocks: map[Owner][]*waiting{}}
}

func (t *Table) file(ino uint64) *file {
	f := t.inodes[ino]
	if f == nil {
		f = &file{whole: map[Owner]bool{}, waiters: map[*waiting]struct{}{}}
		t.inodes[ino] = f
	}
	return f
}

// done forgets a file of which nothing is left.
func (t *Table) done(ino uint64, f *file) {
	if len(f.ranges) == 0 && len(f.whole) == 0 && len(f.waiters) == 0 {
		delete(t.inodes, ino)
	}
}

// blocker returns a lock in l's way.
func (f *file) blocker(l *Lock) *Lock {
	for i := range f.ranges {
		if f.ranges[i].Start > l.End {
			break
		}
		if f.ranges[i].conflicts(l) {
			return &f.ranges[i]
		}
	}
	return nil
}

// set makes l's range what l says, joined with what its owner has beside it.
func (f *file) set(l Lock) {
	f.cut(l.Owner, l.Start, l.End)
	f.ranges = slices.DeleteFunc(f.ranges, func(o Lock) bool {
		if o.Owner != l.Owner || o.Exclusive != l.Exclusive {
			return false
		}
		switch {
		case o.End < l.Start && o.End+1 == l.Start:
			l.Start = o.Start
			return true
		case l.End < o.Start && l.End+1 == o.Start:
			l.End = o.End
			return true
		}
		return false
	})
	f.insert(l)
}

func (f *file) insert(l Lock) {
	i, _ := slices.BinarySearchFunc(f.ranges, l.Start, func(o Lock, start uint64) int {
		if o.Start < start {
			return -1
		}
		return 1
	})
	f.ranges = slices.Insert(f.ranges, i, l)
}

// cut takes a range out of what its owner has, and reports whether there was any of it.
func (f *file) cut(o Owner, start, end uint64) bool {
	var rest []Lock
	n := len(f.ranges)
	f.ranges = slices.DeleteFunc(f.ranges, func(l Lock) bool {
		if l.Owner != o || l.Start > end || l.End < start {
			return false
		}
		if l.Start < start {
			left := l
			left.End = start - 1
			rest = append(rest, left)
		}
		if l.End > end {
			right := l
			right.Start = end + 1
			rest = append(rest, right)
		}
		return true
	})
	cut := len(f.ranges) < n
	for _, l := range rest {
		f.insert(l)
	}
	return cut
}

// Unset takes the owner's locks off a range, both ends included.
func (t *Table) Unset(ino uint64, o Owner, start, end uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.inodes[ino]; f != nil && f.cut(o, start, end) {
		f.wake()
		t.done(ino, f)
	}
}

// Test returns a lock that would keep Set from setting l.
func (t *Table) Test(ino uint64, l Lock) (conflict Lock, found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.inodes[ino]
	if f == nil {
		return Lock{}, false
	}
	b := f.blocker(&l)
	if b == nil {
		return Lock{}, false
	}
	return *b, true
}

// Unflock takes the owner's lock off the whole file.
func (t *Table) Unflock(ino uint64, o Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.inodes[ino]; f != nil {
		f.unflock(o)
		t.done(ino, f)
	}
}

func (f *file) unflock(o Owner) {
	if _, ok := f.whole[o]; ok {
		delete(f.whole, o)
		f.wake()
	}
}

// DropOwner takes all locks of an owner off an inode, of both kinds, as closing the file does.
func (t *Table) DropOwner(ino uint64, o Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.inodes[ino]; f != nil {
		f.drop(func(have Owner) bool { return have == o })
		t.done(ino, f)
	}
}

// DropClient takes off all locks of a client that is gone. Its waiting calls are ended by their contexts.
func (t *Table) DropClient(client uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, f := range t.inodes {
		f.drop(func(o Owner) bool { return o.Client == client })
		t.done(ino, f)
	}
}

func (f *file) drop(whose func(Owner) bool) {
	n := len(f.ranges)
	f.ranges = slices.DeleteFunc(f.ranges, func(l Lock) bool { return whose(l.Owner) })
	dropped := len(f.ranges) < n
	for o := range f.whole {
		if whose(o) {
			delete(f.whole, o)
			dropped = true
		}
	}
	if dropped {
		f.wake()
	}
}
