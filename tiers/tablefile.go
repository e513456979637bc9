package tiers

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/nvme"
	"zerofs/tiers/seal"
)

// noFile gives a handle the methods that no file here supports.
type noFile struct{}

func (noFile) Read([]byte) (int, error)           { return 0, errors.ErrUnsupported }
func (noFile) ReadAt([]byte, int64) (int, error)  { return 0, errors.ErrUnsupported }
func (noFile) Write([]byte) (int, error)          { return 0, errors.ErrUnsupported }
func (noFile) WriteAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }
func (noFile) Preallocate(int64, int64) error     { return nil }
func (noFile) Sync() error                        { return nil }
func (noFile) SyncTo(int64) (bool, error)         { return false, nil }
func (noFile) SyncData() error                    { return nil }
func (noFile) Prefetch(int64, int64) error        { return nil }
func (noFile) Fd() uintptr                        { return vfs.InvalidFd }

// tableWriter writes a table file. Sync ends the file: it is whole then, and what Close finds
// unsynced is an aborted file, which leaves nothing.
//
// Pebble panics when the sync of a blob file fails. So a blob file's errors are kept from it, and
// fail the next Sync of a MANIFEST instead, before anything can depend on the file.
type tableWriter struct {
	noFile
	fs   *FS
	name string
	t    *table
	w    *nvme.Writer
	size int64 // bytes written
	done bool  // finished or failed
	err  error // why it failed
}

// Write appends to the file.
func (h *tableWriter) Write(p []byte) (int, error) {
	if h.err == nil && h.done {
		return 0, fmt.Errorf("tiers: write %s: the file is synced and whole", h.name)
	}
	err := h.fs.ended()
	if err == nil && h.err == nil {
		_, err = h.w.Write(p)
	}
	if err = h.fail("write", err); err != nil {
		return 0, err
	}
	h.size += int64(len(p))
	return len(p), nil
}

// Sync makes the file whole and durable. The name becomes durable with the next flush of the
// directory, before any MANIFEST that can name the file.
func (h *tableWriter) Sync() error {
	if h.done {
		return h.fail("sync", nil)
	}
	err := h.fs.ended()
	if err == nil && h.err == nil {
		err = h.w.Finish()
	}
	if err == nil && h.err == nil {
		h.done = true
		h.complete()
		return nil
	}
	return h.fail("sync", err)
}

// SyncData is Sync.
func (h *tableWriter) SyncData() error { return h.Sync() }

// fail keeps the first error and removes what was written. It returns what Pebble is told.
func (h *tableWriter) fail(op string, err error) error {
	if err != nil && h.err == nil {
		h.err = fmt.Errorf("tiers: %s %s: %w", op, h.name, err)
		h.done = true
		h.w.Abort()
	}
	if h.err != nil && hidesErrors(h.name) {
		h.fs.breakManifest(h.err)
		return nil
	}
	return h.err
}

// complete says that the file is whole.
func (h *tableWriter) complete() {
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	h.t.size, h.t.whole = h.size, true
	f.dirtyFiles++
	f.dirtyBytes += h.t.stored()
	if !h.t.gone {
		f.complete(h.name, h.t)
	}
}

// Stat returns the size written so far.
func (h *tableWriter) Stat() (vfs.FileInfo, error) { return fileInfo{name: h.name, size: h.size}, nil }

// Close closes the file, and forgets one that was not synced.
func (h *tableWriter) Close() error {
	if h.t == nil {
		return fmt.Errorf("tiers: close %s: closed before", h.name)
	}
	if !h.done {
		h.done = true
		h.w.Abort()
	}
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if !h.t.whole && f.names[h.name] == file(h.t) {
		f.remove(h.name)
	}
	f.unref(h.t)
	h.t, h.w, h.done = nil, nil, true
	return nil
}

// tableHandle reads a table file, wherever its bytes are at the time of each read.
type tableHandle struct {
	noFile
	fs     *FS
	name   string
	t      *table
	stream bool // a compaction reads it: in large ranges, past the part cache
	ahead  readahead

	mu   sync.Mutex // guards next
	next int64      // offset of Read
}

// ReadAt reads from the local copy, or from parts of the object.
func (h *tableHandle) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("tiers: read %s: negative offset %d", h.name, off)
	}
	if err := h.fs.ended(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= h.t.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), h.t.size-off)]
	local, err := h.fs.readLocal(h.name, h.t, want, off)
	if err == nil && !local {
		err = h.readRemote(want, off)
	}
	if err != nil {
		return 0, err
	}
	if len(want) < len(p) {
		return len(want), io.EOF
	}
	return len(want), nil
}

// readLocal fills p from the local copy and reports whether there was one to read. A bad clean
// copy is dropped: the object has the bytes.
func (f *FS) readLocal(name string, t *table, p []byte, off int64) (bool, error) {
	r, err := f.opts.NVMe.OpenFile(t.id, t.size)
	if err == nil {
		_, err = r.ReadAt(p, off)
		if cerr := r.Close(); cerr != nil {
			f.opts.Logger.Warn("closing a local copy failed", "file", name, "error", cerr)
		}
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, nvme.ErrNotLocal) && t.committed.Load():
		return false, nil
	case t.committed.Load():
		f.opts.Logger.Warn("bad local copy of a clean table file: reading the object", "file", name, "object", t.object, "error", err)
		if errors.Is(err, seal.ErrCorrupt) {
			if derr := f.opts.NVMe.Drop(t.id); derr != nil {
				f.opts.Logger.Warn("dropping a bad local copy failed", "file", name, "error", derr)
			}
		}
		return false, nil
	default:
		err = fmt.Errorf("tiers: read %s at %d, which is not in the bucket yet: %w", name, off, err)
		f.opts.Logger.Error("table file is unreadable", "file", name, "error", err)
		return false, err
	}
}

// readRemote fills p from parts of the object and keeps reading ahead of a sequential reader.
func (h *tableHandle) readRemote(p []byte, off int64) error {
	h.ahead.note(off, int64(len(p)), h.t.size, h.stream, h.fetchAhead)
	if err := h.fs.fetch.read(h.t, p, off, !h.stream); err != nil {
		err = fmt.Errorf("tiers: read %s at %d: %w", h.name, off, err)
		if h.fs.stopped() == nil {
			h.fs.opts.Logger.Error("table file is unreadable", "file", h.name, "object", h.t.object, "error", err)
		}
		return err
	}
	return nil
}

// Read reads on from where the last Read ended.
func (h *tableHandle) Read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.ReadAt(p, h.next)
	h.next += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// fetchAhead begins to fetch a range and returns the end of what is on its way.
func (h *tableHandle) fetchAhead(from, to int64) int64 {
	return h.fs.fetch.prefetch(h.t, from, to, !h.stream)
}

// prefetchTail begins to fetch the end of a file that has no local copy.
func (h *tableHandle) prefetchTail() {
	_ = h.Prefetch(max(0, h.t.size-tailBytes), tailBytes)
}

// Prefetch begins to read the range of a file that has no local copy.
func (h *tableHandle) Prefetch(off, n int64) error {
	to := min(off+n, h.t.size)
	if off < 0 || n <= 0 || off >= to || h.fs.stopped() != nil || h.fs.isLocal(h.t) {
		return nil
	}
	h.fetchAhead(off, to)
	return nil
}

// isLocal reports whether there is a local copy.
func (f *FS) isLocal(t *table) bool {
	r, err := f.opts.NVMe.OpenFile(t.id, t.size)
	if err != nil {
		return false
	}
	_ = r.Close() // a reference only: nothing that could fail matters here
	return true
}

// Stat returns the size of the plaintext.
func (h *tableHandle) Stat() (vfs.FileInfo, error) {
	return fileInfo{name: h.name, size: h.t.size}, nil
}

// Close gives the reference back.
func (h *tableHandle) Close() error {
	if h.t == nil {
		return fmt.Errorf("tiers: close %s: closed before", h.name)
	}
	h.fs.release(h.t)
	h.t = nil
	return nil
}
