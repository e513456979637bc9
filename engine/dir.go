package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/journal"
)

// A change to a directory reads what it needs with no lock held and looks again, under the lock,
// whether the directory is still at the version that was read. If it is not, it starts over.

// checkName reports why name cannot be in a directory.
func checkName(name string) error {
	switch {
	case len(name) > NameMax:
		return fmt.Errorf("engine: name of %d bytes: %w", len(name), ErrNameTooLong)
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("engine: name %q: %w", name, errInvalid)
	}
	return nil
}

// Entry is a name in a directory.
type Entry struct {
	Name   string
	Ino    Ino
	Type   FileType
	Cookie uint64 // ReadDir goes on after it
}

// Lookup returns the inode that a name in a directory stands for.
func (e *Engine) Lookup(ctx context.Context, dir Ino, name string) (Ino, error) {
	if err := checkName(name); err != nil {
		return 0, err
	}
	n, err := e.open(ctx, dir, TypeDir)
	if err != nil {
		return 0, err
	}
	defer e.release(n)
	d, err := e.dentry(dir, name)
	return d.ino, err
}

func (e *Engine) dentry(dir Ino, name string) (dentry, error) {
	v, err := e.read1(appendDentryKey(nil, dir, name))
	if err != nil {
		return dentry{}, fmt.Errorf("engine: directory %d: %q: %w", dir, name, err)
	}
	d, err := decodeDentry(v)
	if err != nil {
		return dentry{}, fmt.Errorf("engine: directory %d: %q: %w", dir, name, err)
	}
	return d, nil
}

// read1 is get for a caller that has not entered the guard.
func (e *Engine) read1(key []byte) ([]byte, error) {
	if err := e.guard.enter(); err != nil {
		return nil, err
	}
	defer e.guard.exit()
	return e.get(key)
}

// Create makes a file of attr's type under a name that must not exist. Of attr, Type, Mode, UID, GID,
// Rdev, Flags and, for a regular file, Size count; a file with a size is a hole.
func (e *Engine) Create(ctx context.Context, dir Ino, name string, attr Attr) (Ino, journal.LSN, error) {
	if err := checkName(name); err != nil {
		return 0, 0, err
	}
	if !attr.Type.valid() || attr.Type != TypeRegular && attr.Size != 0 {
		return 0, 0, fmt.Errorf("engine: create %q with type %d and size %d: %w", name, attr.Type, attr.Size, errInvalid)
	}
	if attr.Size > maxFileSize {
		return 0, 0, fmt.Errorf("engine: create %q with size %d: %w", name, attr.Size, ErrTooLarge)
	}
	n, err := e.open(ctx, dir, TypeDir)
	if err != nil {
		return 0, 0, err
	}
	defer e.release(n)
	for {
		version := n.version.Load()
		_, err := e.dentry(dir, name)
		if err == nil {
			return 0, 0, fmt.Errorf("engine: directory %d: %q: %w", dir, name, errExist)
		}
		if !errors.Is(err, errNotExist) {
			return 0, 0, err
		}
		ino, lsn, err := e.createAt(ctx, n, version, name, attr)
		if !errors.Is(err, errChanged) {
			return ino, lsn, err
		}
	}
}

// errChanged says that a directory changed since it was looked at.
var errChanged = errors.New("engine: directory changed")

// createAt is Create for a directory that has no such name at version.
func (e *Engine) createAt(ctx context.Context, dir *node, version uint64, name string, attr Attr) (Ino, journal.LSN, error) {
	t, err := e.begin(ctx, 3*attrOpMax+2*(NameMax+readdirKeyLen+dentryLen+opOverhead))
	if err != nil {
		return 0, 0, err
	}
	defer t.end()
	dir.dir.Lock()
	defer dir.dir.Unlock()
	if dir.version.Load() != version {
		return 0, 0, errChanged
	}
	if dir.attr.Load().Nlink == 0 {
		return 0, 0, fmt.Errorf("engine: directory %d was removed: %w", dir.ino, errNotExist)
	}
	now, ino := nanos(e.opts.Now()), t.newIno()
	t.set(appendInodeKey(nil, ino), newInode(attr, dir.ino, now))
	d := dentry{ino: ino, typ: attr.Type, cookie: dir.attr.Load().Cookie + 1}
	t.set(appendDentryKey(nil, dir.ino, name), appendDentry(nil, d))
	t.set(appendReaddirKey(nil, dir.ino, d.cookie), []byte(name))
	t.setAttr(dir, func(a *Attr) {
		a.Cookie, a.Size, a.Mtime, a.Ctime = d.cookie, a.Size+1, now, now
		if attr.Type == TypeDir {
			a.Nlink++
		}
	})
	lsn, err := t.commit()
	if err != nil {
		return 0, 0, err
	}
	dir.version.Add(1)
	return ino, lsn, nil
}

// newInode encodes the attributes of a new file in parent.
func newInode(attr Attr, parent Ino, now int64) []byte {
	a := Attr{
		Type: attr.Type, Mode: attr.Mode & 0o7777, UID: attr.UID, GID: attr.GID, Rdev: attr.Rdev, Flags: attr.Flags,
		Size: attr.Size, Nlink: 1, Atime: now, Mtime: now, Ctime: now, Btime: now, Generation: 1,
	}
	if a.Type == TypeDir {
		a.Nlink, a.Parent = 2, parent
	}
	return appendAttr(nil, &a)
}

func (t *txn) set(key, value []byte) { _ = t.b.Set(key, value, nil) } // an unindexed batch never fails
func (t *txn) delete(key []byte)     { _ = t.b.Delete(key, nil) }

// Unlink removes a name, which must not be a directory's. The last name takes the file with it, at
// once or when its last user has gone.
func (e *Engine) Unlink(ctx context.Context, dir Ino, name string) (journal.LSN, error) {
	if err := checkName(name); err != nil {
		return 0, err
	}
	n, err := e.open(ctx, dir, TypeDir)
	if err != nil {
		return 0, err
	}
	defer e.release(n)
	for {
		version := n.version.Load()
		d, err := e.dentry(dir, name)
		if err != nil {
			return 0, err
		}
		if d.typ == TypeDir {
			return 0, fmt.Errorf("engine: directory %d: unlink %q: %w", dir, name, ErrIsDir)
		}
		child, err := e.acquire(ctx, d.ino)
		if err != nil {
			if n.version.Load() != version {
				continue
			}
			return 0, err
		}
		lsn, err := e.unlinkAt(ctx, n, version, name, d, child)
		e.release(child)
		if !errors.Is(err, errChanged) {
			return lsn, err
		}
	}
}

// unlinkAt is Unlink for a directory in which the name meant child at version.
func (e *Engine) unlinkAt(ctx context.Context, dir *node, version uint64, name string, d dentry, child *node) (journal.LSN, error) {
	t, err := e.begin(ctx, 2*attrOpMax+2*(NameMax+readdirKeyLen+opOverhead))
	if err != nil {
		return 0, err
	}
	defer t.end()
	defer lockBoth(dir, child)()
	if dir.version.Load() != version {
		return 0, errChanged
	}
	now := nanos(e.opts.Now())
	t.delete(appendDentryKey(nil, dir.ino, name))
	t.delete(appendReaddirKey(nil, dir.ino, d.cookie))
	if child.attr.Load().Nlink == 1 {
		t.set(appendOrphanKey(nil, child.ino), nil)
	}
	t.setAttr(child, func(a *Attr) { a.Nlink, a.Ctime = a.Nlink-1, now })
	t.setAttr(dir, func(a *Attr) { a.Size, a.Mtime, a.Ctime = a.Size-1, now, now })
	lsn, err := t.commit()
	if err != nil {
		return 0, err
	}
	dir.version.Add(1)
	return lsn, nil
}

// lockBoth takes both nodes' dir locks in the order of inode numbers.
func lockBoth(a, b *node) (unlock func()) {
	if a.ino > b.ino {
		a, b = b, a
	}
	a.dir.Lock()
	b.dir.Lock()
	return func() { b.dir.Unlock(); a.dir.Unlock() }
}

// ReadDir calls fn for the directory's entries after a cookie, zero for all, in an order that does
// not change while others come and go, until fn returns false.
func (e *Engine) ReadDir(ctx context.Context, dir Ino, after uint64, fn func(Entry) bool) error {
	n, err := e.open(ctx, dir, TypeDir)
	if err != nil {
		return err
	}
	defer e.release(n)
	if after == ^uint64(0) {
		return nil
	}
	if err := e.guard.enter(); err != nil {
		return err
	}
	defer e.guard.exit()
	return e.scan(ctx, appendReaddirKey(nil, dir, after+1), appendReaddirKey(nil, dir+1, 0), func(key, value []byte) (bool, error) {
		if len(key) != readdirKeyLen {
			return false, fmt.Errorf("%w: key %x", ErrCorrupt, key)
		}
		name := string(value)
		d, err := e.dentry(dir, name)
		if errors.Is(err, errNotExist) { // removed since the scan began
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if d.cookie != binary.BigEndian.Uint64(key[inodeKeyLen:]) { // and made anew: it comes later
			return true, nil
		}
		return fn(Entry{Name: name, Ino: d.ino, Type: d.typ, Cookie: d.cookie}), nil
	})
}

// scan calls fn for the keys from lower to before upper while it returns true.
func (e *Engine) scan(ctx context.Context, lower, upper []byte, fn func(key, value []byte) (bool, error)) (err error) {
	it, err := e.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
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
