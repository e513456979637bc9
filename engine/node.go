package engine

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"zerofs/journal"
)

// node is an inode in use, or idle in the cache. There is at most one for a number at a time, so that
// whoever changes the inode goes through its locks.
type node struct {
	ino   Ino
	refs  int           // guarded by nodeTable.mu
	older *node         // of the idle ones; guarded by nodeTable.mu
	newer *node         // likewise
	doom  chan struct{} // see nodeTable.doom; guarded by nodeTable.mu
	gone  bool          // it was removed while doomed; guarded by nodeTable.mu

	loaded chan struct{} // closed when attr or loadErr is there
	err    error         // why the inode could not be loaded; set before loaded is closed

	attr  atomic.Pointer[Attr] // replaced under the commit lock only; what it points to never changes
	lsn   atomic.Uint64        // of the last change other than a device's, or a later one
	atime atomic.Int64         // later than attr's if not zero: a read that is not stored yet

	// dir serialises changes to a directory's entries and to an inode's names. Taken in the order of inode
	// numbers, before any stripe. version counts changes to entries; it changes under dir only.
	dir     sync.Mutex
	version atomic.Uint64
	devices int // Devices that are open; guarded by dir

	// stripes serialise writers of chunks: a chunk's is (index / stripeChunks) mod stripes. Taken in
	// ascending order, before the commit lock. Readers take none.
	stripes [stripes]sync.Mutex

	// meta serialises changes of mode, owner and extended attributes. Taken after stripes.
	meta        sync.Mutex
	metaVersion atomic.Uint64 // counts those changes; it changes under meta only

	written atomic.Bool  // a device, since it was counted
	counted atomic.Int64 // when a count was last asked for, ns

	allocs allocs // of a regular file, which of its chunks there are

	streams streams // sequential readers
}

const (
	stripes      = 64
	stripeChunks = 16
)

// stripeMask returns the stripes of chunks first to last, both included.
func stripeMask(first, last ChunkIndex) uint64 {
	a, b := first/stripeChunks, last/stripeChunks
	if b-a >= stripes-1 {
		return ^uint64(0)
	}
	low := uint64(1)<<(b-a+1) - 1
	return bits.RotateLeft64(low, int(a%stripes))
}

// lock takes the stripes in mask, unlock gives them back.
func (n *node) lock(mask uint64) {
	for m := mask; m != 0; m &= m - 1 {
		n.stripes[bits.TrailingZeros64(m)].Lock()
	}
}

func (n *node) unlock(mask uint64) {
	for m := mask; m != 0; m &= m - 1 {
		n.stripes[bits.TrailingZeros64(m)].Unlock()
	}
}

// nodeTable holds the nodes in use, and so many more that were used last.
type nodeTable struct {
	mu             sync.Mutex // taken last, held for map operations only
	nodes          map[Ino]*node
	oldest, newest *node // idle
	idle, idleMax  int
}

// acquire returns the inode's node, which release must give back. The first to ask for it reads the
// attributes, with no lock held; others wait.
func (e *Engine) acquire(ctx context.Context, ino Ino) (*node, error) {
	for {
		n, first, doom := e.nodes.get(ino)
		switch {
		case doom != nil:
			select {
			case <-doom:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			continue
		case first:
			e.load(n)
		default:
			if err := n.wait(ctx); err != nil {
				e.release(n)
				return nil, err
			}
		}
		err := n.err
		if err == nil {
			return n, nil
		}
		e.release(n)
		if first || !errors.Is(err, ErrStale) {
			return nil, err
		} // else the number may have got its inode after the other looked
	}
}

// release gives a node back. With the last reference to an unlinked inode goes what it held.
func (e *Engine) release(n *node) {
	if e.nodes.put(n) {
		e.reaper.add(n.ino)
	}
}

// get returns the inode's node with a reference, and whether the caller must load it. If its end is
// about to be decided there is a channel instead, after which to ask again.
func (t *nodeTable) get(ino Ino) (n *node, first bool, doom <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n = t.nodes[ino]
	switch {
	case n == nil:
		n, first = &node{ino: ino, loaded: make(chan struct{})}, true
		t.nodes[ino] = n
	case n.doom != nil:
		return nil, false, n.doom
	case n.refs == 0:
		t.unlink(n)
	}
	n.refs++
	return n, first, nil
}

// insert adds the node of an inode that was just made to the idle ones, unless somebody guessed its number.
func (t *nodeTable) insert(ino Ino, a *Attr, lsn journal.LSN) {
	n := &node{ino: ino, loaded: make(chan struct{})}
	n.attr.Store(a)
	n.lsn.Store(uint64(lsn))
	close(n.loaded)
	t.mu.Lock()
	defer t.mu.Unlock()
	if other := t.nodes[ino]; other != nil {
		other.reached(uint64(lsn)) // it may have read the inode before Applied told of lsn
		return
	}
	t.nodes[ino] = n
	t.keep(n)
}

// forget takes a node that could not be loaded out of the table.
func (t *nodeTable) forget(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes[n.ino] == n {
		delete(t.nodes, n.ino)
	}
}

// find returns the node with a reference if it is loaded, else nil.
func (t *nodeTable) find(ino Ino) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[ino]
	if n == nil || n.doom != nil || n.attr.Load() == nil {
		return nil
	}
	if n.refs == 0 {
		t.unlink(n)
	}
	n.refs++
	return n
}

// held returns the node of an inode that is held, without another reference.
func (t *nodeTable) held(ino Ino) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[ino]; n != nil && n.refs > 0 {
		return n
	}
	return nil
}

// put gives a reference back. Without one a node stays in the cache for a while. It reports whether this was
// the last reference to an unlinked inode.
func (t *nodeTable) put(n *node) (orphaned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.refs--
	if n.refs > 0 || n.gone {
		return false
	}
	a := n.attr.Load()
	if a == nil { // forgotten
		return false
	}
	if a.Nlink == 0 {
		delete(t.nodes, n.ino)
		return true
	}
	t.keep(n)
	return false
}

// keep adds a node that nobody uses to the idle ones, of which the oldest go when there are too many.
func (t *nodeTable) keep(n *node) {
	t.link(n)
	for t.idle > t.idleMax {
		n := t.oldest
		t.unlink(n)
		delete(t.nodes, n.ino)
	}
}

// doom makes everybody who asks for the node wait until settle, if the caller is the only one that has
// it: so its last name and itself can go in one change.
func (t *nodeTable) doom(n *node) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.refs != 1 || n.doom != nil {
		return false
	}
	n.doom = make(chan struct{})
	return true
}

// settle says whether a doomed inode is gone.
func (t *nodeTable) settle(n *node, gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if gone {
		n.gone = true
		delete(t.nodes, n.ino)
	}
	close(n.doom)
	n.doom = nil
}

// link adds a node to the idle ones.
func (t *nodeTable) link(n *node) {
	n.older = t.newest
	if t.newest != nil {
		t.newest.newer = n
	} else {
		t.oldest = n
	}
	t.newest = n
	t.idle++
}

// unlink takes a node out of the idle ones.
func (t *nodeTable) unlink(n *node) {
	if n.older != nil {
		n.older.newer = n.newer
	} else {
		t.oldest = n.newer
	}
	if n.newer != nil {
		n.newer.older = n.older
	} else {
		t.newest = n.older
	}
	n.older, n.newer = nil, nil
	t.idle--
}

// reached notes that the last change may have been as late as lsn.
func (n *node) reached(lsn uint64) {
	for old := n.lsn.Load(); old < lsn && !n.lsn.CompareAndSwap(old, lsn); old = n.lsn.Load() {
	}
}

func (n *node) wait(ctx context.Context) error {
	select {
	case <-n.loaded:
		return nil
	default:
	}
	select {
	case <-n.loaded:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *Engine) load(n *node) {
	defer close(n.loaded)
	a, err := e.loadAttr(n)
	if err != nil {
		n.err = fmt.Errorf("engine: inode %d: %w", n.ino, err)
		e.nodes.forget(n)
		return
	}
	n.attr.Store(&a)
}

func (e *Engine) loadAttr(n *node) (Attr, error) {
	v, err := e.read1(appendInodeKey(nil, n.ino))
	if errors.Is(err, errNotExist) {
		err = ErrStale
	}
	if err != nil {
		return Attr{}, err
	}
	n.reached(e.applied.Load())
	a, err := decodeAttr(v)
	if err != nil {
		return Attr{}, err
	}
	if a.Nlink == 0 { // its last user is gone; what it held is being removed, or will be at the next start
		return Attr{}, fmt.Errorf("unlinked: %w", ErrStale)
	}
	if a.Flags&flagACL != 0 {
		l, err := e.loadACLs(n.ino)
		if err != nil {
			return Attr{}, err
		}
		a.acl = &l
	}
	return a, nil
}
