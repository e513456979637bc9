// Package file is an object store in a directory of a file system.
//
// A key's segments are directories and the object is a regular file. Names that begin with a dot
// are not objects; objects are written in ".tmp" and then take their name at once.
//
// # Durability
//
// Put answers after the file's bytes, its name, and the names of directories made on the way are
// on stable storage: fsync of the file, link(2) or rename(2), fsync of the directory. What a crash
// leaves at each step:
//
//	before the link    a file in .tmp, which Open removes when it is an hour old
//	after the link     the whole object, or after a power cut none; a Put that finds it there syncs
//	                   the directory before it answers "exists", so that a reader may rely on it
//	after the fsync    the whole object
//
// Put-if-absent is link(2), which fails when the name exists, on every host that has the directory
// mounted.
//
// # Concurrency
//
// Any goroutine and any process may call any method. There are no locks.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"zerofs/tiers/object"
)

const (
	tmpDir  = ".tmp"
	tmpAge  = time.Hour // after which a temporary file belongs to nobody
	copyMax = 1 << 20   // bytes written between two looks at the context
)

// Store is an object.Store in a directory.
type Store struct {
	dir string
	now func() time.Time
}

var _ object.Store = (*Store)(nil)

// Open opens the store in dir, which it makes if need be (0700). now is the store's clock: on a
// directory that hosts share, their clocks and the file server's must agree to within seconds.
func Open(dir string, now func() time.Time) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("object: open %q: %w", dir, err)
	}
	s := &Store{dir: dir, now: now}
	if err := makeDir(filepath.Join(dir, tmpDir)); err != nil {
		return nil, fmt.Errorf("object: open %q: %w", dir, err)
	}
	if err := s.sweep(); err != nil {
		return nil, fmt.Errorf("object: open %q: %w", dir, err)
	}
	return s, nil
}

// sweep removes temporary files that a killed process left.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, tmpDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || s.now().Sub(info.ModTime()) < tmpAge {
			continue // gone, or in use by another process
		}
		if err := os.Remove(filepath.Join(s.dir, tmpDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// errGone reports that the directory was removed, or that its file system is not mounted any more.
// Then nothing is said about any object: an empty store must not be made out of a lost mount.
var errGone = errors.New("the store's directory is gone")

// present returns errGone when the directory does not look like the store that was opened.
func (s *Store) present() error {
	if _, err := os.Lstat(filepath.Join(s.dir, tmpDir)); err != nil {
		return fmt.Errorf("%w: %v", errGone, err) // without the error's own kind
	}
	return nil
}

// missing is failed for a request on an object, whose absence is believed only of a store that is there.
func (s *Store) missing(op, key string, err error) error {
	if absent(err) {
		if gone := s.present(); gone != nil {
			err = gone
		}
	}
	return failed(op, key, err)
}

// path returns the file of a valid key.
func (s *Store) path(key string) string { return filepath.Join(s.dir, filepath.FromSlash(key)) }

// Get reads a range of an object.
func (s *Store) Get(ctx context.Context, key string, off int64, dst []byte) (int, object.Info, error) {
	if err := begin(ctx, object.OpGet, key); err != nil {
		return 0, object.Info{}, err
	}
	if off < 0 {
		return 0, object.Info{}, &object.Error{Op: object.OpGet, Key: key, Kind: object.Fatal, Err: errors.New("negative offset")}
	}
	f, info, err := s.open(key)
	if err != nil {
		return 0, object.Info{}, s.missing(object.OpGet, key, err)
	}
	defer f.Close()
	n := 0
	for n < len(dst) {
		m, err := f.ReadAt(dst[n:min(len(dst), n+copyMax)], off+int64(n))
		n += m
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, object.Info{}, failed(object.OpGet, key, err)
		}
	}
	return n, info, nil
}

// open opens an object's file. A directory is no object.
func (s *Store) open(key string) (*os.File, object.Info, error) {
	f, err := os.Open(s.path(key))
	if err != nil {
		return nil, object.Info{}, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, object.Info{}, err
	}
	return f, s.info(fi), nil
}

func (s *Store) info(fi fs.FileInfo) object.Info {
	return object.Info{Size: fi.Size(), Modified: fi.ModTime(), Date: s.now()}
}

// Head returns an object's Info.
func (s *Store) Head(ctx context.Context, key string) (object.Info, error) {
	if err := begin(ctx, object.OpHead, key); err != nil {
		return object.Info{}, err
	}
	fi, err := os.Lstat(s.path(key))
	if err == nil && !fi.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return object.Info{}, s.missing(object.OpHead, key, err)
	}
	return s.info(fi), nil
}

// Delete removes objects, and answers when their removal is on stable storage.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	dirs := map[string]string{} // to one of its keys
	for _, key := range keys {
		if err := begin(ctx, object.OpDelete, key); err != nil {
			return err
		}
		err := syscall.Unlink(s.path(key))
		switch {
		case err == nil:
			dirs[filepath.Dir(s.path(key))] = key
		case absent(err) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.EPERM) && s.isDir(key):
		default:
			return failed(object.OpDelete, key, err)
		}
	}
	if len(dirs) == 0 && len(keys) > 0 {
		return failed(object.OpDelete, keys[0], s.present())
	}
	for dir, key := range dirs {
		if err := syncDir(dir); err != nil {
			return failed(object.OpDelete, key, err)
		}
	}
	return nil
}

// isDir tells a directory, which BSD's unlink refuses with EPERM, from a file that may not be removed.
func (s *Store) isDir(key string) bool {
	fi, err := os.Lstat(s.path(key))
	return err == nil && fi.IsDir()
}

// Ordered returns true.
func (s *Store) Ordered() bool { return true }

// begin checks what every request on one key checks.
func begin(ctx context.Context, op, key string) error {
	if err := object.CheckKey(key); err != nil {
		return &object.Error{Op: op, Key: key, Kind: object.Fatal, Err: err}
	}
	return failed(op, key, ctx.Err())
}

// absent reports an error which says that there is no such file.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// failed gives err its kind. A full or failing disk may get well: it is Transient.
func failed(op, key string, err error) error {
	kind := object.Transient
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errBody):
		kind = object.Fatal
	case absent(err):
		kind = object.NotFound
		if op == object.OpPut { // a segment of the key is an object, or the store's directory went
			kind = object.Fatal
		}
	case errors.Is(err, fs.ErrExist):
		kind = object.Exists
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		kind = object.Denied
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.ENOTEMPTY):
		kind = object.Fatal
	}
	return &object.Error{Op: op, Key: key, Kind: kind, Err: err}
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// makeDir makes dir and what is missing above it, durably.
func makeDir(dir string) error {
	fi, err := os.Stat(dir)
	if err == nil {
		if !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return err
	}
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// buffers are for copying bodies.
var buffers = sync.Pool{New: func() any { b := make([]byte, copyMax); return &b }}

// hidden reports a name that is no part of a key.
func hidden(name string) bool { return strings.HasPrefix(name, ".") }
