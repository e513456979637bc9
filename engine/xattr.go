package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"zerofs/journal"
)

// Flags of SetXattr, as setxattr(2)'s.
const (
	XattrCreate  = 1 // the name must not be there
	XattrReplace = 2 // it must
)

// Bounds of extended attributes, as Linux's.
const (
	XattrNameMax = 255      // bytes
	XattrSizeMax = 64 << 10 // bytes of a value
	XattrListMax = 64 << 10 // bytes of all names of an inode, each with a zero byte
)

const (
	xattrAccessACL  = "system.posix_acl_access"
	xattrDefaultACL = "system.posix_acl_default"
	xattrCapability = "security.capability"
)

// xattrPermitted reports why c may not read, or write, an attribute of that name: xattr(7).
func (c *Cred) xattrPermitted(ino Ino, a *Attr, name string, write bool) error {
	space, rest, _ := strings.Cut(name, ".")
	denied := func(err error) error { return fmt.Errorf("engine: inode %d: attribute %q: %w", ino, name, err) }
	switch {
	case name == "" || len(name) > XattrNameMax:
		return denied(ErrRange)
	case strings.Contains(name, "\x00"):
		return denied(errInvalid)
	case name == xattrAccessACL || name == xattrDefaultACL:
		return c.aclPermitted(ino, a, write)
	case rest == "" && (space == "user" || space == "trusted" || space == "security"):
		return denied(errInvalid)
	case space == "user":
		if a.Type != TypeRegular && a.Type != TypeDir || write && a.Type == TypeDir && a.Mode&modeSticky != 0 && !c.owns(a) {
			if write {
				return denied(ErrPerm)
			}
			return denied(ErrNoData)
		}
		if write {
			return c.check(ino, a, AccessWrite)
		}
		return c.check(ino, a, AccessRead)
	case space == "trusted":
		switch {
		case c.root():
			return nil
		case write:
			return denied(ErrPerm)
		}
		return denied(ErrNoData)
	case space == "security":
		if write && !c.root() {
			return denied(ErrPerm)
		}
		return nil
	}
	return denied(ErrUnsupported)
}

func (c *Cred) aclPermitted(ino Ino, a *Attr, write bool) error {
	switch {
	case a.Type == TypeSymlink:
		return fmt.Errorf("engine: inode %d: ACL of a symbolic link: %w", ino, ErrUnsupported)
	case write && !c.owns(a):
		return fmt.Errorf("engine: inode %d: change an ACL: %w", ino, ErrPerm)
	}
	return nil
}

// GetXattr returns an extended attribute.
func (e *Engine) GetXattr(ctx context.Context, c *Cred, ino Ino, name string) ([]byte, error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return nil, err
	}
	defer e.release(n)
	a := n.attr.Load()
	if err := c.xattrPermitted(ino, a, name, false); err != nil {
		return nil, err
	}
	v, there, err := e.readXattr(n, name)
	if err == nil && !there {
		err = fmt.Errorf("engine: inode %d: attribute %q: %w", ino, name, ErrNoData)
	}
	return v, err
}

func (e *Engine) readXattr(n *node, name string) (v []byte, there bool, err error) {
	if n.attr.Load().Flags&flagXattrs == 0 {
		return nil, false, nil
	}
	v, err = e.read1(appendXattrKey(nil, n.ino, name))
	if errors.Is(err, errNotExist) {
		return nil, false, nil
	}
	return v, err == nil, err
}

// ListXattr returns the names of an inode's extended attributes, sorted.
func (e *Engine) ListXattr(ctx context.Context, c *Cred, ino Ino) (names []string, err error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return nil, err
	}
	defer e.release(n)
	if n.attr.Load().Flags&flagXattrs == 0 {
		return nil, nil
	}
	if err := e.guard.enter(); err != nil {
		return nil, err
	}
	defer e.guard.exit()
	err = e.scan(ctx, appendXattrKey(nil, ino, ""), appendXattrKey(nil, ino+1, ""), func(key, _ []byte) (bool, error) {
		name := string(key[inodeKeyLen:])
		if c.root() || !strings.HasPrefix(name, "trusted.") {
			names = append(names, name)
		}
		return true, nil
	})
	return names, err
}

// SetXattr sets an extended attribute. An ACL that the mode says as well is kept in the mode alone.
func (e *Engine) SetXattr(ctx context.Context, c *Cred, ino Ino, name string, value []byte, flags int) (journal.LSN, error) {
	if len(value) > XattrSizeMax {
		return 0, fmt.Errorf("engine: inode %d: attribute %q of %d bytes: %w", ino, name, len(value), ErrTooBig)
	}
	if flags&^(XattrCreate|XattrReplace) != 0 {
		return 0, fmt.Errorf("engine: set attribute with flags %x: %w", flags, errInvalid)
	}
	if value == nil {
		value = []byte{}
	}
	return e.changeXattr(ctx, c, ino, name, value, flags)
}

// RemoveXattr removes an extended attribute.
func (e *Engine) RemoveXattr(ctx context.Context, c *Cred, ino Ino, name string) (journal.LSN, error) {
	return e.changeXattr(ctx, c, ino, name, nil, XattrReplace)
}

// changeXattr sets an attribute, or with a nil value removes it.
func (e *Engine) changeXattr(ctx context.Context, c *Cred, ino Ino, name string, value []byte, flags int) (journal.LSN, error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return 0, err
	}
	defer e.release(n)
	for {
		if err := c.xattrPermitted(ino, n.attr.Load(), name, true); err != nil {
			return 0, err
		}
		version := n.metaVersion.Load()
		_, there, err := e.readXattr(n, name)
		isACL := name == xattrAccessACL || name == xattrDefaultACL
		switch {
		case err != nil:
			return 0, err
		case there && flags&XattrCreate != 0:
			return 0, fmt.Errorf("engine: inode %d: attribute %q: %w", ino, name, errExist)
		case !there && flags&XattrReplace != 0 && !(isACL && value == nil): // to remove no ACL is fine
			return 0, fmt.Errorf("engine: inode %d: attribute %q: %w", ino, name, ErrNoData)
		case !there && value != nil && !isACL:
			if err := e.roomForXattr(ctx, n, name); err != nil {
				return 0, err
			}
		}
		var lsn journal.LSN
		if isACL {
			lsn, err = e.changeACL(ctx, c, n, version, name, value)
		} else {
			lsn, err = e.changeXattrAt(ctx, c, n, version, name, value)
		}
		if !errors.Is(err, errChanged) {
			return lsn, err
		}
	}
}

// roomForXattr reports whether one more name can be listed.
func (e *Engine) roomForXattr(ctx context.Context, n *node, name string) error {
	names, err := e.ListXattr(ctx, nil, n.ino)
	if err != nil {
		return err
	}
	total := len(name) + 1
	for _, s := range names {
		total += len(s) + 1
	}
	if total > XattrListMax {
		return fmt.Errorf("engine: inode %d: %d bytes of names: %w", n.ino, total, ErrNoSpace)
	}
	return nil
}

// changeXattrAt is changeXattr for what was so at version.
func (e *Engine) changeXattrAt(ctx context.Context, c *Cred, n *node, version uint64, name string, value []byte) (journal.LSN, error) {
	t, err := e.begin(ctx, attrOpMax+inodeKeyLen+len(name)+len(value)+opOverhead)
	if err != nil {
		return 0, err
	}
	defer t.end()
	n.meta.Lock()
	defer n.meta.Unlock()
	if n.metaVersion.Load() != version {
		return 0, errChanged
	}
	key := appendXattrKey(nil, n.ino, name)
	if value == nil {
		t.delete(key)
	} else {
		t.set(key, value)
	}
	now := nanos(e.opts.Now())
	t.setAttr(n, func(a *Attr) error {
		if err := c.xattrPermitted(n.ino, a, name, true); err != nil {
			return err
		}
		a.Flags |= flagXattrs
		if name == xattrCapability {
			a.Flags &^= flagCapability
			if value != nil {
				a.Flags |= flagCapability
			}
		}
		a.changed(now)
		return nil
	})
	lsn, err := t.commit()
	if err == nil {
		n.metaVersion.Add(1)
	}
	return lsn, err
}

// changeACL is changeXattr for an ACL that was so at version.
func (e *Engine) changeACL(ctx context.Context, c *Cred, n *node, version uint64, name string, value []byte) (journal.LSN, error) {
	var list acl
	if value != nil {
		var err error
		if list, err = decodeACL(value); err != nil {
			return 0, err
		}
	}
	isDir := n.attr.Load().Type == TypeDir
	if name == xattrDefaultACL && !isDir {
		if list == nil {
			return 0, nil
		}
		return 0, fmt.Errorf("engine: inode %d: default ACL of a file: %w", n.ino, ErrAccess)
	}
	t, err := e.begin(ctx, attrOpMax+inodeKeyLen+len(name)+len(value)+opOverhead)
	if err != nil {
		return 0, err
	}
	defer t.end()
	n.meta.Lock()
	defer n.meta.Unlock()
	if n.metaVersion.Load() != version {
		return 0, errChanged
	}
	to := n.attr.Load().lists()
	var mode *uint32
	if name == xattrDefaultACL {
		to.preset = list
	} else if to.access = list; list != nil {
		bits, all := list.mode()
		mode = &bits
		if all {
			to.access, list = nil, nil
		}
	}
	key := appendXattrKey(nil, n.ino, name)
	if list == nil {
		t.delete(key)
	} else {
		t.set(key, appendACL(nil, list))
	}
	now := nanos(e.opts.Now())
	t.setAttr(n, func(a *Attr) error {
		if err := c.aclPermitted(n.ino, a, true); err != nil {
			return err
		}
		if mode != nil {
			a.Mode = a.Mode&^0o777 | *mode
			if !c.root() && !c.inGroup(a.GID) {
				a.Mode &^= modeSetgid
			}
		}
		a.setACL(to)
		a.changed(now)
		return nil
	})
	lsn, err := t.commit()
	if err == nil {
		n.metaVersion.Add(1)
	}
	return lsn, err
}

// capabilityOpMax bounds what dropCapability adds to a batch.
const capabilityOpMax = inodeKeyLen + len(xattrCapability) + opOverhead

// dropCapability removes security.capability, which a file must not keep when its content or owner changes, and
// reports whether it had one.
func (t *txn) dropCapability(n *node) bool {
	if n.attr.Load().Flags&flagCapability == 0 {
		return false
	}
	t.delete(appendXattrKey(nil, n.ino, xattrCapability))
	return true
}

// setContent is setAttr for a change of a file's content: it sets times and takes away privileges.
func (t *txn) setContent(c *Cred, n *node, change func(*Attr) error) {
	dropped, now := t.dropCapability(n), nanos(t.e.opts.Now())
	t.setAttr(n, func(a *Attr) error {
		if err := change(a); err != nil {
			return err
		}
		a.modified(now)
		c.dropPrivileges(a)
		if dropped {
			a.Flags &^= flagCapability
		}
		return nil
	})
}
