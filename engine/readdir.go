package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Entry is a name in a directory.
type Entry struct {
	Name   string
	Ino    Ino
	Type   FileType
	Cookie uint64 // ReadDir goes on after it
	Attr   Attr   // only if it was asked for
}

// readdirMax is how many entries are read before the caller is told of them.
const readdirMax = 256

// ReadDir calls fn for the directory's entries after a cookie, zero for all, in an order that does
// not change while others come and go, until fn returns false. "." and ".." are left out; plus asks for
// attributes. No lock is held while fn runs; what *Entry points to is fn's for the call only. c needs read
// permission unless it is nil, as for a directory that was opened before.
func (e *Engine) ReadDir(ctx context.Context, c *Cred, dir Ino, after uint64, plus bool, fn func(*Entry) bool) error {
	n, err := e.open(ctx, dir, TypeDir)
	if err != nil {
		return err
	}
	defer e.release(n)
	if err := c.check(dir, n.attr.Load(), AccessRead); err != nil {
		return err
	}
	e.accessed(n)
	entries := make([]Entry, 0, 16)
	for after != ^uint64(0) {
		last := after
		entries, err = e.readEntries(ctx, dir, after, entries[:0])
		if err != nil {
			return err
		}
		for i := range entries {
			d := &entries[i]
			last = d.Cookie
			if plus {
				if err := e.readAttr(ctx, d); errors.Is(err, ErrStale) { // removed since
					continue
				} else if err != nil {
					return err
				}
			}
			if !fn(d) {
				return nil
			}
		}
		if len(entries) < cap(entries) {
			return nil
		}
		after = last
		if cap(entries) < readdirMax {
			entries = make([]Entry, 0, readdirMax)
		}
	}
	return nil
}

func (e *Engine) readAttr(ctx context.Context, d *Entry) error {
	n, err := e.acquire(ctx, d.Ino)
	if err != nil {
		return err
	}
	defer e.release(n)
	d.Attr = e.stat(n)
	return nil
}

// readEntries fills entries with those after a cookie. If there are fewer than fit, there are no more.
func (e *Engine) readEntries(ctx context.Context, dir Ino, after uint64, entries []Entry) ([]Entry, error) {
	if err := e.guard.enter(); err != nil {
		return nil, err
	}
	defer e.guard.exit()
	err := e.scan(ctx, appendReaddirKey(nil, dir, after+1), appendReaddirKey(nil, dir+1, 0), func(key, value []byte) (bool, error) {
		d, name, err := decodeReaddir(key, value)
		if err != nil {
			return false, fmt.Errorf("engine: directory %d: %w", dir, err)
		}
		entries = append(entries, Entry{Name: name, Ino: d.ino, Type: d.typ, Cookie: d.cookie})
		return len(entries) < cap(entries), nil
	})
	return entries, err
}

// A readdir key's value: inode(8) type(1), then the name.
const readdirLen = 9

func appendReaddir(dst []byte, d dentry, name string) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(d.ino))
	return append(append(dst, byte(d.typ)), name...)
}

func decodeReaddir(key, value []byte) (dentry, string, error) {
	if len(key) != readdirKeyLen || len(value) <= readdirLen || len(value) > readdirLen+NameMax {
		return dentry{}, "", fmt.Errorf("%w: entry %x = %x", ErrCorrupt, key, value)
	}
	d := dentry{ino: Ino(binary.BigEndian.Uint64(value)), typ: FileType(value[8]), cookie: binary.BigEndian.Uint64(key[inodeKeyLen:])}
	if d.ino == 0 || d.cookie == 0 || !d.typ.valid() {
		return dentry{}, "", fmt.Errorf("%w: entry %x = %x", ErrCorrupt, key, value)
	}
	return d, string(value[readdirLen:]), nil
}

// scan calls fn for the keys from lower to before upper while it returns true.
func (e *Engine) scan(ctx context.Context, lower, upper []byte, fn func(key, value []byte) (bool, error)) error {
	return scanIn(ctx, e.db, lower, upper, fn)
}

// scanIn is scan of the tree or a snapshot of it.
func scanIn(ctx context.Context, r pebble.Reader, lower, upper []byte, fn func(key, value []byte) (bool, error)) (err error) {
	it, err := r.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("engine: scan from %x: %w", lower, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("engine: scan at %x: %w", it.Key(), err)
		}
		if more, err := fn(it.Key(), v); err != nil || !more {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("engine: scan from %x: %w", lower, err)
	}
	return nil
}
