package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// heldFS holds the Sync of every MANIFEST, once armed, until it is let go, and fails it then.
type heldFS struct {
	vfs.FS
	mu    sync.Mutex
	armed bool // guarded by mu
	held  chan struct{}
	let   chan error
}

func (h *heldFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := h.FS.Create(name, category)
	if err == nil && strings.HasPrefix(h.PathBase(name), "MANIFEST") {
		f = heldFile{f, h}
	}
	return f, err
}

type heldFile struct {
	vfs.File
	fs *heldFS
}

func (f heldFile) Sync() error {
	f.fs.mu.Lock()
	armed := f.fs.armed
	f.fs.mu.Unlock()
	if !armed {
		return f.File.Sync()
	}
	f.fs.held <- struct{}{}
	return <-f.fs.let
}

// TestFailureDuringClose lets the MANIFEST fail while Close waits for the flush that writes it:
// Pebble's goroutine is parked then, and Close must not wait for it.
func TestFailureDuringClose(t *testing.T) {
	ctx := context.Background()
	fs := &heldFS{FS: vfs.NewMem(), held: make(chan struct{}, 8), let: make(chan error)}
	log := newFakeLog()
	opts := testOptions(fs, log)
	fatal := make(chan error, 1)
	opts.Fatal = func(err error) { fatal <- err }
	e, err := openStarted(opts, log)
	if err != nil {
		t.Fatal(err)
	}
	d := openDevice(t, e, "d", 64<<10)
	if err := d.WriteAt(ctx, []byte("what a flush writes"), 0, false); err != nil {
		t.Fatal(err)
	}
	fs.mu.Lock()
	fs.armed = true
	fs.mu.Unlock()
	if _, err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	<-fs.held
	done := make(chan error)
	go func() { done <- e.Close() }()
	<-e.life.Done() // Close has begun
	broken := errors.New("disk is gone")
	fs.let <- broken
	if err := <-fatal; !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), broken.Error()) {
		t.Errorf("the owner was told %v", err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Close waits for a flush that will never end")
	}
}
