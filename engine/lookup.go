package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// checkName reports why no directory can have such a name.
func checkName(name string) error {
	switch {
	case len(name) > NameMax:
		return fmt.Errorf("engine: name of %d bytes: %w", len(name), ErrNameTooLong)
	case name == "":
		return fmt.Errorf("engine: name %q: %w", name, errNotExist)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("engine: name %q: %w", name, errInvalid)
	}
	return nil
}

func isDot(name string) bool { return name == "." || name == ".." }

// Lookup returns the inode that a name in a directory stands for; "." and ".." are names too. c needs
// search permission.
func (e *Engine) Lookup(ctx context.Context, c *Cred, dir Ino, name string) (Ino, Attr, error) {
	if err := checkName(name); err != nil {
		return 0, Attr{}, err
	}
	n, err := e.open(ctx, dir, TypeDir)
	if err != nil {
		return 0, Attr{}, err
	}
	defer e.release(n)
	for {
		a := n.attr.Load()
		if err := c.check(dir, a, AccessExec); err != nil {
			return 0, Attr{}, err
		}
		version := n.version.Load()
		child, _, err := e.child(ctx, n, name)
		if err == nil {
			attr := e.stat(child)
			e.release(child)
			return child.ino, attr, nil
		}
		if !errors.Is(err, ErrStale) || name == ".." { // the parent of a removed directory may be gone too
			return 0, Attr{}, err
		}
		if n.version.Load() == version {
			return 0, Attr{}, fmt.Errorf("%w: directory %d: %q has no inode", ErrCorrupt, dir, name)
		}
	}
}

// child returns the node that a name in a directory means. An error matches ErrStale if the name was
// removed meanwhile.
func (e *Engine) child(ctx context.Context, dir *node, name string) (*node, dentry, error) {
	d := dentry{ino: dir.ino, typ: TypeDir}
	switch name {
	case ".":
	case "..":
		d.ino = dir.attr.Load().Parent
	default:
		var err error
		if d, err = e.dentry(dir.ino, name); err != nil {
			return nil, d, err
		}
	}
	n, err := e.acquire(ctx, d.ino)
	return n, d, err
}

// dentry returns what a name in a directory means.
func (e *Engine) dentry(dir Ino, name string) (dentry, error) {
	d, known := e.dentries.get(dir, name)
	if !known {
		fill := e.dentries.begin(dir, name)
		var err error
		if d, err = e.readDentry(dir, name); err != nil && !errors.Is(err, errNotExist) {
			return dentry{}, err
		}
		e.dentries.fill(fill, d)
	}
	if d.ino == 0 {
		return dentry{}, fmt.Errorf("engine: directory %d: %q: %w", dir, name, errNotExist)
	}
	return d, nil
}

func (e *Engine) readDentry(dir Ino, name string) (dentry, error) {
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

// find is dentry where a name that is not there is no error but has no inode.
func (e *Engine) find(dir Ino, name string) (dentry, error) {
	d, err := e.dentry(dir, name)
	if errors.Is(err, errNotExist) {
		return dentry{}, nil
	}
	return d, err
}

// errChanged says that what was looked at has changed since.
var errChanged = errors.New("engine: changed meanwhile")

// still reports whether the name means what was found at version, when the directory's lock is held. A change
// of other names alone does not matter if this one is remembered.
func (e *Engine) still(dir *node, version uint64, name string, d dentry) bool {
	if dir.version.Load() == version {
		return true
	}
	now, known := e.dentries.get(dir.ino, name)
	return known && now == d
}

// read1 is get for a caller that has not entered the guard.
func (e *Engine) read1(key []byte) ([]byte, error) {
	if err := e.guard.enter(); err != nil {
		return nil, err
	}
	defer e.guard.exit()
	return e.get(key)
}

// Readlink returns the target of a symbolic link.
func (e *Engine) Readlink(ctx context.Context, _ *Cred, ino Ino) (string, error) {
	n, err := e.open(ctx, ino, TypeSymlink)
	if err != nil {
		return "", err
	}
	defer e.release(n)
	v, err := e.read1(appendSymlinkKey(nil, ino))
	if errors.Is(err, errNotExist) {
		err = fmt.Errorf("%w: it has no target", ErrCorrupt)
	}
	if err != nil {
		return "", fmt.Errorf("engine: symbolic link %d: %w", ino, err)
	}
	e.accessed(n)
	return string(v), nil
}
