package disktest

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/disk"
)

var enospc error = syscall.ENOSPC

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// find returns the node of name.
func (fs *FS) find(op, name string) (*node, error) {
	n := fs.root
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+name), "/"), "/") {
		if part == "" {
			continue
		}
		if !n.isDir {
			return nil, pathError(op, name, syscall.ENOTDIR)
		}
		if n = n.children[part]; n == nil {
			return nil, pathError(op, name, os.ErrNotExist)
		}
	}
	return n, nil
}

// parent returns the directory of name and its last element.
func (fs *FS) parent(op, name string) (dir *node, base string, err error) {
	clean := path.Clean("/" + name)
	if clean == "/" {
		return nil, "", pathError(op, name, syscall.EINVAL)
	}
	if dir, err = fs.find(op, path.Dir(clean)); err != nil {
		return nil, "", err
	}
	if !dir.isDir {
		return nil, "", pathError(op, name, syscall.ENOTDIR)
	}
	return dir, path.Base(clean), nil
}

// exists reports whether name is there, to tell an open from a create.
func (fs *FS) exists(name string) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	_, err := fs.find(OpStat, name)
	return err == nil
}

// newFile makes an empty file in place of what name was.
func (fs *FS) newFile(name string) (*node, error) {
	dir, base, err := fs.parent(OpCreate, name)
	if err != nil {
		return nil, err
	}
	if was := dir.children[base]; was != nil && was.isDir {
		return nil, pathError(OpCreate, name, syscall.EISDIR)
	}
	n := &node{mtime: fs.now()}
	fs.setName(dir, base, n, nil)
	return n, nil
}

// oldOrNewFile returns the file that another call made meanwhile, or makes it.
func (fs *FS) oldOrNewFile(name string) (*node, error) {
	if n, err := fs.find(OpCreate, name); err == nil {
		return n, nil
	}
	return fs.newFile(name)
}

// Create makes a new file.
func (fs *FS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.create(name, fs.newFile)
}

// create opens for writing what node gives.
func (fs *FS) create(name string, node func(name string) (*node, error)) (vfs.File, error) {
	var f *file
	err := fs.do(OpCreate, name, func() error {
		n, err := node(name)
		if err == nil {
			f = fs.handle(n, name, true)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Open opens a file or directory for reading.
func (fs *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.open(name, false)
	if err != nil {
		return nil, err
	}
	for _, o := range opts {
		o.Apply(f)
	}
	return f, nil
}

func (fs *FS) open(name string, write bool) (*file, error) {
	var f *file
	err := fs.do(OpOpen, name, func() error {
		n, err := fs.find(OpOpen, name)
		if err == nil {
			f = fs.handle(n, name, write)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// OpenReadWrite opens name, or makes it.
func (fs *FS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if !fs.exists(name) {
		return fs.create(name, fs.oldOrNewFile)
	}
	f, err := fs.open(name, true)
	if err != nil {
		return nil, err
	}
	for _, o := range opts {
		o.Apply(f)
	}
	return f, nil
}

// OpenDir opens a directory for syncing.
func (fs *FS) OpenDir(name string) (vfs.File, error) { return fs.Open(name) }

// OpenDirect opens name for direct I/O.
func (fs *FS) OpenDirect(name string, create bool) (disk.File, error) {
	var f vfs.File
	var err error
	if create {
		f, err = fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	} else {
		f, err = fs.open(name, true)
	}
	if err != nil {
		return nil, err
	}
	if f.(*file).n.isDir {
		return nil, errors.Join(pathError(OpOpen, name, syscall.EISDIR), f.Close())
	}
	return &directFile{f.(*file)}, nil
}

// SyncDir makes the names in directory name durable.
func (fs *FS) SyncDir(name string) error {
	d, err := fs.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Link makes a second name.
func (fs *FS) Link(oldname, newname string) error {
	return fs.do(OpLink, newname, func() error {
		n, err := fs.find(OpLink, oldname)
		if err != nil {
			return err
		}
		dir, base, err := fs.parent(OpLink, newname)
		if err != nil {
			return err
		}
		if dir.children[base] != nil {
			return pathError(OpLink, newname, os.ErrExist)
		}
		fs.setName(dir, base, n, nil)
		return nil
	})
}

// Remove removes a file or an empty directory.
func (fs *FS) Remove(name string) error {
	return fs.do(OpRemove, name, func() error {
		dir, base, err := fs.parent(OpRemove, name)
		if err != nil {
			return err
		}
		n := dir.children[base]
		if n == nil {
			return pathError(OpRemove, name, os.ErrNotExist)
		}
		if len(n.children) > 0 {
			return pathError(OpRemove, name, syscall.ENOTEMPTY)
		}
		fs.setName(dir, base, nil, nil)
		return nil
	})
}

// RemoveAll removes name and what is below it, one operation for each.
func (fs *FS) RemoveAll(name string) error {
	if !fs.exists(name) {
		return nil
	}
	names, err := fs.List(name)
	for _, child := range names {
		if err := fs.RemoveAll(path.Join(name, child)); err != nil {
			return err
		}
	}
	if err != nil && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	return fs.Remove(name)
}

// Rename renames a file or directory and replaces the file at newname.
func (fs *FS) Rename(oldname, newname string) error {
	return fs.do(OpRename, newname, func() error {
		from, oldbase, err := fs.parent(OpRename, oldname)
		if err != nil {
			return err
		}
		n := from.children[oldbase]
		if n == nil {
			return pathError(OpRename, oldname, os.ErrNotExist)
		}
		to, newbase, err := fs.parent(OpRename, newname)
		if err != nil {
			return err
		}
		was := to.children[newbase]
		if was == n {
			return nil
		}
		if was != nil && (len(was.children) > 0 || was.isDir != n.isDir) {
			return pathError(OpRename, newname, os.ErrExist)
		}
		added := fs.setName(to, newbase, n, nil)
		fs.setName(from, oldbase, nil, added)
		return nil
	})
}

// ReuseForWrite renames oldname to newname and opens it without truncation.
func (fs *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return fs.OpenReadWrite(newname, category)
}

// MkdirAll makes dir and its parents, one operation for each.
func (fs *FS) MkdirAll(dir string, _ os.FileMode) error {
	at := "/"
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+dir), "/"), "/") {
		at = path.Join(at, part)
		if fs.exists(at) {
			continue
		}
		err := fs.do(OpMkdir, at, func() error {
			parent, base, err := fs.parent(OpMkdir, at)
			if err == nil && parent.children[base] == nil {
				fs.setName(parent, base, newDir(), nil)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return fs.do(OpStat, dir, func() error {
		n, err := fs.find(OpMkdir, dir)
		if err == nil && !n.isDir {
			return pathError(OpMkdir, dir, syscall.ENOTDIR)
		}
		return err
	})
}

// Lock takes the exclusive lock of a file, which it makes if need be.
func (fs *FS) Lock(name string) (io.Closer, error) {
	if !fs.exists(name) {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	clean := path.Clean("/" + name)
	err := fs.do(OpLock, name, func() error {
		if fs.locks[clean] {
			return pathError(OpLock, name, syscall.EAGAIN)
		}
		fs.locks[clean] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &lock{fs: fs, name: clean}, nil
}

type lock struct {
	fs   *FS
	name string
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.name)
	return nil
}

// List returns the names in a directory, sorted.
func (fs *FS) List(name string) (names []string, err error) {
	err = fs.do(OpList, name, func() error {
		n, err := fs.find(OpList, name)
		if err != nil {
			return err
		}
		if !n.isDir {
			return pathError(OpList, name, syscall.ENOTDIR)
		}
		names = slices.Sorted(maps.Keys(n.children))
		return nil
	})
	return names, err
}

// Stat describes a file.
func (fs *FS) Stat(name string) (info vfs.FileInfo, err error) {
	err = fs.do(OpStat, name, func() error {
		n, err := fs.find(OpStat, name)
		if err == nil {
			info = n.info(name)
		}
		return err
	})
	return info, err
}

// PathBase returns the last element of p.
func (*FS) PathBase(p string) string { return path.Base(p) }

// PathJoin joins elements by slashes.
func (*FS) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir returns all but the last element of p.
func (*FS) PathDir(p string) string { return path.Dir(p) }

// GetDiskUsage returns the space of the whole disk; without a capacity it seems to have 1 TiB.
func (fs *FS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	total := fs.capacity.Load()
	if total == 0 {
		total = 1 << 40
	}
	return vfs.DiskUsage{
		AvailBytes: uint64(max(0, total-fs.used)),
		TotalBytes: uint64(total),
		UsedBytes:  uint64(fs.used),
	}, nil
}

// Unwrap returns nil: there is nothing below.
func (*FS) Unwrap() vfs.FS { return nil }
