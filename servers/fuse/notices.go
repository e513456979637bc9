//go:build linux

package fuse

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"zerofs/engine"
)

// notices takes from the kernel what others have changed. They are gathered, so that many changes of one
// inode are one notice, and written by one goroutine: the kernel takes a directory's lock for a name, and a request of
// that directory that is under way has it.
type notices struct {
	fs   *fileSystem
	tell notifier
	wake chan struct{} // holds one
	quit chan struct{}
	done chan struct{}

	mu     sync.Mutex
	inodes map[engine.Ino]bool // guarded by mu; whether data changed, and not attributes alone
	names  map[name]struct{}   // guarded by mu
}

type name struct {
	dir  engine.Ino
	name string
}

// notifier is *fuse.Server.
type notifier interface {
	InodeNotify(node uint64, off, length int64) fuse.Status
	EntryNotify(parent uint64, name string) fuse.Status
}

func newNotices(fs *fileSystem, tell notifier) *notices {
	n := &notices{fs: fs, tell: tell, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	n.reset()
	go n.run()
	return n
}

func (n *notices) reset() {
	n.inodes, n.names = make(map[engine.Ino]bool), make(map[name]struct{})
}

// changed is told of each change that did not come from the kernel.
func (n *notices) changed(c engine.Note) {
	if !n.fs.lookups.known(c.Ino) {
		return
	}
	n.mu.Lock()
	if c.Name != "" {
		n.names[name{c.Ino, c.Name}] = struct{}{}
	} else {
		n.inodes[c.Ino] = n.inodes[c.Ino] || c.Data
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default: // it is awake
	}
}

func (n *notices) run() {
	defer close(n.done)
	for {
		select {
		case <-n.wake:
			n.write()
		case <-n.quit:
			return
		}
	}
}

// write tells what has gathered. The kernel answers that it knows nothing of a thing if that is so.
func (n *notices) write() {
	n.mu.Lock()
	inodes, names := n.inodes, n.names
	n.reset()
	n.mu.Unlock()
	for e := range names {
		n.tell.EntryNotify(uint64(e.dir), e.name)
	}
	for ino, data := range inodes {
		if data {
			n.tell.InodeNotify(uint64(ino), 0, 0)
		} else {
			n.tell.InodeNotify(uint64(ino), -1, 0)
		}
	}
}

// stop ends the goroutine, once the kernel has gone.
func (n *notices) stop() {
	close(n.quit)
	<-n.done
}
