//go:build linux

package posix

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var unlinkRows = []row{
	{"removes the name", func(e *env) {
		e.file("f", "")
		e.ok(unix.Unlink(e.p("f")))
		e.gone("f")
	}},
	{"missing is ENOENT", func(e *env) { e.want(unix.Unlink(e.p("f")), unix.ENOENT) }},
	{"a directory is EISDIR", func(e *env) {
		e.mkdir("d", 0o755)
		e.want(unix.Unlink(e.p("d")), unix.EISDIR)
	}},
	{"a symlink goes, its target stays", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Symlink("f", e.p("l")))
		e.ok(unix.Unlink(e.p("l")))
		e.gone("l")
		e.content("f", "abc")
	}},
	{"an open file lives on without a name", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.write(fd, "before")
		e.ok(unix.Unlink(e.p("f")))
		e.gone("f")
		e.write(fd, " after")
		e.check(e.pread(fd, 20, 0) == "before after", "%q", e.pread(fd, 20, 0))
		st := e.fstat(fd)
		e.check(st.Nlink == 0 && st.Size == 12, "links %d, size %d", st.Nlink, st.Size)
		e.ok(unix.Ftruncate(fd, 3))
		e.ok(unix.Fchmod(fd, 0o600))
		e.ok(unix.Fsync(fd))
		e.check(e.fstat(fd).Size == 3 && e.fstat(fd).Mode&0o777 == 0o600, "after truncate and chmod")
	}},
	{"the name of an open file can be made again", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.write(fd, "old")
		e.ok(unix.Unlink(e.p("f")))
		e.file("f", "new file")
		e.check(e.pread(fd, 20, 0) == "old", "%q", e.pread(fd, 20, 0))
		e.content("f", "new file")
		e.check(e.fstat(fd).Ino != e.stat("f").Ino, "same inode")
	}},
	{"without write permission on the directory is EACCES", func(e *env) {
		e.mkdir("d", 0o755)
		e.file("d/f", "")
		e.own("d/f", alice)
		e.as(alice, func() { e.want(unix.Unlink(e.p("d/f")), unix.EACCES) })
	}},
	{"needs no permission on the file", func(e *env) {
		e.mkdir("d", 0o777)
		e.file("d/f", "")
		e.ok(unix.Chmod(e.p("d/f"), 0))
		e.as(alice, func() { e.ok(unix.Unlink(e.p("d/f"))) })
	}},
	{"in a sticky directory is for the owners", func(e *env) {
		e.mkdir("d", 0o1777)
		e.own("d", alice)
		e.file("d/a", "")
		e.own("d/a", bob)
		e.file("d/b", "")
		e.own("d/b", bob)
		e.as(carol, func() { e.want(unix.Unlink(e.p("d/a")), unix.EPERM) })
		e.as(bob, func() { e.ok(unix.Unlink(e.p("d/a"))) })   // the file's owner
		e.as(alice, func() { e.ok(unix.Unlink(e.p("d/b"))) }) // the directory's owner
	}},
	{"a trailing slash is ENOTDIR", func(e *env) {
		e.file("f", "")
		e.want(unix.Unlink(e.p("f/")), unix.ENOTDIR)
	}},
}

var linkRows = []row{
	{"one inode, two names", func(e *env) {
		e.file("a", "abc")
		e.ok(unix.Link(e.p("a"), e.p("b")))
		e.nlink("a", 2)
		e.check(e.stat("a").Ino == e.stat("b").Ino, "two inodes")
		e.ok(os.WriteFile(e.p("b"), []byte("changed"), 0))
		e.content("a", "changed")
		e.ok(unix.Unlink(e.p("a")))
		e.nlink("b", 1)
	}},
	{"an existing name is EEXIST", func(e *env) {
		e.file("a", "")
		e.file("b", "")
		e.want(unix.Link(e.p("a"), e.p("b")), unix.EEXIST)
		e.want(unix.Link(e.p("a"), e.p("a")), unix.EEXIST)
	}},
	{"missing is ENOENT", func(e *env) { e.want(unix.Link(e.p("a"), e.p("b")), unix.ENOENT) }},
	{"of a directory is EPERM", func(e *env) {
		e.mkdir("d", 0o755)
		e.want(unix.Link(e.p("d"), e.p("b")), unix.EPERM)
	}},
	{"of a symlink names the link itself", func(e *env) {
		e.file("f", "")
		e.ok(unix.Symlink("f", e.p("l")))
		e.ok(unix.Link(e.p("l"), e.p("m")))
		e.check(e.stat("m").Mode&unix.S_IFMT == unix.S_IFLNK, "no link")
		e.nlink("l", 2)
	}},
	{"AT_SYMLINK_FOLLOW names the target", func(e *env) {
		e.file("f", "")
		e.ok(unix.Symlink("f", e.p("l")))
		e.ok(unix.Linkat(unix.AT_FDCWD, e.p("l"), unix.AT_FDCWD, e.p("m"), unix.AT_SYMLINK_FOLLOW))
		e.nlink("f", 2)
	}},
	{"of a FIFO", func(e *env) {
		e.ok(unix.Mkfifo(e.p("p"), 0o644))
		e.ok(unix.Link(e.p("p"), e.p("q")))
		e.nlink("q", 2)
	}},
	{"without write permission on the directory is EACCES", func(e *env) {
		e.mkdir("d", 0o755)
		e.mkdir("o", 0o777)
		e.file("o/f", "")
		e.own("o/f", alice)
		e.as(alice, func() { e.want(unix.Link(e.p("o/f"), e.p("d/f")), unix.EACCES) })
	}},
	{"a hundred names", func(e *env) {
		e.file("f", "")
		for i := range 99 {
			e.ok(unix.Link(e.p("f"), e.p(fmt.Sprintf("n%d", i))))
		}
		e.nlink("f", 100)
		for i := range 99 {
			e.ok(unix.Unlink(e.p(fmt.Sprintf("n%d", i))))
		}
		e.nlink("f", 1)
	}},
	{"names of an unlinked inode go with it", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.ok(unix.Link(e.p("f"), e.p("g")))
		e.ok(unix.Unlink(e.p("f")))
		e.check(e.fstat(fd).Nlink == 1, "links %d", e.fstat(fd).Nlink)
		e.ok(unix.Unlink(e.p("g")))
		e.check(e.fstat(fd).Nlink == 0, "links %d", e.fstat(fd).Nlink)
	}},
}

var renameRows = []row{
	{"a file to a new name", func(e *env) {
		e.file("a", "abc")
		ino := e.stat("a").Ino
		e.ok(unix.Rename(e.p("a"), e.p("b")))
		e.gone("a")
		e.content("b", "abc")
		e.check(e.stat("b").Ino == ino, "another inode")
	}},
	{"over a file replaces it", func(e *env) {
		e.file("a", "abc")
		e.file("b", "old")
		e.ok(unix.Rename(e.p("a"), e.p("b")))
		e.gone("a")
		e.content("b", "abc")
		e.nlink("b", 1)
	}},
	{"over an open file leaves that one to its descriptor", func(e *env) {
		e.file("a", "abc")
		e.file("b", "old")
		fd := e.open("b", unix.O_RDWR, 0)
		e.ok(unix.Rename(e.p("a"), e.p("b")))
		e.check(e.pread(fd, 10, 0) == "old", "%q", e.pread(fd, 10, 0))
		e.check(e.fstat(fd).Nlink == 0, "links %d", e.fstat(fd).Nlink)
	}},
	{"to itself does nothing", func(e *env) {
		e.file("a", "abc")
		e.ok(unix.Rename(e.p("a"), e.p("a")))
		e.content("a", "abc")
	}},
	{"between two names of one inode does nothing", func(e *env) {
		e.file("a", "abc")
		e.ok(unix.Link(e.p("a"), e.p("b")))
		e.ok(unix.Rename(e.p("a"), e.p("b")))
		e.nlink("a", 2)
		e.nlink("b", 2)
	}},
	{"missing is ENOENT", func(e *env) { e.want(unix.Rename(e.p("a"), e.p("b")), unix.ENOENT) }},
	{"a directory to a new name", func(e *env) {
		e.mkdir("d", 0o755)
		e.file("d/f", "abc")
		e.ok(unix.Rename(e.p("d"), e.p("e")))
		e.content("e/f", "abc")
		e.gone("d")
	}},
	{"a directory into another moves the links of both", func(e *env) {
		e.mkdir("a", 0o755)
		e.mkdir("b", 0o755)
		e.mkdir("a/d", 0o755)
		e.nlink("a", 3)
		e.nlink("b", 2)
		e.ok(unix.Rename(e.p("a/d"), e.p("b/d")))
		e.nlink("a", 2)
		e.nlink("b", 3)
		var up, b unix.Stat_t
		e.ok(unix.Stat(e.p("b/d/.."), &up))
		e.ok(unix.Stat(e.p("b"), &b))
		e.check(up.Ino == b.Ino, ".. is not the new parent")
	}},
	{"a directory over an empty one replaces it", func(e *env) {
		e.mkdir("a", 0o755)
		e.file("a/f", "x")
		e.mkdir("b", 0o755)
		e.ok(unix.Rename(e.p("a"), e.p("b")))
		e.content("b/f", "x")
		e.gone("a")
	}},
	{"a directory over one with entries is ENOTEMPTY", func(e *env) {
		e.mkdir("a", 0o755)
		e.mkdir("b", 0o755)
		e.file("b/f", "")
		e.want(unix.Rename(e.p("a"), e.p("b")), unix.ENOTEMPTY, unix.EEXIST)
	}},
	{"a directory over a file is ENOTDIR", func(e *env) {
		e.mkdir("a", 0o755)
		e.file("b", "")
		e.want(unix.Rename(e.p("a"), e.p("b")), unix.ENOTDIR)
	}},
	{"a file over a directory is EISDIR", func(e *env) {
		e.file("a", "")
		e.mkdir("b", 0o755)
		e.want(unix.Rename(e.p("a"), e.p("b")), unix.EISDIR)
	}},
	{"a directory below itself is EINVAL", func(e *env) {
		e.mkdir("a", 0o755)
		e.mkdir("a/b", 0o755)
		e.want(unix.Rename(e.p("a"), e.p("a/b/c")), unix.EINVAL)
		e.want(unix.Rename(e.p("a"), e.p("a/c")), unix.EINVAL)
	}},
	{"over an ancestor is ENOTEMPTY", func(e *env) {
		e.mkdir("a", 0o755)
		e.mkdir("a/b", 0o755)
		e.want(unix.Rename(e.p("a/b"), e.p("a")), unix.ENOTEMPTY, unix.EEXIST)
	}},
	{"a symlink itself", func(e *env) {
		e.ok(unix.Symlink("nowhere", e.p("l")))
		e.ok(unix.Rename(e.p("l"), e.p("m")))
		e.check(e.stat("m").Mode&unix.S_IFMT == unix.S_IFLNK, "no link")
	}},
	{"NOREPLACE on an existing name is EEXIST", func(e *env) {
		e.file("a", "abc")
		e.file("b", "old")
		e.want(unix.Renameat2(unix.AT_FDCWD, e.p("a"), unix.AT_FDCWD, e.p("b"), unix.RENAME_NOREPLACE), unix.EEXIST)
		e.content("b", "old")
		e.ok(unix.Renameat2(unix.AT_FDCWD, e.p("a"), unix.AT_FDCWD, e.p("c"), unix.RENAME_NOREPLACE))
		e.content("c", "abc")
	}},
	{"EXCHANGE of two files", func(e *env) {
		e.file("a", "one")
		e.file("b", "two")
		e.ok(unix.Renameat2(unix.AT_FDCWD, e.p("a"), unix.AT_FDCWD, e.p("b"), unix.RENAME_EXCHANGE))
		e.content("a", "two")
		e.content("b", "one")
	}},
	{"EXCHANGE of a file and a directory moves the links", func(e *env) {
		e.mkdir("x", 0o755)
		e.mkdir("y", 0o755)
		e.mkdir("x/d", 0o755)
		e.file("x/d/in", "dir")
		e.file("y/f", "file")
		e.ok(unix.Renameat2(unix.AT_FDCWD, e.p("x/d"), unix.AT_FDCWD, e.p("y/f"), unix.RENAME_EXCHANGE))
		e.content("x/d", "file")
		e.content("y/f/in", "dir")
		e.nlink("x", 2)
		e.nlink("y", 3)
	}},
	{"EXCHANGE with a missing name is ENOENT", func(e *env) {
		e.file("a", "one")
		e.want(unix.Renameat2(unix.AT_FDCWD, e.p("a"), unix.AT_FDCWD, e.p("b"), unix.RENAME_EXCHANGE), unix.ENOENT)
	}},
	{"EXCHANGE and NOREPLACE together are EINVAL", func(e *env) {
		e.file("a", "one")
		e.file("b", "two")
		e.want(unix.Renameat2(unix.AT_FDCWD, e.p("a"), unix.AT_FDCWD, e.p("b"), unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE), unix.EINVAL)
	}},
	{"EXCHANGE of a directory with one below it is EINVAL", func(e *env) {
		e.mkdir("a", 0o755)
		e.mkdir("a/b", 0o755)
		e.want(unix.Renameat2(unix.AT_FDCWD, e.p("a"), unix.AT_FDCWD, e.p("a/b"), unix.RENAME_EXCHANGE), unix.EINVAL)
	}},
	{"without write permission on either directory is EACCES", func(e *env) {
		e.mkdir("ro", 0o755)
		e.mkdir("rw", 0o777)
		e.file("ro/f", "")
		e.file("rw/f", "")
		e.as(alice, func() {
			e.want(unix.Rename(e.p("ro/f"), e.p("rw/g")), unix.EACCES)
			e.want(unix.Rename(e.p("rw/f"), e.p("ro/g")), unix.EACCES)
		})
	}},
	{"out of a sticky directory is for the owners", func(e *env) {
		e.mkdir("d", 0o1777)
		e.mkdir("to", 0o777)
		e.file("d/f", "")
		e.own("d/f", bob)
		e.as(alice, func() { e.want(unix.Rename(e.p("d/f"), e.p("to/f")), unix.EPERM) })
		e.as(bob, func() { e.ok(unix.Rename(e.p("d/f"), e.p("to/f"))) })
	}},
	{"over another's file in a sticky directory is EPERM", func(e *env) {
		e.mkdir("d", 0o1777)
		e.file("d/f", "")
		e.own("d/f", bob)
		e.mkdir("from", 0o777)
		e.file("from/g", "")
		e.own("from/g", alice)
		e.as(alice, func() { e.want(unix.Rename(e.p("from/g"), e.p("d/f")), unix.EPERM) })
	}},
	{"a directory without write permission on it into another parent is EACCES", func(e *env) {
		e.mkdir("a", 0o777)
		e.mkdir("b", 0o777)
		e.mkdir("a/d", 0o755)
		e.as(alice, func() { e.want(unix.Rename(e.p("a/d"), e.p("b/d")), unix.EACCES) })
	}},
	{"\".\" and \"..\" are EBUSY or EINVAL", func(e *env) {
		e.mkdir("d", 0o755)
		e.want(unix.Rename(e.p("d/."), e.p("x")), unix.EBUSY, unix.EINVAL)
		e.want(unix.Rename(e.p("d/.."), e.p("x")), unix.EBUSY, unix.EINVAL, unix.ENOTEMPTY)
	}},
	{"readers always find one of two names that are exchanged", func(e *env) {
		e.file("a", "one")
		e.file("b", "two")
		stop := make(chan struct{})
		errs := make(chan error, 1)
		go func() {
			defer close(errs)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := unix.Renameat2(unix.AT_FDCWD, e.p("a"), unix.AT_FDCWD, e.p("b"), unix.RENAME_EXCHANGE); err != nil {
					errs <- err
					return
				}
			}
		}()
		for range 300 {
			if _, err := os.ReadFile(e.p("a")); err != nil {
				close(stop)
				e.fail("%v", err)
			}
		}
		close(stop)
		e.ok(<-errs)
	}},
}
