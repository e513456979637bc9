package tiers

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// metaWriter writes a meta file. Writes are kept in memory until Sync.
type metaWriter struct {
	noFile
	fs   *FS
	name string
	m    *metaFile
}

// Write appends to the file in memory.
func (h *metaWriter) Write(p []byte) (int, error) {
	if err := h.fs.ended(); err != nil {
		return 0, err
	}
	if classify(h.name) == classMarker && len(p) > 0 {
		return 0, fmt.Errorf("tiers: write %s: a marker has no bytes: %w", h.name, errors.ErrUnsupported)
	}
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	h.m.data = append(h.m.data, p...)
	return len(p), nil
}

// Sync makes the bytes written so far durable here.
func (h *metaWriter) Sync() error {
	if classify(h.name) == classMarker {
		return h.fs.flush(false)
	}
	return h.fs.syncMeta(h.name, h.m)
}

// SyncData is Sync.
func (h *metaWriter) SyncData() error { return h.Sync() }

// Stat returns the size written so far.
func (h *metaWriter) Stat() (vfs.FileInfo, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return fileInfo{name: h.name, size: int64(len(h.m.data))}, nil
}

// Close ends writing. What was not synced is readable until the process ends.
func (h *metaWriter) Close() error { return closeMeta(h.m) }

// metaHandle reads a meta file.
type metaHandle struct {
	noFile
	fs   *FS
	name string
	m    *metaFile
	next int64 // offset of Read
}

// ReadAt reads what was written so far.
func (h *metaHandle) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	data := h.m.data
	h.fs.mu.Unlock()
	return readBytes(data, p, off)
}

// Read reads on from where the last Read ended. It is not for concurrent use.
func (h *metaHandle) Read(p []byte) (int, error) {
	n, err := h.ReadAt(p, h.next)
	h.next += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// Stat returns the size written so far.
func (h *metaHandle) Stat() (vfs.FileInfo, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return fileInfo{name: h.name, size: int64(len(h.m.data))}, nil
}

// Close does nothing.
func (h *metaHandle) Close() error { return nil }

// readBytes is ReadAt of bytes in memory.
func readBytes(data, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("tiers: negative offset %d", off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// scratchMax bounds the bytes of a file that is kept in memory only.
const scratchMax = 64 << 10

// scratch is a file that nobody needs after the process: Pebble's log with its WAL off.
type scratch struct {
	data []byte // guarded by FS.mu
}

// scratchHandle writes and reads a scratch file.
type scratchHandle struct {
	noFile
	fs   *FS
	name string
	s    *scratch
	next int64 // offset of Read
}

// Write appends a little; more than that is a log that somebody believes to be durable.
func (h *scratchHandle) Write(p []byte) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if len(h.s.data)+len(p) > scratchMax {
		return 0, fmt.Errorf("tiers: write %s: the name is not one that is stored: %w", h.name, errors.ErrUnsupported)
	}
	h.s.data = append(h.s.data, p...)
	return len(p), nil
}

// ReadAt reads what was written so far.
func (h *scratchHandle) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	data := h.s.data
	h.fs.mu.Unlock()
	return readBytes(data, p, off)
}

// Read reads on from where the last Read ended. It is not for concurrent use.
func (h *scratchHandle) Read(p []byte) (int, error) {
	n, err := h.ReadAt(p, h.next)
	h.next += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// Stat returns the size written so far.
func (h *scratchHandle) Stat() (vfs.FileInfo, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return fileInfo{name: h.name, size: int64(len(h.s.data))}, nil
}

// Close does nothing.
func (h *scratchHandle) Close() error { return nil }
