//go:build linux

package posix

import (
	"golang.org/x/sys/unix"
)

var chmodRows = []row{
	{"changes the bits", func(e *env) {
		e.file("f", "")
		for _, m := range []uint32{0, 0o777, 0o4755, 0o2755, 0o1777, 0o7777, 0o644} {
			e.ok(unix.Chmod(e.p("f"), m))
			e.mode("f", m)
		}
		fd := e.open("f", unix.O_RDONLY, 0)
		e.ok(unix.Fchmod(fd, 0o600))
		e.mode("f", 0o600)
	}},
	{"by another user is EPERM", func(e *env) {
		e.file("f", "")
		e.as(alice, func() { e.want(unix.Chmod(e.p("f"), 0o777), unix.EPERM) })
		e.mode("f", 0o644)
	}},
	{"by the owner", func(e *env) {
		e.file("f", "")
		e.own("f", alice)
		e.as(alice, func() { e.ok(unix.Chmod(e.p("f"), 0o4711)) })
		e.mode("f", 0o4711)
	}},
	{"by the owner outside the file's group drops setgid", func(e *env) {
		e.file("f", "")
		e.ok(unix.Chown(e.p("f"), alice.uid, 54330))
		e.as(alice, func() { e.ok(unix.Chmod(e.p("f"), 0o2755)) })
		e.mode("f", 0o755)
	}},
	{"by the owner in the file's group by a supplementary one keeps setgid", func(e *env) {
		e.file("f", "")
		e.ok(unix.Chown(e.p("f"), carol.uid, 54330))
		e.as(carol, func() { e.ok(unix.Chmod(e.p("f"), 0o2755)) })
		e.mode("f", 0o2755)
	}},
	{"missing is ENOENT", func(e *env) { e.want(unix.Chmod(e.p("f"), 0), unix.ENOENT) }},
	{"through a symlink changes the target", func(e *env) {
		e.file("f", "")
		e.ok(unix.Symlink("f", e.p("l")))
		e.ok(unix.Chmod(e.p("l"), 0o600))
		e.mode("f", 0o600)
	}},
	{"a write by a user clears setuid and setgid", func(e *env) {
		e.file("f", "x")
		e.own("f", alice)
		e.ok(unix.Chmod(e.p("f"), 0o6777))
		e.as(bob, func() { e.write(e.open("f", unix.O_WRONLY, 0), "y") })
		e.mode("f", 0o777)
	}},
	{"a write by a member of the group keeps setgid where the group may not execute", func(e *env) {
		e.file("f", "x")
		e.ok(unix.Chown(e.p("f"), 0, 54330))
		e.ok(unix.Chmod(e.p("f"), 0o2766))
		e.as(carol, func() { e.write(e.open("f", unix.O_WRONLY, 0), "y") })
		e.mode("f", 0o2766)
	}},
	{"a write by root keeps them", func(e *env) {
		e.file("f", "x")
		e.ok(unix.Chmod(e.p("f"), 0o6777))
		e.write(e.open("f", unix.O_WRONLY, 0), "y")
		e.mode("f", 0o6777)
	}},
	{"truncate by a user clears setuid and setgid", func(e *env) {
		e.file("f", "abc")
		e.own("f", alice)
		e.ok(unix.Chmod(e.p("f"), 0o6777))
		e.as(bob, func() { e.ok(unix.Truncate(e.p("f"), 1)) })
		e.mode("f", 0o777)
	}},
	{"O_TRUNC by a user clears setuid and setgid", func(e *env) {
		e.file("f", "abc")
		e.own("f", alice)
		e.ok(unix.Chmod(e.p("f"), 0o6777))
		e.as(bob, func() { e.open("f", unix.O_WRONLY|unix.O_TRUNC, 0) })
		e.mode("f", 0o777)
	}},
	{"a file in a setgid directory gets its group, not its setgid", func(e *env) {
		e.mkdir("d", 0o777)
		e.ok(unix.Chown(e.p("d"), 0, 54330))
		e.ok(unix.Chmod(e.p("d"), 0o2777))
		e.as(alice, func() { e.open("d/f", unix.O_CREAT|unix.O_WRONLY, 0o2755) })
		st := e.stat("d/f")
		e.check(st.Gid == 54330 && st.Mode&0o7777 == 0o755, "group %d, mode %04o", st.Gid, st.Mode&0o7777)
		e.as(user{uid: alice.uid, gid: alice.gid, groups: []int{54330}}, func() { e.open("d/g", unix.O_CREAT|unix.O_WRONLY, 0o2755) })
		e.mode("d/g", 0o2755)
	}},
}

var chownRows = []row{
	{"by root", func(e *env) {
		e.file("f", "")
		e.ok(unix.Chown(e.p("f"), 10, 20))
		e.ok(unix.Chown(e.p("f"), -1, 30))
		e.ok(unix.Chown(e.p("f"), 11, -1))
		st := e.stat("f")
		e.check(st.Uid == 11 && st.Gid == 30, "%d:%d", st.Uid, st.Gid)
	}},
	{"of the user by its owner is EPERM", func(e *env) {
		e.file("f", "")
		e.own("f", alice)
		e.as(alice, func() { e.want(unix.Chown(e.p("f"), bob.uid, -1), unix.EPERM) })
	}},
	{"to oneself by the owner is allowed", func(e *env) {
		e.file("f", "")
		e.own("f", alice)
		e.as(alice, func() { e.ok(unix.Chown(e.p("f"), alice.uid, alice.gid)) })
	}},
	{"of the group by its owner, to a group of theirs", func(e *env) {
		e.file("f", "")
		e.own("f", carol)
		e.as(carol, func() {
			e.ok(unix.Chown(e.p("f"), -1, 54330))
			e.want(unix.Chown(e.p("f"), -1, bob.gid), unix.EPERM)
		})
		e.check(e.stat("f").Gid == 54330, "group %d", e.stat("f").Gid)
	}},
	{"by another user is EPERM", func(e *env) {
		e.file("f", "")
		e.own("f", alice)
		e.as(bob, func() { e.want(unix.Chown(e.p("f"), -1, bob.gid), unix.EPERM) })
	}},
	{"by root clears setuid and setgid of an executable file", func(e *env) {
		e.file("f", "")
		e.ok(unix.Chmod(e.p("f"), 0o6755))
		e.ok(unix.Chown(e.p("f"), 10, 20))
		e.mode("f", 0o755)
	}},
	{"by the owner clears setuid and setgid", func(e *env) {
		e.file("f", "")
		e.own("f", carol)
		e.ok(unix.Chmod(e.p("f"), 0o6755))
		e.as(carol, func() { e.ok(unix.Chown(e.p("f"), -1, 54330)) })
		e.mode("f", 0o755)
	}},
	{"of a directory keeps setgid", func(e *env) {
		e.mkdir("d", 0o2755)
		e.ok(unix.Chown(e.p("d"), 10, 20))
		e.mode("d", 0o2755)
	}},
	{"keeps setgid where the group may not execute", func(e *env) {
		e.file("f", "")
		e.ok(unix.Chmod(e.p("f"), 0o2744))
		e.ok(unix.Chown(e.p("f"), 10, 20))
		e.mode("f", 0o2744)
	}},
	{"missing is ENOENT", func(e *env) { e.want(unix.Chown(e.p("f"), 1, 1), unix.ENOENT) }},
	{"large ids", func(e *env) {
		e.file("f", "")
		e.ok(unix.Chown(e.p("f"), 4_000_000_000, 4_100_000_000))
		st := e.stat("f")
		e.check(st.Uid == 4_000_000_000 && st.Gid == 4_100_000_000, "%d:%d", st.Uid, st.Gid)
	}},
}

var permissionRows = []row{
	{"owner, group and others are told apart, and the first that fits decides", func(e *env) {
		e.file("f", "abc")
		e.own("f", alice)
		try := func(u user, mode uint32, flags int, allowed bool) {
			e.ok(unix.Chmod(e.p("f"), mode))
			e.as(u, func() {
				if allowed {
					e.open("f", flags, 0)
				} else {
					e.openErr("f", flags, 0, unix.EACCES)
				}
			})
		}
		inGroup := user{uid: bob.uid, gid: alice.gid}
		for _, c := range []struct {
			u       user
			mode    uint32
			flags   int
			allowed bool
		}{
			{alice, 0o400, unix.O_RDONLY, true}, {alice, 0o400, unix.O_WRONLY, false}, {alice, 0o077, unix.O_RDONLY, false},
			{inGroup, 0o040, unix.O_RDONLY, true}, {inGroup, 0o707, unix.O_RDONLY, false}, {inGroup, 0o020, unix.O_WRONLY, true},
			{carol, 0o040, unix.O_RDONLY, true}, {carol, 0o707, unix.O_RDONLY, false},
			{bob, 0o004, unix.O_RDONLY, true}, {bob, 0o770, unix.O_RDONLY, false}, {bob, 0o006, unix.O_RDWR, true}, {bob, 0o004, unix.O_RDWR, false},
		} {
			try(c.u, c.mode, c.flags, c.allowed)
		}
	}},
	{"root passes all but execution without any x", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Chmod(e.p("f"), 0))
		e.open("f", unix.O_RDWR, 0)
		e.want(unix.Access(e.p("f"), unix.X_OK), unix.EACCES)
		e.ok(unix.Chmod(e.p("f"), 0o010))
		e.ok(unix.Access(e.p("f"), unix.X_OK))
	}},
	{"a path needs search permission on each directory, also one that was walked before", func(e *env) {
		e.mkdir("d", 0o711)
		e.file("d/f", "abc")
		e.content("d/f", "abc")
		e.as(alice, func() { e.content("d/f", "abc") })
		e.ok(unix.Chmod(e.p("d"), 0o700))
		e.as(alice, func() {
			e.openErr("d/f", unix.O_RDONLY, 0, unix.EACCES)
			var st unix.Stat_t
			e.want(unix.Stat(e.p("d/f"), &st), unix.EACCES)
			e.want(unix.Stat(e.p("d/none"), &st), unix.EACCES)
		})
		e.ok(unix.Chmod(e.p("d"), 0o701))
		e.as(alice, func() { e.content("d/f", "abc") })
	}},
	{"search by a supplementary group", func(e *env) {
		e.mkdir("d", 0o710)
		e.ok(unix.Chown(e.p("d"), 0, 54330))
		e.file("d/f", "abc")
		e.as(carol, func() { e.content("d/f", "abc") })
		e.as(alice, func() { e.openErr("d/f", unix.O_RDONLY, 0, unix.EACCES) })
	}},
	{"the same user with other groups", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Chown(e.p("f"), 0, 54330))
		e.ok(unix.Chmod(e.p("f"), 0o640))
		with := user{uid: alice.uid, gid: alice.gid, groups: []int{54330}}
		for range 3 {
			e.as(with, func() { e.content("f", "abc") })
			e.as(alice, func() { e.openErr("f", unix.O_RDONLY, 0, unix.EACCES) })
		}
	}},
	{"access asks for the real user", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Chmod(e.p("f"), 0o640))
		e.ok(unix.Access(e.p("f"), unix.R_OK|unix.W_OK))
		e.as(alice, func() {
			e.want(unix.Access(e.p("f"), unix.R_OK), unix.EACCES)
			e.ok(unix.Access(e.p("f"), unix.F_OK))
		})
	}},
	{"an open descriptor keeps what it was opened for", func(e *env) {
		e.file("f", "abc")
		e.own("f", alice)
		e.as(alice, func() {
			fd := e.open("f", unix.O_RDWR, 0)
			e.ok(unix.Chmod(e.p("f"), 0))
			e.check(e.pread(fd, 3, 0) == "abc", "read")
			e.write(fd, "xyz")
		})
	}},
	{"creating needs write and search permission", func(e *env) {
		for _, m := range []uint32{0o555, 0o666, 0o444, 0} {
			e.mkdir("d", m)
			e.as(alice, func() { e.openErr("d/f", unix.O_CREAT|unix.O_WRONLY, 0o644, unix.EACCES) })
			e.ok(unix.Rmdir(e.p("d")))
		}
		e.mkdir("d", 0o333)
		e.as(alice, func() { e.open("d/f", unix.O_CREAT|unix.O_WRONLY, 0o644) })
	}},
	{"a directory of another user, readable but not searchable", func(e *env) {
		e.mkdir("d", 0o744)
		e.file("d/f", "abc")
		e.as(alice, func() {
			var st unix.Stat_t
			e.want(unix.Stat(e.p("d/f"), &st), unix.EACCES)
			e.check(len(e.getdents("d")) == 3, "listing")
		})
	}},
}
