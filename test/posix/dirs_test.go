//go:build linux

package posix

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var mkdirRows = []row{
	{"makes an empty directory of the mode", func(e *env) {
		e.ok(unix.Mkdir(e.p("d"), 0o750))
		e.mode("d", 0o750)
		e.nlink("d", 2)
		e.check(len(e.names("d")) == 0, "has entries")
	}},
	{"honours the umask", func(e *env) {
		e.withUmask(0o022, func() { e.ok(unix.Mkdir(e.p("d"), 0o777)) })
		e.mode("d", 0o755)
	}},
	{"counts in the parent's links", func(e *env) {
		e.mkdir("d", 0o755)
		e.mkdir("d/a", 0o755)
		e.mkdir("d/b", 0o755)
		e.file("d/f", "")
		e.nlink("d", 4)
		e.ok(unix.Rmdir(e.p("d/a")))
		e.nlink("d", 3)
	}},
	{"an existing name is EEXIST", func(e *env) {
		e.file("f", "")
		e.want(unix.Mkdir(e.p("f"), 0o755), unix.EEXIST)
		e.ok(unix.Symlink("nowhere", e.p("l")))
		e.want(unix.Mkdir(e.p("l"), 0o755), unix.EEXIST)
		e.want(unix.Mkdir(e.p("."), 0o755), unix.EEXIST)
	}},
	{"in a missing directory is ENOENT", func(e *env) { e.want(unix.Mkdir(e.p("x/d"), 0o755), unix.ENOENT) }},
	{"in a file is ENOTDIR", func(e *env) {
		e.file("f", "")
		e.want(unix.Mkdir(e.p("f/d"), 0o755), unix.ENOTDIR)
	}},
	{"in a setgid directory inherits group and setgid", func(e *env) {
		e.mkdir("p", 0o777)
		e.ok(unix.Chown(e.p("p"), 0, 54330))
		e.ok(unix.Chmod(e.p("p"), 0o2777))
		e.as(alice, func() { e.ok(unix.Mkdir(e.p("p/d"), 0o755)) })
		st := e.stat("p/d")
		e.check(st.Gid == 54330 && st.Mode&0o7777 == 0o2755, "group %d, mode %04o", st.Gid, st.Mode&0o7777)
	}},
	{"without write permission is EACCES", func(e *env) {
		e.mkdir("p", 0o755)
		e.as(alice, func() { e.want(unix.Mkdir(e.p("p/d"), 0o755), unix.EACCES) })
	}},
	{"in a removed directory is ENOENT", func(e *env) {
		e.mkdir("d", 0o755)
		fd := e.open("d", unix.O_RDONLY, 0)
		e.ok(unix.Rmdir(e.p("d")))
		e.want(unix.Mkdirat(fd, "x", 0o755), unix.ENOENT)
		_, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		e.want(err, unix.ENOENT)
		e.check(e.fstat(fd).Nlink == 0, "links %d", e.fstat(fd).Nlink)
	}},
	{"rmdir removes", func(e *env) {
		e.mkdir("d", 0o755)
		e.ok(unix.Rmdir(e.p("d")))
		e.gone("d")
	}},
	{"rmdir with entries is ENOTEMPTY", func(e *env) {
		e.mkdir("d", 0o755)
		e.file("d/f", "")
		e.want(unix.Rmdir(e.p("d")), unix.ENOTEMPTY, unix.EEXIST)
	}},
	{"rmdir of a file or symlink is ENOTDIR", func(e *env) {
		e.file("f", "")
		e.mkdir("d", 0o755)
		e.ok(unix.Symlink("d", e.p("l")))
		e.want(unix.Rmdir(e.p("f")), unix.ENOTDIR)
		e.want(unix.Rmdir(e.p("l")), unix.ENOTDIR)
	}},
	{"rmdir of \".\" is EINVAL and of \"..\" ENOTEMPTY", func(e *env) {
		e.mkdir("d", 0o755)
		e.want(unix.Rmdir(e.p("d/.")), unix.EINVAL)
		e.want(unix.Rmdir(e.p("d/..")), unix.ENOTEMPTY)
	}},
	{"rmdir missing is ENOENT", func(e *env) { e.want(unix.Rmdir(e.p("d")), unix.ENOENT) }},
	{"rmdir in a sticky directory is for the owners", func(e *env) {
		e.mkdir("p", 0o1777)
		e.mkdir("p/d", 0o777)
		e.own("p/d", bob)
		e.as(alice, func() { e.want(unix.Rmdir(e.p("p/d")), unix.EPERM) })
		e.as(bob, func() { e.ok(unix.Rmdir(e.p("p/d"))) })
	}},
}

var readdirRows = []row{
	{"lists every name once, with type and inode", func(e *env) {
		e.file("f", "")
		e.mkdir("d", 0o755)
		e.ok(unix.Symlink("f", e.p("l")))
		e.ok(unix.Mkfifo(e.p("p"), 0o644))
		entries, err := os.ReadDir(e.dir)
		e.ok(err)
		var got []string
		for _, d := range entries {
			got = append(got, d.Name()+":"+d.Type().String())
		}
		e.check(strings.Join(got, " ") == "d:d--------- f:---------- l:L--------- p:p---------", "%v", got)
	}},
	{"has \".\" and \"..\" with their inodes", func(e *env) {
		e.mkdir("d", 0o755)
		found := map[string]uint64{}
		for _, d := range e.getdents("d") {
			found[d.name] = d.ino
		}
		e.check(found["."] == e.stat("d").Ino, "inode of . is %d", found["."])
		e.check(found[".."] == e.stat(".").Ino, "inode of .. is %d, want %d", found[".."], e.stat(".").Ino)
	}},
	{"three thousand names", func(e *env) {
		e.mkdir("d", 0o755)
		var want []string
		for i := range 3000 {
			name := fmt.Sprintf("name-%d-%s", i, long(i%100))
			want = append(want, name)
			e.ok(unix.Link(e.linked(), e.p("d/"+name)))
		}
		slices.Sort(want)
		got := e.names("d")
		e.check(slices.Equal(got, want), "%d names, want %d", len(got), len(want))
	}},
	{"names that stay are listed once while others come and go", func(e *env) {
		e.mkdir("d", 0o755)
		for i := range 500 {
			e.file(fmt.Sprintf("d/stay-%d", i), "")
			e.file(fmt.Sprintf("d/go-%d", i), "")
		}
		fd := e.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		seen, buf := map[string]int{}, make([]byte, 1024)
		for i := 0; ; i++ {
			n, err := unix.Getdents(fd, buf)
			e.ok(err)
			if n == 0 {
				break
			}
			for _, d := range parseDents(buf[:n]) {
				seen[d.name]++
			}
			if i < 400 {
				_ = unix.Unlink(e.p(fmt.Sprintf("d/go-%d", i)))
				e.ok(unix.Link(e.linked(), e.p(fmt.Sprintf("d/new-%d", i))))
			}
			e.check(i < 5000, "no end")
		}
		for i := range 500 {
			n := seen[fmt.Sprintf("stay-%d", i)]
			e.check(n == 1, "stay-%d is listed %d times", i, n)
		}
	}},
	{"removing while listing empties", func(e *env) {
		e.mkdir("d", 0o755)
		for i := range 1000 {
			e.ok(unix.Link(e.linked(), e.p(fmt.Sprintf("d/%d", i))))
		}
		fd := e.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		buf := make([]byte, 4096)
		for {
			n, err := unix.Getdents(fd, buf)
			e.ok(err)
			if n == 0 {
				break
			}
			for _, d := range parseDents(buf[:n]) {
				if d.name != "." && d.name != ".." {
					e.ok(unix.Unlink(e.p("d/" + d.name)))
				}
			}
		}
		e.ok(unix.Rmdir(e.p("d")))
	}},
	{"seekdir goes back to where telldir was", func(e *env) {
		e.mkdir("d", 0o755)
		for i := range 300 {
			e.ok(unix.Link(e.linked(), e.p(fmt.Sprintf("d/name-%d", i))))
		}
		fd := e.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		buf := make([]byte, 2048)
		var all []dent
		for {
			n, err := unix.Getdents(fd, buf)
			e.ok(err)
			if n == 0 {
				break
			}
			all = append(all, parseDents(buf[:n])...)
		}
		e.check(len(all) == 302, "%d entries", len(all))
		for _, i := range []int{0, 1, 2, 50, 151, 299} {
			_, err := unix.Seek(fd, all[i].off, unix.SEEK_SET)
			e.ok(err)
			n, err := unix.Getdents(fd, buf)
			e.ok(err)
			got := parseDents(buf[:n])
			e.check(len(got) > 0 && got[0].name == all[i+1].name, "after entry %d comes %v, want %s", i, got, all[i+1].name)
		}
	}},
	{"rewinddir sees what came", func(e *env) {
		e.mkdir("d", 0o755)
		fd := e.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		e.check(len(readAll(e, fd)) == 2, "not empty")
		e.file("d/f", "")
		_, err := unix.Seek(fd, 0, unix.SEEK_SET)
		e.ok(err)
		e.check(len(readAll(e, fd)) == 3, "the new name is missing")
	}},
	{"a removed directory lists nothing", func(e *env) {
		e.mkdir("d", 0o755)
		fd := e.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		e.ok(unix.Rmdir(e.p("d")))
		buf := make([]byte, 4096)
		n, err := unix.Getdents(fd, buf)
		if err == nil {
			for _, d := range parseDents(buf[:n]) {
				e.check(d.name == "." || d.name == "..", "lists %s", d.name)
			}
			return
		}
		e.want(err, unix.ENOENT)
	}},
	{"without read permission is EACCES", func(e *env) {
		e.mkdir("d", 0o711)
		e.as(alice, func() { e.openErr("d", unix.O_RDONLY|unix.O_DIRECTORY, 0, unix.EACCES) })
	}},
	{"of a file is ENOTDIR", func(e *env) {
		e.file("f", "")
		fd := e.open("f", unix.O_RDONLY, 0)
		_, err := unix.Getdents(fd, make([]byte, 4096))
		e.want(err, unix.ENOTDIR)
	}},
}

// linked is a file whose links fill directories fast.
func (e *env) linked() string {
	path := e.p("linked")
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	e.ok(err)
	_ = unix.Close(fd)
	return path
}

type dent struct {
	name string
	ino  uint64
	off  int64
}

// parseDents decodes linux_dirent64 records.
func parseDents(buf []byte) []dent {
	var out []dent
	for len(buf) >= 19 {
		le := func(at, n int) (v uint64) {
			for i := n - 1; i >= 0; i-- {
				v = v<<8 | uint64(buf[at+i])
			}
			return v
		}
		reclen := int(le(16, 2))
		name, _, _ := strings.Cut(string(buf[19:reclen]), "\x00")
		out = append(out, dent{name: name, ino: le(0, 8), off: int64(le(8, 8))})
		buf = buf[reclen:]
	}
	return out
}

func readAll(e *env, fd int) []dent {
	var all []dent
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		e.ok(err)
		if n == 0 {
			return all
		}
		all = append(all, parseDents(buf[:n])...)
	}
}

func (e *env) getdents(name string) []dent {
	return readAll(e, e.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0))
}
