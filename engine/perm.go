package engine

import (
	"fmt"
	"slices"
)

// Cred is who asks: a process's ids for file access. A Cred is never changed after it was made.
// Where a function takes a *Cred, nil is the superuser.
type Cred struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups

	// AnyGroup is for a client of whose users only the number is known: which groups they are in is left
	// to the checks of its own kernel, so what some group may do is allowed here.
	AnyGroup bool
}

// Bits of Access, as in a mode.
const (
	AccessExec  uint32 = 1 // of a directory, search
	AccessWrite uint32 = 2
	AccessRead  uint32 = 4
)

// Mode bits beyond the permissions.
const (
	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeSticky = 0o1000
)

func (c *Cred) root() bool { return c == nil || c.UID == 0 }

func (c *Cred) owns(a *Attr) bool { return c.root() || c.UID == a.UID }

func (c *Cred) inGroup(gid uint32) bool {
	return c == nil || c.AnyGroup || c.GID == gid || slices.Contains(c.Groups, gid)
}

// allows reports whether c has all of the bits in want, as Linux's generic_permission: the superuser has
// all, but execution of a file only if somebody has it.
func (c *Cred) allows(a *Attr, want uint32) bool {
	switch {
	case c.root():
		return want&AccessExec == 0 || a.Type == TypeDir || a.Mode&0o111 != 0
	case c.UID == a.UID:
		return want&^(a.Mode>>6) == 0
	case c.AnyGroup: // with an ACL the group bits are its mask, so nothing in it allows more
		return want&^(a.Mode>>3|a.Mode) == 0
	case a.acl != nil && a.acl.access != nil && a.Mode&0o070 != 0: // the group bits are the ACL's mask
		return a.acl.access.allows(c, a, want)
	case c.inGroup(a.GID):
		return want&^(a.Mode>>3) == 0
	}
	return want&^a.Mode == 0
}

// check reports ErrAccess unless c has all bits in want.
func (c *Cred) check(ino Ino, a *Attr, want uint32) error {
	if !c.allows(a, want) {
		return fmt.Errorf("engine: inode %d: %w", ino, ErrAccess)
	}
	return nil
}

// mayAdd reports whether c may make a name in dir.
func (c *Cred) mayAdd(dir *node) error {
	a := dir.attr.Load()
	if a.Nlink == 0 {
		return fmt.Errorf("engine: directory %d was removed: %w", dir.ino, errNotExist)
	}
	return c.check(dir.ino, a, AccessWrite|AccessExec)
}

// mayRemove reports whether c may take child's name out of dir. In a sticky directory only the owners of
// either may.
func (c *Cred) mayRemove(dir, child *node) error {
	a, b := dir.attr.Load(), child.attr.Load()
	if err := c.check(dir.ino, a, AccessWrite|AccessExec); err != nil {
		return err
	}
	if a.Mode&modeSticky != 0 && !c.owns(a) && !c.owns(b) {
		return fmt.Errorf("engine: directory %d is sticky: %w", dir.ino, ErrPerm)
	}
	return nil
}

// newOwner fills in whose a new inode in a directory is. In a setgid directory the group is the
// directory's, and a new directory is setgid too.
func (c *Cred) newOwner(a, dir *Attr) {
	if c != nil {
		a.UID, a.GID = c.UID, c.GID
	}
	if dir.Mode&modeSetgid != 0 {
		a.GID = dir.GID
		if a.Type == TypeDir {
			a.Mode |= modeSetgid
			return
		}
	}
	if a.Type != TypeDir && a.Mode&(modeSetgid|0o010) == modeSetgid|0o010 && !c.root() && !c.inGroup(a.GID) {
		a.Mode &^= modeSetgid
	}
}

// dropPrivileges clears what a program must not keep when its content changes: setuid, and setgid
// where it does not mean something else.
func (c *Cred) dropPrivileges(a *Attr) {
	if !c.root() && a.Type == TypeRegular {
		a.Mode = withoutSetID(a.Mode)
	}
}

func withoutSetID(mode uint32) uint32 {
	if mode&0o010 != 0 {
		mode &^= modeSetgid
	}
	return mode &^ modeSetuid
}
