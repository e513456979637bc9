//go:build linux

package posix

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Tags of an ACL's entries, as linux/posix_acl.h has them.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

type ace struct {
	tag, perm uint16
	id        uint32
}

// acl encodes entries as linux/posix_acl_xattr.h has them: version 2, then tag, permissions and id.
func acl(entries ...ace) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, a := range entries {
		b = binary.LittleEndian.AppendUint16(b, a.tag)
		b = binary.LittleEndian.AppendUint16(b, a.perm)
		if a.tag != aclUser && a.tag != aclGroup {
			a.id = 0xffffffff
		}
		b = binary.LittleEndian.AppendUint32(b, a.id)
	}
	return b
}

// named is an ACL with an entry for a user and one for a group.
func named(user, userPerm, group, groupPerm, mask uint16) []byte {
	return acl(ace{tag: aclUserObj, perm: 6}, ace{aclUser, userPerm, uint32(alice.uid)}, ace{tag: aclGroupObj, perm: 4},
		ace{aclGroup, groupPerm, 54330}, ace{tag: aclMask, perm: mask}, ace{tag: aclOther, perm: 0})
}

var aclRows = []row{
	{"is kept and shows in the mode", func(e *env) {
		e.file("f", "abc")
		want := named(0, 6, 0, 4, 7)
		e.ok(unix.Setxattr(e.p("f"), accessACL, want, 0))
		e.check(e.getxattr("f", accessACL) == string(want), "%x, want %x", e.getxattr("f", accessACL), want)
		e.mode("f", 0o670) // the group bits are the mask
	}},
	{"gives a named user what it says", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Chmod(e.p("f"), 0o600))
		e.as(alice, func() { e.openErr("f", unix.O_RDONLY, 0, unix.EACCES) })
		e.ok(unix.Setxattr(e.p("f"), accessACL, named(0, 6, 0, 4, 7), 0))
		e.as(alice, func() { e.open("f", unix.O_RDWR, 0) })
		e.as(bob, func() { e.openErr("f", unix.O_RDONLY, 0, unix.EACCES) })
	}},
	{"gives a named group what it says", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Setxattr(e.p("f"), accessACL, named(0, 6, 0, 4, 7), 0))
		e.as(carol, func() {
			e.open("f", unix.O_RDONLY, 0)
			e.openErr("f", unix.O_RDWR, 0, unix.EACCES)
		})
	}},
	{"the mask bounds named users and groups", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Setxattr(e.p("f"), accessACL, named(0, 6, 0, 4, 4), 0))
		e.as(alice, func() {
			e.open("f", unix.O_RDONLY, 0)
			e.openErr("f", unix.O_RDWR, 0, unix.EACCES)
		})
	}},
	{"chmod changes the mask", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Setxattr(e.p("f"), accessACL, named(0, 6, 0, 4, 7), 0))
		e.ok(unix.Chmod(e.p("f"), 0o600))
		e.as(alice, func() { e.openErr("f", unix.O_RDONLY, 0, unix.EACCES) })
		e.ok(unix.Chmod(e.p("f"), 0o660))
		e.as(alice, func() { e.open("f", unix.O_RDWR, 0) })
		e.check(e.getxattr("f", accessACL) == string(named(0, 6, 0, 4, 6)), "%x", e.getxattr("f", accessACL))
	}},
	{"search permission by a named user", func(e *env) {
		e.mkdir("d", 0o700)
		e.file("d/f", "abc")
		e.as(alice, func() { e.openErr("d/f", unix.O_RDONLY, 0, unix.EACCES) })
		e.ok(unix.Setxattr(e.p("d"), accessACL, acl(ace{tag: aclUserObj, perm: 7}, ace{aclUser, 1, uint32(alice.uid)},
			ace{tag: aclGroupObj}, ace{tag: aclMask, perm: 1}, ace{tag: aclOther}), 0))
		e.as(alice, func() { e.content("d/f", "abc") })
		e.as(bob, func() { e.openErr("d/f", unix.O_RDONLY, 0, unix.EACCES) })
		e.ok(unix.Removexattr(e.p("d"), accessACL))
		e.as(alice, func() { e.openErr("d/f", unix.O_RDONLY, 0, unix.EACCES) })
	}},
	{"one that is only a mode is no ACL", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Setxattr(e.p("f"), accessACL, acl(ace{tag: aclUserObj, perm: 7}, ace{tag: aclGroupObj, perm: 5}, ace{tag: aclOther, perm: 1}), 0))
		e.mode("f", 0o751)
		_, err := unix.Getxattr(e.p("f"), accessACL, make([]byte, 100))
		e.want(err, unix.ENODATA)
	}},
	{"a broken one is EINVAL", func(e *env) {
		e.file("f", "abc")
		e.want(unix.Setxattr(e.p("f"), accessACL, []byte("nonsense"), 0), unix.EINVAL, unix.EOPNOTSUPP)
		e.want(unix.Setxattr(e.p("f"), accessACL, acl(ace{tag: aclUserObj, perm: 7}), 0), unix.EINVAL)
	}},
	{"setting is for the owner", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Chmod(e.p("f"), 0o666))
		e.as(alice, func() { e.want(unix.Setxattr(e.p("f"), accessACL, named(0, 6, 0, 4, 7), 0), unix.EPERM) })
	}},
	{"a default ACL is inherited by files, instead of the umask", func(e *env) {
		e.mkdir("d", 0o777)
		def := acl(ace{tag: aclUserObj, perm: 7}, ace{aclUser, 6, uint32(alice.uid)}, ace{tag: aclGroupObj, perm: 5},
			ace{tag: aclMask, perm: 7}, ace{tag: aclOther, perm: 0})
		e.ok(unix.Setxattr(e.p("d"), defaultACL, def, 0))
		e.withUmask(0o077, func() { e.open("d/f", unix.O_CREAT|unix.O_WRONLY, 0o666) })
		e.mode("d/f", 0o660)
		e.as(alice, func() { e.open("d/f", unix.O_RDWR, 0) })
		e.as(bob, func() { e.openErr("d/f", unix.O_RDONLY, 0, unix.EACCES) })
		_, err := unix.Getxattr(e.p("d/f"), defaultACL, make([]byte, 100))
		e.want(err, unix.ENODATA)
	}},
	{"a default ACL is inherited by directories, as theirs too", func(e *env) {
		e.mkdir("d", 0o777)
		def := acl(ace{tag: aclUserObj, perm: 7}, ace{aclUser, 5, uint32(alice.uid)}, ace{tag: aclGroupObj, perm: 5},
			ace{tag: aclMask, perm: 5}, ace{tag: aclOther, perm: 0})
		e.ok(unix.Setxattr(e.p("d"), defaultACL, def, 0))
		e.ok(unix.Mkdir(e.p("d/s"), 0o777))
		e.check(e.getxattr("d/s", defaultACL) == string(def), "%x", e.getxattr("d/s", defaultACL))
		e.mode("d/s", 0o750)
		e.ok(unix.Mkdir(e.p("d/s/t"), 0o777))
		e.as(alice, func() { e.check(len(e.getdents("d/s/t")) == 2, "listing") })
	}},
	{"a default ACL on a file is EACCES", func(e *env) {
		e.file("f", "")
		e.want(unix.Setxattr(e.p("f"), defaultACL, acl(ace{tag: aclUserObj, perm: 7}, ace{tag: aclGroupObj, perm: 5}, ace{tag: aclOther, perm: 0}), 0), unix.EACCES)
	}},
	{"without a default ACL the umask counts", func(e *env) {
		e.mkdir("d", 0o777)
		e.withUmask(0o027, func() { e.open("d/f", unix.O_CREAT|unix.O_WRONLY, 0o666) })
		e.mode("d/f", 0o640)
	}},
}
