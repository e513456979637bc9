package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"zerofs/journal"
)

// Unlink removes a name, which must not be a directory's. The last name takes the file with it, at
// once or when its last user has gone.
func (e *Engine) Unlink(ctx context.Context, c *Cred, dir Ino, name string) (Change, journal.LSN, error) {
	if isDot(name) {
		return Change{}, 0, fmt.Errorf("engine: unlink %q: %w", name, ErrIsDir)
	}
	return e.remove(ctx, c, dir, name, false)
}

// Rmdir removes an empty directory.
func (e *Engine) Rmdir(ctx context.Context, c *Cred, dir Ino, name string) (Change, journal.LSN, error) {
	switch name {
	case ".":
		return Change{}, 0, fmt.Errorf("engine: remove %q: %w", name, errInvalid)
	case "..":
		return Change{}, 0, fmt.Errorf("engine: remove %q: %w", name, ErrNotEmpty)
	}
	return e.remove(ctx, c, dir, name, true)
}

func (e *Engine) remove(ctx context.Context, c *Cred, dir Ino, name string, isDir bool) (Change, journal.LSN, error) {
	if err := checkName(name); err != nil {
		return Change{}, 0, err
	}
	n, err := e.open(ctx, dir, TypeDir)
	if err != nil {
		return Change{}, 0, err
	}
	defer e.release(n)
	for {
		if err := c.check(dir, n.attr.Load(), AccessExec); err != nil {
			return Change{}, 0, err
		}
		version := n.version.Load()
		child, d, err := e.child(ctx, n, name)
		if err != nil {
			if errors.Is(err, ErrStale) && n.version.Load() != version {
				continue
			}
			return Change{}, 0, err
		}
		ch, lsn, err := e.removeAt(ctx, c, n, version, name, d, child, isDir)
		e.release(child)
		if !errors.Is(err, errChanged) {
			return ch, lsn, err
		}
	}
}

// removeAt is remove for a directory in which the name meant child at version.
func (e *Engine) removeAt(ctx context.Context, c *Cred, dir *node, version uint64, name string, d dentry, child *node, isDir bool) (Change, journal.LSN, error) {
	t, err := e.begin(ctx, 2*attrOpMax+dirOpMax+dropOpMax)
	if err != nil {
		return Change{}, 0, err
	}
	defer t.end()
	defer lockDirs(dir, child)()
	if !e.still(dir, version, name, d) {
		return Change{}, 0, errChanged
	}
	if err := c.mayRemove(dir, child); err != nil {
		return Change{}, 0, err
	}
	if err := removable(dir, child, name, isDir); err != nil {
		return Change{}, 0, err
	}
	now := nanos(e.opts.Now())
	t.dropName(dir.ino, name, d)
	t.setAttr(dir, func(a *Attr) error { a.left(d.typ); a.modified(now); return nil })
	doomed := t.unlink(child, now)
	e.dentries.change(dir.ino, name)
	lsn, err := t.commit()
	e.dentries.settle(dir.ino, name, dentry{}, err == nil)
	if err == nil {
		dir.version.Add(1)
	}
	if doomed {
		e.nodes.settle(child, err == nil)
	}
	if err != nil {
		return Change{}, 0, err
	}
	return t.changed(0), lsn, nil
}

// removable reports why a name of child's in dir cannot go.
func removable(dir, child *node, name string, isDir bool) error {
	a := child.attr.Load()
	switch {
	case isDir && a.Type != TypeDir:
		return fmt.Errorf("engine: directory %d: remove %q: %w", dir.ino, name, ErrNotDir)
	case !isDir && a.Type == TypeDir:
		return fmt.Errorf("engine: directory %d: unlink %q: %w", dir.ino, name, ErrIsDir)
	case isDir && a.Size != 0:
		return fmt.Errorf("engine: directory %d: remove %q: %w", dir.ino, name, ErrNotEmpty)
	case child.devices != 0:
		return fmt.Errorf("engine: device %q is attached: %w", name, ErrBusy)
	}
	return nil
}

// unlink takes a name, of a directory the only one, off an inode. If it was the last, then the inode goes
// too: now if nobody else uses it (then it is doomed, and the caller settles that after commit), else when its last
// user has gone. The inode's dir lock is held.
func (t *txn) unlink(n *node, now int64) (doomed bool) {
	a := n.attr.Load()
	if a.Type != TypeDir && a.Nlink > 1 {
		t.setAttr(n, func(a *Attr) error { a.Nlink--; a.changed(now); return nil })
		return false
	}
	if t.e.nodes.doom(n) {
		t.drop(n.ino, n.attr.Load())
		return true
	}
	t.set(appendOrphanKey(nil, n.ino), nil)
	t.setAttr(n, func(a *Attr) error { a.Nlink = 0; a.changed(now); return nil })
	return false
}

// lockDirs takes the nodes' dir locks in the order of inode numbers. A node may be there twice, or nil.
func lockDirs(nodes ...*node) (unlock func()) {
	nodes = slices.DeleteFunc(nodes, func(n *node) bool { return n == nil })
	slices.SortFunc(nodes, func(a, b *node) int { return int(min(max(int64(a.ino-b.ino), -1), 1)) })
	nodes = slices.Compact(nodes)
	for _, n := range nodes {
		n.dir.Lock()
	}
	return func() {
		for _, n := range nodes {
			n.dir.Unlock()
		}
	}
}
