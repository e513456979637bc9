package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"zerofs/tiers/object"
)

// errBody reports a body that could not be read.
var errBody = errors.New("body")

// Put stores body under key.
func (s *Store) Put(ctx context.Context, key string, body object.Body, opts object.PutOptions) (object.Info, error) {
	if err := begin(ctx, object.OpPut, key); err != nil {
		return object.Info{}, err
	}
	path := s.path(key)
	if opts.IfAbsent { // spares the bytes; link decides
		if _, err := os.Lstat(path); err == nil {
			return object.Info{}, failed(object.OpPut, key, existing(path))
		}
	}
	tmp, info, err := s.write(ctx, body)
	if err != nil {
		return object.Info{}, failed(object.OpPut, key, err)
	}
	defer os.Remove(tmp) // fails after a rename
	if err := makeDir(filepath.Dir(path)); err != nil {
		return object.Info{}, failed(object.OpPut, key, err)
	}
	if opts.IfAbsent {
		err = linkNew(tmp, path)
	} else if err = os.Rename(tmp, path); errors.Is(err, os.ErrExist) {
		err = isDirError(path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return object.Info{}, failed(object.OpPut, key, err)
	}
	return info, nil
}

// linkNew gives tmp the name path, unless it is taken.
func linkNew(tmp, path string) error {
	err := os.Link(tmp, path)
	if errors.Is(err, os.ErrExist) {
		return existing(path)
	}
	return err
}

// existing returns the error of a name that is taken, once the name is durable: whoever reads the
// object because of this answer may build on it.
func existing(path string) error {
	if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
		return isDirError(path)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return os.ErrExist
}

// isDirError says that the key is a directory of other keys.
func isDirError(path string) error {
	return &os.PathError{Op: "put", Path: path, Err: syscall.EISDIR}
}

// write stores body in a temporary file, durably, and returns its path.
func (s *Store) write(ctx context.Context, body object.Body) (string, object.Info, error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), "put-")
	if err != nil {
		return "", object.Info{}, fmt.Errorf("temporary file: %w", unlinked(err))
	}
	err = fill(ctx, f, body)
	if err == nil {
		err = f.Sync()
	}
	var info object.Info
	if err == nil {
		var fi os.FileInfo
		if fi, err = f.Stat(); err == nil {
			info = s.info(fi)
		}
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(f.Name())
		return "", object.Info{}, err
	}
	return f.Name(), info, nil
}

// fill copies body to f.
func fill(ctx context.Context, f *os.File, body object.Body) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for off, size := int64(0), body.Size(); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := (*buf)[:min(size-off, copyMax)]
		if n, err := body.ReadAt(p, off); n < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("%w: at %d of %d: %w", errBody, off, size, err)
		}
		if _, err := f.Write(p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}

// unlinked makes a missing temporary directory an error other than "no such object".
func unlinked(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}
