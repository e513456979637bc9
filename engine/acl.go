package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ACLs are acl(5)'s, as Linux keeps them in the extended attributes system.posix_acl_access and
// system.posix_acl_default: little-endian, a version of four bytes, then entries of tag (2), permissions (2)
// and id (4). Where an ACL has a mask, the mode's group bits are the mask.

const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclVersion   = 2
	aclHeaderLen = 4
	aclEntryLen  = 8
	aclNoID      = ^uint32(0)
)

// acls are an inode's ACLs. They are never changed, but replaced.
type acls struct {
	access acl // nil: the mode says it all
	preset acl // of a directory: what new inodes in it begin with
}

// acl is a list of entries in the order of tags.
type acl []aclEntry

type aclEntry struct {
	tag, perm uint16
	id        uint32 // of a user or group
}

func appendACL(dst []byte, l acl) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, aclVersion)
	for _, x := range l {
		dst = binary.LittleEndian.AppendUint16(dst, x.tag)
		dst = binary.LittleEndian.AppendUint16(dst, x.perm)
		dst = binary.LittleEndian.AppendUint32(dst, x.id)
	}
	return dst
}

// decodeACL is appendACL's inverse. An ACL without entries is nil.
func decodeACL(b []byte) (acl, error) {
	if len(b) < aclHeaderLen || (len(b)-aclHeaderLen)%aclEntryLen != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, fmt.Errorf("engine: ACL of %d bytes: %w", len(b), errInvalid)
	}
	var l acl
	for b = b[aclHeaderLen:]; len(b) > 0; b = b[aclEntryLen:] {
		x := aclEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		if x.tag != aclUser && x.tag != aclGroup {
			x.id = aclNoID
		}
		l = append(l, x)
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	return l, nil
}

// check reports whether the entries are there that must be, in order.
func (l acl) check() error {
	if len(l) == 0 {
		return nil
	}
	var once, named uint16
	last := uint16(0)
	for _, x := range l {
		switch x.tag {
		case aclUserObj, aclGroupObj, aclMask, aclOther:
			if once&x.tag != 0 {
				return fmt.Errorf("engine: ACL with two entries %x: %w", x.tag, errInvalid)
			}
			once |= x.tag
		case aclUser, aclGroup:
			named |= x.tag
		default:
			return fmt.Errorf("engine: ACL with an entry %x: %w", x.tag, errInvalid)
		}
		if x.tag < last || x.perm > 7 {
			return fmt.Errorf("engine: ACL out of order, or permissions %x: %w", x.perm, errInvalid)
		}
		last = x.tag
	}
	const must = aclUserObj | aclGroupObj | aclOther
	if once&must != must || named != 0 && once&aclMask == 0 {
		return fmt.Errorf("engine: ACL lacks entries: %w", errInvalid)
	}
	return nil
}

// entry returns the entry with a tag that is there once.
func (l acl) entry(tag uint16) *aclEntry {
	if i := slices.IndexFunc(l, func(x aclEntry) bool { return x.tag == tag }); i >= 0 {
		return &l[i]
	}
	return nil
}

// group returns the entry that the mode's group bits are.
func (l acl) group() *aclEntry {
	if m := l.entry(aclMask); m != nil {
		return m
	}
	return l.entry(aclGroupObj)
}

// allows reports whether c, who does not own the inode, has all of want.
func (l acl) allows(c *Cred, a *Attr, want uint32) bool {
	mask := uint32(7)
	if m := l.entry(aclMask); m != nil {
		mask = uint32(m.perm)
	}
	member := false
	for _, x := range l {
		var mine bool
		switch x.tag {
		case aclUser:
			if x.id == c.UID {
				return uint32(x.perm)&mask&want == want
			}
		case aclGroupObj:
			mine = c.inGroup(a.GID)
		case aclGroup:
			mine = c.inGroup(x.id)
		case aclOther:
			return !member && uint32(x.perm)&want == want
		}
		if mine {
			member = true
			if uint32(x.perm)&want == want {
				return mask&want == want
			}
		}
	}
	return false
}

// mode returns the permission bits that the ACL stands for, and whether they say all of it.
func (l acl) mode() (bits uint32, all bool) {
	return uint32(l.entry(aclUserObj).perm)<<6 | uint32(l.group().perm)<<3 | uint32(l.entry(aclOther).perm), len(l) == 3
}

// withMode returns the ACL after chmod(2).
func (l acl) withMode(mode uint32) acl {
	l = slices.Clone(l)
	l.entry(aclUserObj).perm = uint16(mode >> 6 & 7)
	l.group().perm = uint16(mode >> 3 & 7)
	l.entry(aclOther).perm = uint16(mode & 7)
	return l
}

// inherit gives a new inode the permissions that its directory wants for it: the default ACL's, as far as the
// mode asks for them, or without one those that umask leaves.
func (a *Attr) inherit(dir *Attr, umask uint32) {
	if a.Type == TypeSymlink {
		return
	}
	if dir.acl == nil || dir.acl.preset == nil {
		a.Mode &^= umask & 0o777
		return
	}
	preset := dir.acl.preset
	bits, all := preset.mode()
	a.Mode &= bits | ^uint32(0o777)
	got := acls{}
	if !all {
		got.access = preset.withMode(a.Mode)
	}
	if a.Type == TypeDir {
		got.preset = preset
	}
	a.setACL(got)
}

// setACL replaces both ACLs.
func (a *Attr) setACL(to acls) {
	if to.access == nil && to.preset == nil {
		a.acl = nil
		a.Flags &^= flagACL
		return
	}
	a.acl = &to
	a.Flags |= flagACL | flagXattrs
}

// lists returns the ACLs, none if there are none.
func (a *Attr) lists() acls {
	if a.acl == nil {
		return acls{}
	}
	return *a.acl
}

// aclRoom bounds what both ACLs add to a batch.
func (l acls) room() int {
	return 2*(inodeKeyLen+len(xattrDefaultACL)+opOverhead+aclHeaderLen) + (len(l.access)+len(l.preset))*aclEntryLen
}

// setACLs stores a new inode's ACLs.
func (t *txn) setACLs(ino Ino, l acls) {
	if l.access != nil {
		t.set(appendXattrKey(nil, ino, xattrAccessACL), appendACL(nil, l.access))
	}
	if l.preset != nil {
		t.set(appendXattrKey(nil, ino, xattrDefaultACL), appendACL(nil, l.preset))
	}
}

// chmod changes an ACL as set changes the mode, and returns what becomes of the ACLs. The inode's meta lock is held.
func (t *txn) chmod(n *node, set *SetAttr) acls {
	l := n.attr.Load().lists()
	if set.Mode != nil && l.access != nil {
		l.access = l.access.withMode(*set.Mode)
		t.set(appendXattrKey(nil, n.ino, xattrAccessACL), appendACL(nil, l.access))
	}
	return l
}

// loadACLs reads an inode's ACLs.
func (e *Engine) loadACLs(ino Ino) (l acls, err error) {
	for _, x := range []struct {
		name string
		to   *acl
	}{{xattrAccessACL, &l.access}, {xattrDefaultACL, &l.preset}} {
		v, err := e.read1(appendXattrKey(nil, ino, x.name))
		if errors.Is(err, errNotExist) {
			continue
		}
		if err == nil {
			*x.to, err = decodeACL(v)
			if errors.Is(err, errInvalid) {
				err = fmt.Errorf("%w: %s: %v", ErrCorrupt, x.name, err)
			}
		}
		if err != nil {
			return acls{}, err
		}
	}
	return l, nil
}
