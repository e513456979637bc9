package disktest

import (
	"maps"
	"time"

	"zerofs/tiers/disk"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

// page is shared between a disk and its clones once it is durable, and then never written.
type page [pageSize]byte

var zeroPage page

// slot is one page of a file. A nil page reads as zeros.
type slot struct {
	cur   *page // what the running system sees; private to this slot if dirty, else == old
	old   *page // what is durable
	dirty bool  // cur is not durable
	lost  bool  // dirty, and a sync of it failed: later syncs pass it by
	held  bool  // takes space
}

// node is a file or a directory. Guarded by FS.mu.
type node struct {
	isDir bool
	mtime time.Time

	// Of a directory.
	children map[string]*node
	synced   map[string]*node

	// Of a file.
	slots      []slot
	dirty      []int // indices of slots that are dirty; may name one twice, or one that is not
	size       int64
	syncedSize int64
	links      int // names that the running system sees
	opens      int
}

// nameOp is a change of one name in a directory that was not synced since.
type nameOp struct {
	dir   *node
	name  string
	child *node   // nil: the name went
	needs *nameOp // survives only if that does: the removal half of a rename
}

func newDir() *node {
	return &node{isDir: true, children: map[string]*node{}, synced: map[string]*node{}}
}

// setName points name in dir at child, or removes it with nil, and remembers that as not durable.
func (fs *FS) setName(dir *node, name string, child *node, needs *nameOp) *nameOp {
	if was := dir.children[name]; was != nil {
		was.links--
		fs.release(was)
	}
	if child == nil {
		delete(dir.children, name)
	} else {
		child.links++
		dir.children[name] = child
	}
	op := &nameOp{dir, name, child, needs}
	fs.pending = append(fs.pending, op)
	return op
}

// syncDir makes the names in dir durable, and what they need, in order.
func (fs *FS) syncDir(dir *node) {
	durable := map[*nameOp]bool{}
	for _, op := range fs.pending {
		if op.dir == dir {
			durable[op] = true
			if op.needs != nil {
				durable[op.needs] = true
			}
		}
	}
	rest := fs.pending[:0]
	for _, op := range fs.pending {
		if durable[op] {
			apply(op.dir.synced, op.name, op.child)
		} else {
			rest = append(rest, op)
		}
	}
	clear(fs.pending[len(rest):])
	fs.pending = rest
}

func apply(names map[string]*node, name string, child *node) {
	if child == nil {
		delete(names, name)
	} else {
		names[name] = child
	}
}

// release gives back the space of a file that nobody can reach any more in the running system.
func (fs *FS) release(n *node) {
	if n.isDir || n.links > 0 || n.opens > 0 {
		return
	}
	for i := range n.slots {
		fs.drop(&n.slots[i])
	}
}

func (fs *FS) drop(s *slot) {
	if s.held {
		s.held = false
		fs.used -= pageSize
	}
}

// take finds space for the slots [first, last), or nothing.
func (fs *FS) take(n *node, first, last int) error {
	need := int64(0)
	for i := first; i < last; i++ {
		if i >= len(n.slots) || !n.slots[i].held {
			need += pageSize
		}
	}
	if c := fs.capacity.Load(); c > 0 && need > 0 && fs.used+need > c {
		return errFull
	}
	for len(n.slots) < last {
		n.slots = append(n.slots, slot{})
	}
	for i := first; i < last; i++ {
		n.slots[i].held = true
	}
	fs.used += need
	return nil
}

// write changes p at off in the running system.
func (fs *FS) write(n *node, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	end := off + int64(len(p))
	if err := fs.take(n, int(off/pageSize), int((end+pageSize-1)/pageSize)); err != nil {
		return err
	}
	for at := off; at < end; {
		i, in := int(at/pageSize), int(at%pageSize)
		k := copyInto(n, i, in, p[at-off:])
		at += int64(k)
	}
	n.size = max(n.size, end)
	n.mtime = fs.now()
	return nil
}

// copyInto overwrites slot i from in on and returns how much of p fitted.
func copyInto(n *node, i, in int, p []byte) int {
	k := min(len(p), pageSize-in)
	if k == pageSize && page(p[:pageSize]) == zeroPage {
		n.setDirty(i, nil)
		return k
	}
	s := &n.slots[i]
	target := s.cur
	if !s.dirty || target == nil {
		target = new(page)
		if k < pageSize && s.cur != nil {
			*target = *s.cur
		}
	}
	copy(target[in:], p[:k])
	n.setDirty(i, target)
	return k
}

// setDirty gives slot i contents which are not durable.
func (n *node) setDirty(i int, cur *page) {
	s := &n.slots[i]
	if !s.dirty || s.lost {
		n.dirty = append(n.dirty, i)
	}
	s.cur, s.dirty, s.lost = cur, true, false
}

// commit makes slot i durable.
func (s *slot) commit() { s.old, s.dirty, s.lost = s.cur, false, false }

// syncRange makes the range durable, as WriteAtSync does.
func (n *node) syncRange(off, end int64) {
	for i := int(off / pageSize); i < int((end+pageSize-1)/pageSize); i++ {
		n.slots[i].commit()
	}
	n.syncedSize = max(n.syncedSize, end)
}

// sync makes the whole file durable, except what an earlier sync lost; if it fails it loses all.
func (n *node) sync(durable bool) {
	for _, i := range n.dirty {
		if i >= len(n.slots) {
			continue
		}
		s := &n.slots[i]
		switch {
		case !s.dirty || s.lost:
		case durable:
			s.commit()
		default:
			s.lost = true
		}
	}
	n.dirty = n.dirty[:0]
	if durable {
		n.syncedSize = n.size
	}
}

// truncate sets the size in the running system. What is cut off stays durable until a sync.
func (fs *FS) truncate(n *node, size int64) {
	if size < n.size {
		fs.zero(n, size, min(n.size, int64(len(n.slots))*pageSize))
	}
	n.size = size
	n.mtime = fs.now()
}

// zero makes a range read as zeros and gives its whole pages back.
func (fs *FS) zero(n *node, off, end int64) {
	end = min(end, int64(len(n.slots))*pageSize)
	for at := off; at < end; {
		i, in := int(at/pageSize), int(at%pageSize)
		k := min(pageSize-in, int(end-at))
		copyInto(n, i, in, zeroPage[:k])
		if k == pageSize {
			fs.drop(&n.slots[i])
		}
		at += int64(k)
	}
}

// read copies what the running system sees at off and returns how much there was.
func (n *node) read(p []byte, off int64) int {
	if off >= n.size {
		return 0
	}
	p = p[:min(int64(len(p)), n.size-off)]
	for done := 0; done < len(p); {
		i, in := int((off+int64(done))/pageSize), int((off+int64(done))%pageSize)
		src := &zeroPage
		if i < len(n.slots) && n.slots[i].cur != nil {
			src = n.slots[i].cur
		}
		done += copy(p[done:], src[in:])
	}
	return len(p)
}

// durableNames returns the names that dir would have after a crash in which the given pending
// operations survived.
func durableNames(dir *node, pending []*nameOp, survived map[*nameOp]bool) map[string]*node {
	names := maps.Clone(dir.synced)
	for _, op := range pending {
		if op.dir == dir && survived[op] {
			apply(names, op.name, op.child)
		}
	}
	return names
}

// errFull is what a full disk answers.
var errFull = fullError{}

type fullError struct{}

func (fullError) Error() string        { return "disktest: no space left on device" }
func (fullError) Is(target error) bool { return target == disk.ErrFull || target == enospc }
