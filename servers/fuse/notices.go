//go:build linux

package fuse

import (
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"zerofs/engine"
)

// notices takes from the kernel what others have changed. They are gathered, so that many changes of one
// inode are one notice, and written by one goroutine: the kernel takes a directory's lock for a name, and a request of
// that directory that is under way has it.
//
// An inode that the kernel was told of and does not know is one of which an answer is under way: that notice is
// written again later.
type notices struct {
	fs   *fileSystem
	tell notifier
	wake chan struct{} // holds one
	quit chan struct{}
	done chan struct{}

	mu     sync.Mutex
	inodes map[engine.Ino]inodeNotice // guarded by mu
	names  map[name]struct{}          // guarded by mu
}

type inodeNotice struct {
	data  bool // contents changed, and not attributes alone
	tries int
}

// A notice is written again after a millisecond, ten, a hundred and so on.
const (
	retryAfter = time.Millisecond
	triesMax   = 5
)

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
	n.inodes, n.names = make(map[engine.Ino]inodeNotice), make(map[name]struct{})
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
		n.inodes[c.Ino] = inodeNotice{data: n.inodes[c.Ino].data || c.Data}
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default: // it is awake
	}
}

func (n *notices) run() {
	defer close(n.done)
	retry := time.NewTimer(0)
	defer retry.Stop()
	<-retry.C
	for {
		select {
		case <-n.wake:
		case <-retry.C:
		case <-n.quit:
			return
		}
		if again := n.write(); again > 0 {
			retry.Reset(again)
		}
	}
}

// write tells what has gathered, and returns after what time to write what is left, or 0. The kernel answers that it
// knows nothing of a thing if that is so.
func (n *notices) write() (again time.Duration) {
	n.mu.Lock()
	inodes, names := n.inodes, n.names
	n.reset()
	n.mu.Unlock()
	for e := range names {
		n.tell.EntryNotify(uint64(e.dir), e.name)
	}
	for ino, notice := range inodes {
		off := int64(-1) // attributes alone
		if notice.data {
			off = 0
		}
		if n.tell.InodeNotify(uint64(ino), off, 0) != fuse.ENOENT || !n.fs.lookups.known(ino) || notice.tries == triesMax {
			continue
		}
		after := retryAfter
		for range notice.tries {
			after *= 10
		}
		if again == 0 || after < again {
			again = after
		}
		notice.tries++
		n.later(ino, notice)
	}
	return again
}

// later keeps a notice for the next time, unless there is a newer one.
func (n *notices) later(ino engine.Ino, notice inodeNotice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if newer, ok := n.inodes[ino]; ok {
		notice = inodeNotice{data: notice.data || newer.data}
	}
	n.inodes[ino] = notice
}

// stop ends the goroutine, once the kernel has gone.
func (n *notices) stop() {
	close(n.quit)
	<-n.done
}
