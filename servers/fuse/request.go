//go:build linux

package fuse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"zerofs/engine"
	"zerofs/servers"
)

// errInterrupted is the cause when the caller's own wish ended a request.
var errInterrupted = fmt.Errorf("fuse: interrupted: %w", context.Canceled)

// dyingCheck is how often it is looked whether an interrupted caller is being killed: the kernel tells of
// the first signal only.
const dyingCheck = time.Second

// request is the context of one request of the kernel. Nothing is spent on interrupts until
// somebody waits for Done.
type request struct {
	fs     *fileSystem
	header *fuse.InHeader
	cancel <-chan struct{} // closed by go-fuse when the kernel interrupts the request or goes away
	prompt bool            // an interrupt ends it, whatever becomes of the caller

	mu       sync.Mutex
	done     chan struct{} // guarded by mu; made by Done
	err      error         // guarded by mu; why done is closed
	finished chan struct{} // made with done; closed by end
}

var requests = sync.Pool{New: func() any { return new(request) }}

// begin makes the context of a request; end gives it back.
func (fs *fileSystem) begin(cancel <-chan struct{}, h *fuse.InHeader) *request {
	r := requests.Get().(*request)
	r.fs, r.header, r.cancel = fs, h, cancel
	return r
}

// end releases the request. One whose Done was asked for is not used again, since whoever asked may
// still hold it.
func (r *request) end() {
	r.mu.Lock()
	waited := r.done != nil
	r.mu.Unlock()
	if waited {
		close(r.finished)
		return
	}
	r.fs, r.header, r.cancel, r.prompt = nil, nil, nil, false
	requests.Put(r)
}

// cred is who asks.
func (r *request) cred() *engine.Cred {
	return r.fs.creds.of(r.header.Pid, r.header.Uid, r.header.Gid)
}

func (r *request) ino() engine.Ino { return engine.Ino(r.header.NodeId) }

// Deadline is context.Context's: there is none.
func (r *request) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value is context.Context's.
func (r *request) Value(key any) any { return r.fs.life.Value(key) }

// Err is context.Context's.
func (r *request) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Done is context.Context's.
func (r *request) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done, r.finished = make(chan struct{}), make(chan struct{})
		fs, w := r.fs, watcher{r: r, cancel: r.cancel, tid: r.header.Pid, prompt: r.prompt}
		fs.watchers.Go(func() { w.run(fs) })
	}
	return r.done
}

func (r *request) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	close(r.done)
}

// watcher ends a request's context when that is called for. It has copies of what it needs: the
// request's header is the kernel's next one once the request has ended.
type watcher struct {
	r      *request
	cancel <-chan struct{}
	tid    uint32
	prompt bool
}

func (w *watcher) run(fs *fileSystem) {
	select {
	case <-w.r.finished:
		return
	case <-fs.life.Done():
		w.r.fail(context.Cause(fs.life))
		return
	case <-w.cancel:
	}
	err := errInterrupted
	if !w.prompt {
		err = w.awaitDeath(fs)
	}
	if err != nil {
		w.r.fail(err)
	}
}

// awaitDeath returns why the request has to end: its caller is being killed, or everything ends; nil when it
// ended by itself.
func (w *watcher) awaitDeath(fs *fileSystem) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-w.r.finished:
			return nil
		case <-fs.life.Done():
			return context.Cause(fs.life)
		case <-t.C:
		}
		if fs.creds.dying(w.tid) {
			return errInterrupted
		}
		t.Reset(dyingCheck)
	}
}

// answer returns what the kernel is told, once it may be told anything.
func (r *request) answer(op string, err error) fuse.Status {
	if !errors.Is(err, errInterrupted) {
		if werr := r.fs.opts.Wait(r); werr != nil {
			err = werr
		}
	}
	return r.status(op, err)
}

// status maps an error to the protocol's number. The cause of an I/O error goes to the log.
func (r *request) status(op string, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	if errors.Is(err, errInterrupted) {
		return fuse.EINTR
	}
	errno := servers.Errno(err)
	switch errno {
	case syscall.ESHUTDOWN, syscall.ECANCELED, syscall.ETIMEDOUT:
		errno = syscall.EIO
	}
	if errno == syscall.EIO {
		r.fs.counts.failed.Add(1)
		r.fs.log.Error("request failed", "op", op, "inode", r.header.NodeId, "err", err)
	}
	return fuse.Status(errno)
}
