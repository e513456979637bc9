//go:build linux

package posix

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

var symlinkRows = []row{
	{"reads back", func(e *env) {
		e.ok(unix.Symlink("some/where", e.p("l")))
		e.check(e.readlink("l") == "some/where", "%q", e.readlink("l"))
		st := e.stat("l")
		e.check(st.Size == 10 && st.Mode&unix.S_IFMT == unix.S_IFLNK && st.Mode&0o777 == 0o777, "size %d, mode %o", st.Size, st.Mode)
	}},
	{"an existing name is EEXIST", func(e *env) {
		e.file("f", "")
		e.want(unix.Symlink("x", e.p("f")), unix.EEXIST)
	}},
	{"targets to 4095 bytes", func(e *env) {
		target := strings.Repeat("a/", 2047) + "b"
		e.ok(unix.Symlink(target, e.p("l")))
		e.check(e.readlink("l") == target, "other target")
		e.want(unix.Symlink(target+"c", e.p("m")), unix.ENAMETOOLONG)
	}},
	{"an empty target is ENOENT", func(e *env) { e.want(unix.Symlink("", e.p("l")), unix.ENOENT) }},
	{"readlink of a file is EINVAL", func(e *env) {
		e.file("f", "")
		_, err := unix.Readlink(e.p("f"), make([]byte, 10))
		e.want(err, unix.EINVAL)
	}},
	{"a loop is ELOOP", func(e *env) {
		e.ok(unix.Symlink("b", e.p("a")))
		e.ok(unix.Symlink("a", e.p("b")))
		e.openErr("a", unix.O_RDONLY, 0, unix.ELOOP)
		var st unix.Stat_t
		e.want(unix.Stat(e.p("a/x"), &st), unix.ELOOP)
		e.want(unix.Chmod(e.p("a"), 0o644), unix.ELOOP)
	}},
	{"forty in a row are followed, more are ELOOP", func(e *env) {
		e.file("l0", "abc")
		for i := range 41 {
			e.ok(unix.Symlink(fmt.Sprintf("l%d", i), e.p(fmt.Sprintf("l%d", i+1))))
		}
		e.content("l40", "abc")
		e.openErr("l41", unix.O_RDONLY, 0, unix.ELOOP)
	}},
	{"in the middle of a path", func(e *env) {
		e.mkdir("d", 0o755)
		e.file("d/f", "abc")
		e.ok(unix.Symlink("d", e.p("l")))
		e.content("l/f", "abc")
		e.ok(unix.Mkdir(e.p("l/new"), 0o755))
		e.nlink("d", 3)
	}},
	{"to an absolute path", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Symlink(e.p("f"), e.p("l")))
		e.content("l", "abc")
	}},
	{"belongs to the caller", func(e *env) {
		e.mkdir("d", 0o777)
		e.as(alice, func() { e.ok(unix.Symlink("x", e.p("d/l"))) })
		e.check(int(e.stat("d/l").Uid) == alice.uid, "uid %d", e.stat("d/l").Uid)
	}},
	{"lchown changes the link, chown the target", func(e *env) {
		e.file("f", "")
		e.ok(unix.Symlink("f", e.p("l")))
		e.ok(unix.Lchown(e.p("l"), 1, 2))
		e.ok(unix.Chown(e.p("l"), 3, 4))
		l, f := e.stat("l"), e.stat("f")
		e.check(l.Uid == 1 && l.Gid == 2 && f.Uid == 3 && f.Gid == 4, "link %d:%d, file %d:%d", l.Uid, l.Gid, f.Uid, f.Gid)
	}},
}

func (e *env) readlink(name string) string {
	p := make([]byte, 5000)
	n, err := unix.Readlink(e.p(name), p)
	e.ok(err)
	return string(p[:n])
}

var nameRows = []row{
	{"255 bytes are a name, 256 ENAMETOOLONG", func(e *env) {
		e.file(long(255), "abc")
		e.content(long(255), "abc")
		e.check(len(e.names(".")) == 1 && e.names(".")[0] == long(255), "listing")
		e.openErr(long(256), unix.O_CREAT|unix.O_RDWR, 0o644, unix.ENAMETOOLONG)
		e.openErr(long(256), unix.O_RDONLY, 0, unix.ENAMETOOLONG)
		e.want(unix.Mkdir(e.p(long(256)), 0o755), unix.ENAMETOOLONG)
		e.want(unix.Symlink("x", e.p(long(256))), unix.ENAMETOOLONG)
		e.want(unix.Mkfifo(e.p(long(256)), 0o644), unix.ENAMETOOLONG)
		e.want(unix.Link(e.p(long(255)), e.p(long(256))), unix.ENAMETOOLONG)
		e.want(unix.Rename(e.p(long(255)), e.p(long(256))), unix.ENAMETOOLONG)
		e.want(unix.Unlink(e.p(long(256))), unix.ENAMETOOLONG)
		e.want(unix.Rmdir(e.p(long(256))), unix.ENAMETOOLONG)
	}},
	{"any byte but slash and NUL", func(e *env) {
		var all []byte
		for b := 1; b < 256; b++ {
			if b != '/' {
				all = append(all, byte(b))
			}
		}
		a, b := string(all[:127]), string(all[127:])
		e.file(a, "one")
		e.file(b, "two")
		e.content(a, "one")
		e.content(b, "two")
		e.check(len(e.names(".")) == 2, "listing")
	}},
	{"upper and lower case are different", func(e *env) {
		e.file("name", "lower")
		e.file("NAME", "upper")
		e.content("name", "lower")
		e.content("NAME", "upper")
	}},
	{"a path of more than 4095 bytes is ENAMETOOLONG", func(e *env) {
		e.openErr(strings.Repeat("./", 2100)+"f", unix.O_RDONLY, 0, unix.ENAMETOOLONG)
	}},
	{"deep directories", func(e *env) {
		path := "d"
		for range 100 {
			e.mkdir(path, 0o755)
			path += "/d"
		}
		e.file(path, "deep")
		e.content(path, "deep")
	}},
	{"statfs tells the longest name", func(e *env) {
		var st unix.Statfs_t
		e.ok(unix.Statfs(e.dir, &st))
		e.check(st.Namelen == 255, "%d", st.Namelen)
		e.check(st.Blocks >= st.Bfree && st.Bfree >= st.Bavail && st.Bsize > 0, "%+v", st)
	}},
}

var mknodRows = []row{
	{"a FIFO carries bytes", func(e *env) {
		e.ok(unix.Mkfifo(e.p("p"), 0o640))
		e.check(e.stat("p").Mode == unix.S_IFIFO|0o640, "mode %o", e.stat("p").Mode)
		fd := e.open("p", unix.O_RDWR, 0)
		e.write(fd, "through")
		p := make([]byte, 20)
		n, err := unix.Read(fd, p)
		e.ok(err)
		e.check(string(p[:n]) == "through", "%q", p[:n])
		e.size("p", 0)
	}},
	{"a socket", func(e *env) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		e.ok(err)
		defer unix.Close(fd)
		if len(e.p("s")) > 100 {
			e.skip("the path is too long for a socket")
		}
		e.ok(unix.Bind(fd, &unix.SockaddrUnix{Name: e.p("s")}))
		e.check(e.stat("s").Mode&unix.S_IFMT == unix.S_IFSOCK, "mode %o", e.stat("s").Mode)
		e.ok(unix.Listen(fd, 1))
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		e.ok(err)
		defer unix.Close(c)
		e.ok(unix.Connect(c, &unix.SockaddrUnix{Name: e.p("s")}))
		e.openErr("s", unix.O_RDONLY, 0, unix.ENXIO)
	}},
	{"devices keep their numbers", func(e *env) {
		for _, d := range []struct {
			name string
			typ  uint32
			dev  uint64
		}{{"null", unix.S_IFCHR, unix.Mkdev(1, 3)}, {"big", unix.S_IFBLK, unix.Mkdev(259, 70000)}, {"chr", unix.S_IFCHR, unix.Mkdev(4095, 1)}} {
			e.ok(unix.Mknod(e.p(d.name), d.typ|0o600, int(d.dev)))
			st := e.stat(d.name)
			e.check(st.Mode == d.typ|0o600 && st.Rdev == d.dev, "%s: mode %o, device %x, want %x", d.name, st.Mode, st.Rdev, d.dev)
		}
	}},
	{"devices by a user are EPERM", func(e *env) {
		e.mkdir("d", 0o777)
		e.as(alice, func() {
			e.want(unix.Mknod(e.p("d/n"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))), unix.EPERM)
			e.ok(unix.Mkfifo(e.p("d/p"), 0o600))
		})
	}},
	{"a regular file", func(e *env) {
		e.ok(unix.Mknod(e.p("f"), unix.S_IFREG|0o640, 0))
		e.check(e.stat("f").Mode == unix.S_IFREG|0o640, "mode %o", e.stat("f").Mode)
	}},
	{"an existing name is EEXIST", func(e *env) {
		e.file("f", "")
		e.want(unix.Mkfifo(e.p("f"), 0o644), unix.EEXIST)
		e.want(unix.Mknod(e.p("f"), unix.S_IFREG|0o644, 0), unix.EEXIST)
	}},
	{"honours the umask", func(e *env) {
		e.withUmask(0o077, func() { e.ok(unix.Mkfifo(e.p("p"), 0o666)) })
		e.mode("p", 0o600)
	}},
}
