package disktest

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashClone returns the disk as a power cut leaves it: what was synced, and of the rest about
// percent per cent, by the seed. It shares nothing that changes with fs, which may go on.
// The clone has no hook, no lock held, and fs's capacity.
func (fs *FS) CrashClone(seed uint64, percent int) *FS {
	return fs.clone(&crash{rng: rand.New(rand.NewPCG(seed, 0x7a65726f6673)), percent: percent})
}

// KillClone returns the disk as a new process finds it after the old one was killed: all there,
// and what was not synced still to be.
func (fs *FS) KillClone() *FS { return fs.clone(nil) }

// crash throws the coins. A nil crash keeps everything as it is.
type crash struct {
	rng     *rand.Rand
	percent int
}

func (c *crash) survives() bool { return c.rng.IntN(100) < c.percent }

func (fs *FS) clone(c *crash) *FS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	to := newFS(Options{Capacity: fs.capacity.Load(), Buffered: fs.buffered, Now: fs.now})
	cl := cloner{from: fs, to: to, crash: c, done: map[*node]*node{}}
	if c != nil {
		cl.survived = map[*nameOp]bool{}
		for _, op := range fs.pending {
			cl.survived[op] = (op.needs == nil || cl.survived[op.needs]) && c.survives()
		}
	}
	to.root = cl.node(fs.root)
	if c == nil {
		cl.pending()
	}
	return to
}

// cloner copies nodes; each once, since a file may have several names.
type cloner struct {
	from, to *FS
	crash    *crash
	survived map[*nameOp]bool
	done     map[*node]*node
}

func (cl *cloner) node(n *node) *node {
	if n == nil {
		return nil
	}
	if got := cl.done[n]; got != nil {
		return got
	}
	if !n.isDir {
		got := cl.file(n)
		cl.done[n] = got
		return got
	}
	got := newDir()
	cl.done[n] = got
	if cl.crash == nil {
		cl.names(got.children, n.children, true)
		cl.names(got.synced, n.synced, false)
		return got
	}
	cl.names(got.children, durableNames(n, cl.from.pending, cl.survived), true)
	maps.Copy(got.synced, got.children)
	return got
}

// names copies a directory's names in sorted order, so that the coins fall the same way each time.
func (cl *cloner) names(to, from map[string]*node, visible bool) {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		child := cl.node(from[name])
		to[name] = child
		if visible {
			child.links++
		}
	}
}

// pending copies the names that are not durable.
func (cl *cloner) pending() {
	ops := map[*nameOp]*nameOp{}
	for _, op := range cl.from.pending {
		c := &nameOp{cl.node(op.dir), op.name, cl.node(op.child), ops[op.needs]}
		ops[op] = c
		cl.to.pending = append(cl.to.pending, c)
	}
}

func (cl *cloner) file(n *node) *node {
	got := &node{mtime: n.mtime, size: n.size, syncedSize: n.syncedSize, slots: slices.Clone(n.slots)}
	if cl.crash != nil {
		got.size = cl.crash.size(n.syncedSize, n.size)
		got.syncedSize = got.size
	} else {
		got.dirty = slices.Clone(n.dirty)
	}
	for i := range got.slots {
		s := &got.slots[i]
		if s.dirty {
			cl.slot(s)
		}
		if s.held = s.held || s.cur != nil; s.held {
			cl.to.used += pageSize
		}
	}
	if cl.crash != nil {
		got.cut()
	}
	return got
}

// slot makes the copy of a dirty slot independent, and throws the coins for its sectors.
func (cl *cloner) slot(s *slot) {
	cur := new(page)
	if s.cur != nil {
		*cur = *s.cur
	}
	if cl.crash == nil {
		s.cur = cur
		return
	}
	for at := 0; at < pageSize; at += sectorSize {
		if cl.crash.survives() {
			continue
		}
		if s.old == nil {
			clear(cur[at : at+sectorSize])
		} else {
			copy(cur[at:at+sectorSize], s.old[at:])
		}
	}
	s.cur = cur
	s.commit()
}

// size picks the durable size of a file: the synced one, the current one, or one in between.
func (c *crash) size(synced, current int64) int64 {
	if synced == current || !c.survives() {
		return synced
	}
	if c.percent >= 100 || c.rng.IntN(2) == 0 {
		return current
	}
	lo, hi := min(synced, current), max(synced, current)
	at := lo + c.rng.Int64N(hi-lo)
	return max(lo, at/sectorSize*sectorSize)
}

// cut zeroes what lies past the end of a file, so that it does not come back when the file grows.
func (n *node) cut() {
	keep := int((n.size + pageSize - 1) / pageSize)
	for i := keep; i < len(n.slots); i++ {
		n.slots[i].cur, n.slots[i].old = nil, nil
	}
	if in := int(n.size % pageSize); in > 0 && keep <= len(n.slots) && n.slots[keep-1].cur != nil {
		p := *n.slots[keep-1].cur
		clear(p[in:])
		n.slots[keep-1].cur, n.slots[keep-1].old = &p, &p
	}
}
