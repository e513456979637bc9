// Package disktest is a disk in memory for tests: it forgets at a crash what was not synced, and
// fails on demand.
//
// # Model
//
// A file is a run of 512-byte sectors. Each has what is durable and what the running system
// sees. Sync makes all of a file durable, WriteAtSync exactly its range. A name is durable once
// its directory was synced, whatever happened to the file behind it.
//
// CrashClone is the disk after a power cut. Of what was not synced, each sector, each file size
// (or one in between) and each name survives or not, by a coin of the seed's; so that writes are
// lost, torn and reordered. A rename may have happened, have left both names, or not have
// happened; it never loses both. KillClone is the disk after the process alone died: everything
// is still there, and what was not synced is not durable yet.
//
// A sync that fails leaves its sectors out of later syncs, as Linux does: they are durable only if
// they are written and synced again. A sync that a crash cuts off has done nothing.
//
// # Faults
//
// OnOp sees every call before it takes effect. When it returns an error, the call fails with it;
// a direct write that fails, unless with disk.ErrFull, has changed its sectors all the same, and
// they are not durable. When the error is ErrCrash the power is cut: the call has happened,
// but not durably, calls under way end like it, and every later call fails without an effect.
//
// # Concurrency
//
// Any goroutine may call any method. OnOp is called by several at once, without locks: it may
// block, sleep in a synctest bubble, or call SetOnOp.
package disktest

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"zerofs/tiers/disk"
)

// ErrCrash, returned by OnOp, cuts the power.
var ErrCrash = errors.New("disktest: power cut")

// The operations that OnOp is told.
const (
	OpCreate    = "create" // of a file that does not exist
	OpOpen      = "open"
	OpRead      = "read"
	OpWrite     = "write"
	OpWriteSync = "write-sync" // WriteAtSync
	OpSync      = "sync"       // of a file
	OpSyncDir   = "sync-dir"
	OpTruncate  = "truncate"
	OpPunch     = "punch"
	OpRename    = "rename" // told the new name
	OpRemove    = "remove"
	OpLink      = "link"  // told the new name
	OpMkdir     = "mkdir" // of a directory that does not exist
	OpLock      = "lock"
	OpList      = "list"
	OpStat      = "stat"
)

// Changes reports whether op changes what a crash leaves, so that crashing there differs from
// crashing at the next one.
func Changes(op string) bool {
	switch op {
	case OpOpen, OpRead, OpLock, OpList, OpStat:
		return false
	}
	return true
}

// Options shapes a disk.
type Options struct {
	// OnOp is called before each operation. nil never fails.
	OnOp func(op, name string) error
	// Capacity in bytes of file data, in pages of 4 KiB; more fails with disk.ErrFull. Zero is no limit.
	Capacity int64
	// Buffered makes OpenDirect's files say that they are not direct.
	Buffered bool
	// Now is the clock of modification times; time.Now if nil.
	Now func() time.Time
}

// FS is a disk in memory.
type FS struct {
	onOp     atomic.Pointer[func(op, name string) error]
	crashed  atomic.Bool
	powerCut chan struct{} // closed when crashed turns true
	capacity atomic.Int64
	buffered bool
	now      func() time.Time

	mu      sync.Mutex // guards all that follows, and the nodes
	root    *node
	pending []*nameOp // names that are not durable yet, in order
	used    int64     // bytes of pages held by files
	locks   map[string]bool
}

var _ disk.FS = (*FS)(nil)

// New returns an empty disk.
func New(opts Options) *FS {
	fs := newFS(opts)
	fs.root = newDir()
	return fs
}

func newFS(opts Options) *FS {
	fs := &FS{buffered: opts.Buffered, now: opts.Now, powerCut: make(chan struct{}), locks: map[string]bool{}}
	if fs.now == nil {
		fs.now = time.Now
	}
	fs.capacity.Store(opts.Capacity)
	fs.SetOnOp(opts.OnOp)
	return fs
}

// SetOnOp replaces the hook; nil never fails.
func (fs *FS) SetOnOp(onOp func(op, name string) error) {
	if onOp == nil {
		fs.onOp.Store(nil)
		return
	}
	fs.onOp.Store(&onOp)
}

// SetCapacity changes Options.Capacity.
func (fs *FS) SetCapacity(n int64) { fs.capacity.Store(n) }

// Crash cuts the power: every later call fails with ErrCrash.
func (fs *FS) Crash() {
	if fs.crashed.CompareAndSwap(false, true) {
		close(fs.powerCut)
	}
}

// Crashed reports whether the power was cut.
func (fs *FS) Crashed() bool { return fs.crashed.Load() }

// PowerCut returns a channel that is closed when the power is cut.
func (fs *FS) PowerCut() <-chan struct{} { return fs.powerCut }

// CrashAt returns a hook that cuts the power at the k-th operation, from 1, which Changes.
func CrashAt(k int64) func(op, name string) error { return FailAt(k, ErrCrash) }

// FailAt returns a hook that fails the k-th operation, from 1, which Changes, and all after it.
func FailAt(k int64, err error) func(op, name string) error {
	var count atomic.Int64
	return func(op, _ string) error {
		if Changes(op) && count.Add(1) >= k {
			return err
		}
		return nil
	}
}

// FailName returns a hook that fails the given operations on names that contain part. No ops
// means all.
func FailName(part string, err error, ops ...string) func(op, name string) error {
	return func(op, name string) error {
		if !strings.Contains(name, part) {
			return nil
		}
		for _, o := range ops {
			if o == op {
				return err
			}
		}
		if len(ops) == 0 {
			return err
		}
		return nil
	}
}

// Count returns a hook that counts the operations which Changes, and their number so far.
func Count() (hook func(op, name string) error, n *atomic.Int64) {
	n = new(atomic.Int64)
	return func(op, _ string) error {
		if Changes(op) {
			n.Add(1)
		}
		return nil
	}, n
}

// before asks the hook. An error that is ErrCrash means that the power goes now, while the
// operation is under way; any other that the operation fails.
func (fs *FS) before(op, name string) (underWay bool, err error) {
	if fs.crashed.Load() {
		return false, ErrCrash
	}
	if hook := fs.onOp.Load(); hook != nil {
		err = (*hook)(op, name)
	}
	if errors.Is(err, ErrCrash) {
		fs.Crash()
		return true, err
	}
	return err == nil, err
}

// do runs a change of names or sizes under the lock. When the power goes meanwhile the change
// has happened, not durably, and do fails.
func (fs *FS) do(op, name string, change func() error) error {
	underWay, err := fs.before(op, name)
	if !underWay {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if cerr := change(); cerr != nil {
		return cerr
	}
	if err == nil && fs.crashed.Load() {
		err = ErrCrash
	}
	return err
}

// doSync runs a sync under the lock: durable says whether it succeeds. One that a crash cuts off
// leaves everything as unsynced as it was: after a kill, the next process's sync finds it.
func (fs *FS) doSync(op, name string, sync func(durable bool)) error {
	_, err := fs.before(op, name)
	if errors.Is(err, ErrCrash) {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.crashed.Load() {
		return ErrCrash
	}
	sync(err == nil)
	return err
}
