//go:build unix

package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	filePerm = 0o600
	dirPerm  = 0o700
)

// OS returns the operating system's file system.
func OS() FS { return osFS{vfs.Default} }

// osFS is vfs.Default with tighter permissions, errors that match ErrFull, and direct I/O. What
// it does not override neither makes files nor needs space.
type osFS struct{ vfs.FS }

// reserve makes an empty file with filePerm unless name exists. vfs.Default would make it 0666.
func reserve(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_CLOEXEC, filePerm)
	if errors.Is(err, fs.ErrExist) {
		return nil // and not opened: a close would drop a lock of this process on it
	}
	if err != nil {
		return markFull(err)
	}
	return f.Close()
}

// Create makes a new, empty file; one of that name is unlinked first.
func (o osFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return o.OpenReadWrite(name, category)
}

// OpenReadWrite opens name, and makes it if it does not exist.
func (o osFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := reserve(name); err != nil {
		return nil, err
	}
	return wrapFile(o.FS.OpenReadWrite(name, category, opts...))
}

// ReuseForWrite renames oldname to newname and opens it without truncation.
func (o osFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return wrapFile(o.FS.ReuseForWrite(oldname, newname, category))
}

// OpenDir opens a directory for syncing.
func (o osFS) OpenDir(name string) (vfs.File, error) { return wrapFile(o.FS.OpenDir(name)) }

// MkdirAll makes dir and its parents, for the owner alone.
func (o osFS) MkdirAll(dir string, perm os.FileMode) error {
	return markFull(o.FS.MkdirAll(dir, perm&dirPerm))
}

// Link makes a hard link.
func (o osFS) Link(oldname, newname string) error { return markFull(o.FS.Link(oldname, newname)) }

// Rename renames a file and replaces the one at newname.
func (o osFS) Rename(oldname, newname string) error {
	return markFull(o.FS.Rename(oldname, newname))
}

// Lock takes the exclusive lock of the file name, which it makes if need be. The lock is
// fcntl(2)'s: closing another descriptor of the file in this process would drop it, so nobody
// opens it; FileIdentity does not.
func (o osFS) Lock(name string) (io.Closer, error) {
	if err := reserve(name); err != nil {
		return nil, err
	}
	c, err := o.FS.Lock(name)
	return c, markFull(err)
}

// SyncDir makes the names in directory name durable.
func (o osFS) SyncDir(name string) error {
	d, err := o.FS.OpenDir(name)
	if err != nil {
		return opError("sync directory", name, err)
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return opError("sync directory", name, err)
	}
	return opError("close directory", name, d.Close())
}

// osFile marks the errors of a full disk.
type osFile struct{ vfs.File }

func wrapFile(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, markFull(err)
	}
	return osFile{f}, nil
}

func (f osFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, markFull(err)
}

func (f osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, markFull(err)
}

func (f osFile) Preallocate(off, n int64) error { return markFull(f.File.Preallocate(off, n)) }
func (f osFile) Sync() error                    { return markFull(f.File.Sync()) }
func (f osFile) SyncData() error                { return markFull(f.File.SyncData()) }
func (f osFile) Close() error                   { return markFull(f.File.Close()) }

func (f osFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, markFull(err)
}
