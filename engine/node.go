package engine

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// node is an inode in use. There is at most one for a number at a time, so that whoever changes the
// inode goes through its locks.
type node struct {
	ino  Ino
	refs int // guarded by nodeTable.mu

	loaded chan struct{} // closed when attr or loadErr is there
	err    error         // why the inode could not be loaded; set before loaded is closed

	attr atomic.Pointer[Attr] // replaced under the commit lock only; what it points to never changes

	// dir serialises changes to a directory's entries. Taken in the order of inode numbers, before any
	// stripe. version counts those changes; it changes under dir only.
	dir     sync.Mutex
	version atomic.Uint64

	// stripes serialise writers of chunks: a chunk's is (index / stripeChunks) mod stripes. Taken in
	// ascending order, before the commit lock. Readers take none.
	stripes [stripes]sync.Mutex

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

// nodeTable holds the nodes in use.
type nodeTable struct {
	mu    sync.Mutex // taken last, held for map operations only
	nodes map[Ino]*node
}

// acquire returns the inode's node, which release must give back. The first to ask for it reads the
// attributes, with no lock held; others wait.
func (e *Engine) acquire(ctx context.Context, ino Ino) (*node, error) {
	n, first := e.nodes.get(ino)
	if first {
		e.load(n)
	} else if err := n.wait(ctx); err != nil {
		e.nodes.put(n)
		return nil, err
	}
	if err := n.err; err != nil {
		e.nodes.put(n)
		return nil, err
	}
	return n, nil
}

// release gives a node back. With the last reference to an unlinked inode goes what it held.
func (e *Engine) release(n *node) {
	if e.nodes.put(n) && n.attr.Load().Nlink == 0 {
		if err := e.reclaim(e.life, n.ino); err != nil && !errors.Is(err, ErrClosed) {
			e.opts.Logger.Warn("unlinked file is left for the next start", "inode", n.ino, "err", err)
		}
	}
}

func (t *nodeTable) get(ino Ino) (n *node, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n = t.nodes[ino]
	if n == nil {
		n, first = &node{ino: ino, loaded: make(chan struct{})}, true
		t.nodes[ino] = n
	}
	n.refs++
	return n, first
}

// put gives a reference back and reports whether it was the last.
func (t *nodeTable) put(n *node) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.refs--
	if n.refs == 0 {
		delete(t.nodes, n.ino)
		return true
	}
	return false
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
	v, err := e.read1(appendInodeKey(nil, n.ino))
	if err != nil {
		n.err = fmt.Errorf("engine: inode %d: %w", n.ino, err)
		return
	}
	a, err := decodeAttr(v)
	if err != nil {
		n.err = fmt.Errorf("engine: inode %d: %w", n.ino, err)
		return
	}
	if a.Nlink == 0 { // its last user is gone; what it held is being removed, or will be at the next start
		n.err = fmt.Errorf("engine: inode %d was unlinked: %w", n.ino, errNotExist)
		return
	}
	n.attr.Store(&a)
}
