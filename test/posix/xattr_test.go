//go:build linux

package posix

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func (e *env) getxattr(name, attr string) string {
	p := make([]byte, 65536)
	n, err := unix.Lgetxattr(e.p(name), attr, p)
	e.ok(err)
	return string(p[:n])
}

func (e *env) listxattr(name string) []string {
	p := make([]byte, 65536)
	n, err := unix.Llistxattr(e.p(name), p)
	e.ok(err)
	var out []string
	for _, s := range strings.Split(string(p[:n]), "\x00") {
		if s != "" && s != "security.selinux" {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

var xattrRows = []row{
	{"what was set is got", func(e *env) {
		e.file("f", "")
		e.ok(unix.Setxattr(e.p("f"), "user.a", []byte("value"), 0))
		e.check(e.getxattr("f", "user.a") == "value", "%q", e.getxattr("f", "user.a"))
		e.ok(unix.Setxattr(e.p("f"), "user.a", []byte("other"), 0))
		e.check(e.getxattr("f", "user.a") == "other", "%q", e.getxattr("f", "user.a"))
	}},
	{"empty and binary values", func(e *env) {
		e.file("f", "")
		e.ok(unix.Setxattr(e.p("f"), "user.empty", nil, 0))
		e.check(e.getxattr("f", "user.empty") == "", "not empty")
		e.ok(unix.Setxattr(e.p("f"), "user.bin", []byte{0, 1, 255, 0}, 0))
		e.check(e.getxattr("f", "user.bin") == "\x00\x01\xff\x00", "%q", e.getxattr("f", "user.bin"))
	}},
	{"missing is ENODATA", func(e *env) {
		e.file("f", "")
		_, err := unix.Getxattr(e.p("f"), "user.none", make([]byte, 10))
		e.want(err, unix.ENODATA)
		e.want(unix.Removexattr(e.p("f"), "user.none"), unix.ENODATA)
	}},
	{"XATTR_CREATE and XATTR_REPLACE", func(e *env) {
		e.file("f", "")
		e.want(unix.Setxattr(e.p("f"), "user.a", []byte("1"), unix.XATTR_REPLACE), unix.ENODATA)
		e.ok(unix.Setxattr(e.p("f"), "user.a", []byte("1"), unix.XATTR_CREATE))
		e.want(unix.Setxattr(e.p("f"), "user.a", []byte("2"), unix.XATTR_CREATE), unix.EEXIST)
		e.ok(unix.Setxattr(e.p("f"), "user.a", []byte("3"), unix.XATTR_REPLACE))
		e.check(e.getxattr("f", "user.a") == "3", "%q", e.getxattr("f", "user.a"))
	}},
	{"listed, and gone when removed", func(e *env) {
		e.file("f", "")
		var want []string
		for i := range 20 {
			name := fmt.Sprintf("user.attr%02d", i)
			want = append(want, name)
			e.ok(unix.Setxattr(e.p("f"), name, []byte("x"), 0))
		}
		e.check(slices.Equal(e.listxattr("f"), want), "%v", e.listxattr("f"))
		e.ok(unix.Removexattr(e.p("f"), "user.attr00"))
		e.check(slices.Equal(e.listxattr("f"), want[1:]), "%v", e.listxattr("f"))
	}},
	{"sizes are told, small buffers are ERANGE", func(e *env) {
		e.file("f", "")
		e.ok(unix.Setxattr(e.p("f"), "user.a", []byte("0123456789"), 0))
		n, err := unix.Getxattr(e.p("f"), "user.a", nil)
		e.ok(err)
		e.check(n == 10, "%d", n)
		_, err = unix.Getxattr(e.p("f"), "user.a", make([]byte, 9))
		e.want(err, unix.ERANGE)
		n, err = unix.Listxattr(e.p("f"), nil)
		e.ok(err)
		e.check(n >= 7, "%d", n)
		_, err = unix.Listxattr(e.p("f"), make([]byte, 3))
		e.want(err, unix.ERANGE)
	}},
	{"a value of 2 KiB, and too large ones", func(e *env) {
		e.file("f", "")
		v := bytes.Repeat([]byte("v"), 2048)
		e.ok(unix.Setxattr(e.p("f"), "user.big", v, 0))
		e.check(e.getxattr("f", "user.big") == string(v), "other value")
		e.want(unix.Setxattr(e.p("f"), "user.huge", make([]byte, 65537), 0), unix.E2BIG)
	}},
	{"names to 255 bytes", func(e *env) {
		e.file("f", "")
		e.ok(unix.Setxattr(e.p("f"), "user."+long(250), []byte("x"), 0))
		e.want(unix.Setxattr(e.p("f"), "user."+long(251), []byte("x"), 0), unix.ERANGE)
	}},
	{"an unknown namespace is EOPNOTSUPP", func(e *env) {
		e.file("f", "")
		e.want(unix.Setxattr(e.p("f"), "nonsense.a", []byte("x"), 0), unix.EOPNOTSUPP)
		e.want(unix.Setxattr(e.p("f"), "user.", []byte("x"), 0), unix.EINVAL)
	}},
	{"user attributes need the file's permissions", func(e *env) {
		e.file("f", "")
		e.ok(unix.Setxattr(e.p("f"), "user.a", []byte("x"), 0))
		e.as(alice, func() {
			e.check(e.getxattr("f", "user.a") == "x", "read")
			e.want(unix.Setxattr(e.p("f"), "user.a", []byte("y"), 0), unix.EACCES)
		})
		e.ok(unix.Chmod(e.p("f"), 0o600))
		e.as(alice, func() {
			_, err := unix.Getxattr(e.p("f"), "user.a", make([]byte, 10))
			e.want(err, unix.EACCES)
		})
	}},
	{"user attributes are for files and directories", func(e *env) {
		e.mkdir("d", 0o755)
		e.ok(unix.Setxattr(e.p("d"), "user.a", []byte("x"), 0))
		e.check(e.getxattr("d", "user.a") == "x", "directory")
		e.ok(unix.Symlink("d", e.p("l")))
		e.want(unix.Lsetxattr(e.p("l"), "user.a", []byte("x"), 0), unix.EPERM)
		e.ok(unix.Mkfifo(e.p("p"), 0o644))
		e.want(unix.Setxattr(e.p("p"), "user.a", []byte("x"), 0), unix.EPERM)
	}},
	{"trusted attributes are root's", func(e *env) {
		e.file("f", "")
		e.ok(unix.Chmod(e.p("f"), 0o666))
		e.ok(unix.Setxattr(e.p("f"), "trusted.a", []byte("x"), 0))
		e.check(e.getxattr("f", "trusted.a") == "x", "root")
		e.as(alice, func() {
			e.want(unix.Setxattr(e.p("f"), "trusted.a", []byte("y"), 0), unix.EPERM)
			_, err := unix.Getxattr(e.p("f"), "trusted.a", make([]byte, 10))
			e.want(err, unix.ENODATA)
			e.check(len(e.listxattr("f")) == 0, "%v", e.listxattr("f"))
		})
	}},
	{"file capabilities are kept, and lost with a write", func(e *env) {
		e.file("f", "x")
		caps := make([]byte, 20)
		binary.LittleEndian.PutUint32(caps, 0x02000001) // revision 2, effective
		binary.LittleEndian.PutUint32(caps[4:], 1<<10)  // CAP_NET_BIND_SERVICE
		e.ok(unix.Setxattr(e.p("f"), "security.capability", caps, 0))
		e.check(e.getxattr("f", "security.capability") == string(caps), "other value")
		e.write(e.open("f", unix.O_WRONLY, 0), "y")
		_, err := unix.Getxattr(e.p("f"), "security.capability", make([]byte, 100))
		e.want(err, unix.ENODATA)
	}},
	{"stay with the inode, whatever its name", func(e *env) {
		e.file("f", "")
		e.ok(unix.Setxattr(e.p("f"), "user.a", []byte("x"), 0))
		e.ok(unix.Link(e.p("f"), e.p("g")))
		e.ok(unix.Rename(e.p("f"), e.p("h")))
		e.check(e.getxattr("g", "user.a") == "x" && e.getxattr("h", "user.a") == "x", "lost")
	}},
	{"of an unlinked file", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.ok(unix.Unlink(e.p("f")))
		e.ok(unix.Fsetxattr(fd, "user.a", []byte("x"), 0))
		p := make([]byte, 10)
		n, err := unix.Fgetxattr(fd, "user.a", p)
		e.ok(err)
		e.check(string(p[:n]) == "x", "%q", p[:n])
	}},
	{"in a sticky directory of another user are EPERM", func(e *env) {
		e.mkdir("d", 0o1777)
		e.as(alice, func() { e.want(unix.Setxattr(e.p("d"), "user.a", []byte("x"), 0), unix.EPERM) })
	}},
}
