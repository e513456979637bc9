package disktest

import (
	"errors"
	"io"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/disk"
)

// file is an open file or directory.
type file struct {
	fs     *FS
	n      *node
	name   string
	write  bool
	pos    int64 // guarded by fs.mu
	closed bool  // guarded by fs.mu
}

var _ vfs.File = (*file)(nil)

// handle opens a node. fs.mu is held.
func (fs *FS) handle(n *node, name string, write bool) *file {
	n.opens++
	return &file{fs: fs, n: n, name: name, write: write}
}

// usable refuses closed files, directories, and writes to a file opened for reading.
func (f *file) usable(op string, write bool) error {
	switch {
	case f.closed:
		return pathError(op, f.name, os.ErrClosed)
	case f.n.isDir:
		return pathError(op, f.name, syscall.EISDIR)
	case write && !f.write:
		return pathError(op, f.name, syscall.EBADF)
	}
	return nil
}

// Close closes the file; it never fails, even without power.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, os.ErrClosed)
	}
	f.closed = true
	f.n.opens--
	f.fs.release(f.n)
	return nil
}

func (f *file) Read(p []byte) (n int, err error) {
	err = f.fs.do(OpRead, f.name, func() error {
		if err := f.usable(OpRead, false); err != nil {
			return err
		}
		if n = f.n.read(p, f.pos); n == 0 && len(p) > 0 {
			return io.EOF
		}
		f.pos += int64(n)
		return nil
	})
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.fs.do(OpRead, f.name, func() error {
		if err := f.usable(OpRead, false); err != nil {
			return err
		}
		if n = f.n.read(p, off); n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	err := f.fs.do(OpWrite, f.name, func() error {
		if err := f.usable(OpWrite, true); err != nil {
			return err
		}
		if err := f.fs.write(f.n, p, f.pos); err != nil {
			return pathError(OpWrite, f.name, err)
		}
		f.pos += int64(len(p))
		return nil
	})
	return written(p, err)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	err := f.fs.do(OpWrite, f.name, func() error {
		if err := f.usable(OpWrite, true); err != nil {
			return err
		}
		if err := f.fs.write(f.n, p, off); err != nil {
			return pathError(OpWrite, f.name, err)
		}
		return nil
	})
	return written(p, err)
}

func written(p []byte, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	closed := f.closed
	f.fs.mu.Unlock()
	if closed {
		return pathError(OpSync, f.name, os.ErrClosed)
	}
	if !f.n.isDir {
		return f.fs.doSync(OpSync, f.name, f.n.sync)
	}
	return f.fs.doSync(OpSyncDir, f.name, func(durable bool) {
		if durable {
			f.fs.syncDir(f.n)
		}
	})
}

func (f *file) SyncData() error { return f.Sync() }

// SyncTo promises nothing, so that nobody relies on it.
func (f *file) SyncTo(int64) (bool, error)     { return false, nil }
func (f *file) Preallocate(int64, int64) error { return nil }
func (f *file) Prefetch(int64, int64) error    { return nil }
func (f *file) Fd() uintptr                    { return vfs.InvalidFd }

func (f *file) Stat() (info vfs.FileInfo, err error) {
	err = f.fs.do(OpStat, f.name, func() error {
		if f.closed {
			return pathError(OpStat, f.name, os.ErrClosed)
		}
		info = f.n.info(f.name)
		return nil
	})
	return info, err
}

// directFile is a file that insists on alignment.
type directFile struct{ f *file }

var _ disk.File = (*directFile)(nil)

func (d *directFile) ReadAt(p []byte, off int64) (int, error) {
	if err := disk.CheckAligned(OpRead, d.f.name, p, off); err != nil {
		return 0, err
	}
	return d.f.ReadAt(p, off)
}

func (d *directFile) WriteAt(p []byte, off int64) (int, error) {
	return d.writeAt(OpWrite, p, off, false)
}

func (d *directFile) WriteAtSync(p []byte, off int64) (int, error) {
	return d.writeAt(OpWriteSync, p, off, true)
}

// writeAt writes, and with sync makes the range durable if the write succeeds. A write that fails
// for another reason than a full disk has changed the sectors all the same.
func (d *directFile) writeAt(op string, p []byte, off int64, sync bool) (int, error) {
	if err := disk.CheckAligned(op, d.f.name, p, off); err != nil {
		return 0, err
	}
	fs, n := d.f.fs, d.f.n
	underWay, err := fs.before(op, d.f.name)
	if !underWay && (errors.Is(err, ErrCrash) || errors.Is(err, disk.ErrFull)) {
		return 0, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := d.f.usable(op, true); err != nil {
		return 0, err
	}
	if err == nil && fs.crashed.Load() {
		err = ErrCrash
	}
	marked := len(n.dirty)
	if werr := fs.write(n, p, off); werr != nil {
		return 0, pathError(op, d.f.name, werr)
	}
	if err != nil {
		return 0, err
	}
	if sync && len(p) > 0 {
		n.syncRange(off, off+int64(len(p)))
		n.dirty = n.dirty[:marked]
	}
	return len(p), nil
}

func (d *directFile) Sync() error  { return d.f.Sync() }
func (d *directFile) Close() error { return d.f.Close() }

func (d *directFile) Truncate(size int64) error {
	return d.f.fs.do(OpTruncate, d.f.name, func() error {
		if err := d.f.usable(OpTruncate, true); err != nil {
			return err
		}
		if size < 0 {
			return pathError(OpTruncate, d.f.name, syscall.EINVAL)
		}
		d.f.fs.truncate(d.f.n, size)
		return nil
	})
}

func (d *directFile) PunchHole(off, n int64) error {
	if off < 0 || n < 0 || off%disk.Align != 0 || n%disk.Align != 0 {
		return pathError(OpPunch, d.f.name, disk.ErrMisaligned)
	}
	return d.f.fs.do(OpPunch, d.f.name, func() error {
		if err := d.f.usable(OpPunch, true); err != nil {
			return err
		}
		d.f.fs.zero(d.f.n, off, off+n)
		return nil
	})
}

func (d *directFile) Size() (int64, error) {
	info, err := d.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d *directFile) Direct() bool { return !d.f.fs.buffered }

// fileInfo describes a node.
type fileInfo struct {
	name  string
	size  int64
	isDir bool
	mtime time.Time
}

func (n *node) info(name string) vfs.FileInfo {
	return fileInfo{path.Base(name), n.size, n.isDir, n.mtime}
}

func (i fileInfo) Name() string           { return i.name }
func (i fileInfo) Size() int64            { return i.size }
func (i fileInfo) ModTime() time.Time     { return i.mtime }
func (i fileInfo) IsDir() bool            { return i.isDir }
func (i fileInfo) Sys() any               { return nil }
func (i fileInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

func (i fileInfo) Mode() os.FileMode {
	if i.isDir {
		return os.ModeDir | 0o700
	}
	return 0o600
}
