package tiers

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var _ vfs.FS = (*FS)(nil)

// fileInfo describes a file by what Pebble asks for.
type fileInfo struct {
	name string
	size int64
	dir  bool
}

func (i fileInfo) Name() string           { return i.name }
func (i fileInfo) Size() int64            { return i.size }
func (i fileInfo) ModTime() time.Time     { return time.Time{} }
func (i fileInfo) IsDir() bool            { return i.dir }
func (i fileInfo) Sys() any               { return nil }
func (i fileInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
func (i fileInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// Create creates a file for writing. Whatever the name stood for is removed first: a table file
// that is created again is another one, with an id and an object of its own.
func (f *FS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	base := f.PathBase(name)
	err := f.ended()
	if classify(base) == classTable {
		err = f.stopped()
	}
	if err != nil {
		time.Sleep(failureDelay) // Pebble tries again at once, for ever
		return nil, pathError("create", name, err)
	}
	if base == "" || len(base) > nameMax {
		return nil, pathError("create", name, fs.ErrInvalid)
	}
	h, err := f.create(base)
	if err != nil {
		return nil, pathError("create", name, err)
	}
	return h, nil
}

func (f *FS) create(name string) (vfs.File, error) {
	switch c := classify(name); c {
	case classTable:
		return f.createTable(name)
	case classMeta, classTemp, classMarker:
		m := &metaFile{}
		if c != classMarker {
			if err := f.random(m.id[:]); err != nil {
				return nil, err
			}
		}
		f.mu.Lock()
		f.put(name, m)
		f.mu.Unlock()
		if c == classMarker {
			// Pebble panics when the sync of a directory that holds a new marker fails, and
			// copes with an error of Create.
			if err := f.flush(false); err != nil {
				return nil, err
			}
		}
		return &metaWriter{fs: f, name: name, m: m}, nil
	default:
		s := &scratch{}
		f.mu.Lock()
		f.put(name, s)
		f.mu.Unlock()
		return &scratchHandle{fs: f, name: name, s: s}, nil
	}
}

func (f *FS) createTable(name string) (vfs.File, error) {
	var ids [32]byte
	if err := f.random(ids[:]); err != nil {
		return nil, err
	}
	t := &table{object: objectName(f.opts.Epoch, [16]byte(ids[16:]), name), refs: 2} // the name, the writer
	copy(t.id[:], ids[:16])
	w, err := f.opts.NVMe.Create(t.id)
	if err != nil {
		f.pause(failureDelay) // Pebble tries again at once, for ever
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put(name, t)
	f.live[t] = struct{}{}
	return &tableWriter{fs: f, name: name, t: t, w: w}, nil
}

// Link is not supported: Pebble asks for it to ingest and to make checkpoints, and copies instead.
func (f *FS) Link(oldname, newname string) error {
	return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: errors.ErrUnsupported}
}

// Open opens a file for reading. With vfs.SequentialReadsOption a table file is streamed in large
// ranges past the part cache. The end of a table file that has no local copy is fetched at once,
// since Pebble reads footer, index and filters first.
func (f *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := f.ended(); err != nil {
		return nil, pathError("open", name, err)
	}
	h, err := f.open(f.PathBase(name), isSequential(opts))
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if t, ok := h.(*tableHandle); ok && !t.stream && t.t.committed.Load() {
		t.prefetchTail()
	}
	return h, nil
}

func (f *FS) open(name string, stream bool) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch x := f.names[name].(type) {
	case *table:
		if !x.whole {
			return nil, errors.New("the file is still being written")
		}
		f.ref(x)
		return &tableHandle{fs: f, name: name, t: x, stream: stream}, nil
	case *metaFile:
		return &metaHandle{fs: f, name: name, m: x}, nil
	case *scratch:
		return &scratchHandle{fs: f, name: name, s: x}, nil
	default:
		return nil, fs.ErrNotExist
	}
}

func isSequential(opts []vfs.OpenOption) bool {
	for _, o := range opts {
		if o == vfs.SequentialReadsOption {
			return true
		}
	}
	return false
}

// OpenReadWrite is not supported: no file here is changed in place.
func (f *FS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, pathError("open", name, errors.ErrUnsupported)
}

// OpenDir opens the directory, whatever it is called, to sync it.
func (f *FS) OpenDir(name string) (vfs.File, error) {
	if err := f.ended(); err != nil {
		return nil, pathError("open", name, err)
	}
	return &dirHandle{fs: f, name: name}, nil
}

// dirHandle syncs the directory.
type dirHandle struct {
	noFile
	fs   *FS
	name string
}

// Sync makes the directory's changes durable. It does not fail, since Pebble panics when it does:
// a map that cannot be written fails the next Sync of a MANIFEST and the next Create of a marker,
// and until one of them succeeds nothing depends on the directory.
func (h *dirHandle) Sync() error {
	if h.fs.ended() == nil {
		_ = h.fs.flush(false) // logged there, and kept for those
	}
	return nil
}

func (h *dirHandle) SyncData() error { return h.Sync() }
func (h *dirHandle) Close() error    { return nil }
func (h *dirHandle) Stat() (vfs.FileInfo, error) {
	return fileInfo{name: h.fs.PathBase(h.name), dir: true}, nil
}

// Remove removes a name. Local bytes go when the last handle and the last round let go of them.
func (f *FS) Remove(name string) error {
	if err := f.ended(); err != nil {
		return pathError("remove", name, err)
	}
	f.mu.Lock()
	x := f.remove(f.PathBase(name))
	f.mu.Unlock()
	if x == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	f.kickTidy()
	return nil
}

// RemoveAll removes a name, if there is one. The directory itself is not removed.
func (f *FS) RemoveAll(name string) error {
	if err := f.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Rename renames a meta file or a temporary one.
func (f *FS) Rename(oldname, newname string) error {
	if err := f.ended(); err != nil {
		return pathError("rename", oldname, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	from, to := f.PathBase(oldname), f.PathBase(newname)
	if f.names[from] == nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: fs.ErrNotExist}
	}
	if err := f.rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

// ReuseForWrite removes oldname and creates newname.
func (f *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.Remove(oldname); err != nil {
		return nil, err
	}
	return f.Create(newname, category)
}

// MkdirAll does nothing: there is one directory, and it is there.
func (f *FS) MkdirAll(string, os.FileMode) error { return f.ended() }

// Lock locks a file of that name on the local disk.
func (f *FS) Lock(name string) (io.Closer, error) {
	return f.opts.Disk.Lock(f.local(f.PathBase(name)))
}

// List returns the names in the directory, those of files with and without a local copy alike.
func (f *FS) List(string) ([]string, error) {
	if err := f.ended(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	names := make([]string, 0, len(f.names))
	for name := range f.names {
		names = append(names, name)
	}
	return names, nil
}

// Stat describes a file. Sizes are those of the plaintext and cost no request.
func (f *FS) Stat(name string) (vfs.FileInfo, error) {
	if err := f.ended(); err != nil {
		return nil, pathError("stat", name, err)
	}
	base := f.PathBase(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch x := f.names[base].(type) {
	case *table:
		return fileInfo{name: base, size: x.size}, nil
	case *metaFile:
		return fileInfo{name: base, size: int64(len(x.data))}, nil
	case *scratch:
		return fileInfo{name: base, size: int64(len(x.data))}, nil
	default:
		return nil, pathError("stat", name, fs.ErrNotExist)
	}
}

// PathBase, PathJoin and PathDir are those of the local disk.
func (f *FS) PathBase(path string) string    { return f.opts.Disk.PathBase(path) }
func (f *FS) PathJoin(elem ...string) string { return f.opts.Disk.PathJoin(elem...) }
func (f *FS) PathDir(path string) string     { return f.opts.Disk.PathDir(path) }

// GetDiskUsage tells of the local disk.
func (f *FS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return f.opts.Disk.GetDiskUsage(f.opts.Dir)
}

// Unwrap returns nil: there is no vfs.FS below that has the same files.
func (f *FS) Unwrap() vfs.FS { return nil }
