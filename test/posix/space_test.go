//go:build linux

package posix

import (
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var fallocateRows = []row{
	{"extends with zeros", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDWR, 0)
		e.ok(unix.Fallocate(fd, 0, 0, 10000))
		e.content("f", "abc"+strings.Repeat("\x00", 9997))
	}},
	{"keeps data that is there", func(e *env) {
		e.file("f", strings.Repeat("x", 10000))
		fd := e.open("f", unix.O_RDWR, 0)
		e.ok(unix.Fallocate(fd, 0, 100, 5000))
		e.content("f", strings.Repeat("x", 10000))
	}},
	{"KEEP_SIZE keeps it", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDWR, 0)
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 100000))
		e.size("f", 3)
	}},
	{"a punched hole reads as zeros", func(e *env) {
		e.file("f", strings.Repeat("x", 100000))
		fd := e.open("f", unix.O_RDWR, 0)
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 5000, 50001))
		e.content("f", strings.Repeat("x", 5000)+strings.Repeat("\x00", 50001)+strings.Repeat("x", 44999))
	}},
	{"a hole beyond the end changes nothing", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDWR, 0)
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 10000, 50000))
		e.content("f", "abc")
	}},
	{"PUNCH_HOLE without KEEP_SIZE is EOPNOTSUPP", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDWR, 0)
		e.want(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE, 0, 2), unix.EOPNOTSUPP, unix.EINVAL)
	}},
	{"ZERO_RANGE zeros and extends", func(e *env) {
		e.file("f", strings.Repeat("x", 10000))
		fd := e.open("f", unix.O_RDWR, 0)
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 9000, 5000))
		e.content("f", strings.Repeat("x", 9000)+strings.Repeat("\x00", 5000))
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 13000, 50000))
		e.size("f", 14000)
	}},
	{"a length of zero is EINVAL", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDWR, 0)
		e.want(unix.Fallocate(fd, 0, 0, 0), unix.EINVAL)
		e.want(unix.Fallocate(fd, 0, -1, 10), unix.EINVAL)
	}},
	{"a read-only descriptor is EBADF", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDONLY, 0)
		e.want(unix.Fallocate(fd, 0, 0, 10), unix.EBADF)
	}},
}

// sparse makes a file with data in 64 KiB from 1 MiB, in a file of 3 MiB.
func (e *env) sparse(name string) int {
	fd := e.open(name, unix.O_CREAT|unix.O_RDWR, 0o644)
	_, err := unix.Pwrite(fd, bytes.Repeat([]byte("x"), 64<<10), 1<<20)
	e.ok(err)
	e.ok(unix.Ftruncate(fd, 3<<20))
	e.ok(unix.Fsync(fd))
	return fd
}

func (e *env) seek(fd int, off int64, whence int) int64 {
	got, err := unix.Seek(fd, off, whence)
	e.ok(err)
	return got
}

var lseekRows = []row{
	{"SEEK_DATA finds data", func(e *env) {
		fd := e.sparse("f")
		e.check(e.seek(fd, 0, unix.SEEK_DATA) == 1<<20, "first data at %d", e.seek(fd, 0, unix.SEEK_DATA))
		e.check(e.seek(fd, 1<<20+100, unix.SEEK_DATA) == 1<<20+100, "within data")
	}},
	{"SEEK_HOLE finds holes and the end", func(e *env) {
		fd := e.sparse("f")
		e.check(e.seek(fd, 0, unix.SEEK_HOLE) == 0, "at 0")
		e.check(e.seek(fd, 1<<20, unix.SEEK_HOLE) == 1<<20+64<<10, "after the data: %d", e.seek(fd, 1<<20, unix.SEEK_HOLE))
		e.file("g", "abc")
		g := e.open("g", unix.O_RDONLY, 0)
		e.check(e.seek(g, 0, unix.SEEK_HOLE) == 3, "the end counts as a hole: %d", e.seek(g, 0, unix.SEEK_HOLE))
	}},
	{"beyond the data is ENXIO", func(e *env) {
		fd := e.sparse("f")
		_, err := unix.Seek(fd, 2<<20, unix.SEEK_DATA)
		e.want(err, unix.ENXIO)
		_, err = unix.Seek(fd, 3<<20, unix.SEEK_DATA)
		e.want(err, unix.ENXIO)
		_, err = unix.Seek(fd, 3<<20, unix.SEEK_HOLE)
		e.want(err, unix.ENXIO)
	}},
	{"an empty file is ENXIO", func(e *env) {
		e.file("f", "")
		fd := e.open("f", unix.O_RDONLY, 0)
		_, err := unix.Seek(fd, 0, unix.SEEK_DATA)
		e.want(err, unix.ENXIO)
		_, err = unix.Seek(fd, 0, unix.SEEK_HOLE)
		e.want(err, unix.ENXIO)
	}},
	{"SEEK_END and SEEK_CUR", func(e *env) {
		e.file("f", "abcdef")
		fd := e.open("f", unix.O_RDONLY, 0)
		e.check(e.seek(fd, -2, unix.SEEK_END) == 4 && e.seek(fd, 1, unix.SEEK_CUR) == 5 && e.seek(fd, 100, unix.SEEK_SET) == 100, "offsets")
		_, err := unix.Seek(fd, -1, unix.SEEK_SET)
		e.want(err, unix.EINVAL)
	}},
	{"a punched hole is found", func(e *env) {
		e.file("f", strings.Repeat("x", 1<<20))
		fd := e.open("f", unix.O_RDWR, 0)
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 256<<10, 256<<10))
		e.check(e.seek(fd, 0, unix.SEEK_HOLE) == 256<<10, "hole at %d", e.seek(fd, 0, unix.SEEK_HOLE))
		e.check(e.seek(fd, 256<<10, unix.SEEK_DATA) == 512<<10, "data at %d", e.seek(fd, 256<<10, unix.SEEK_DATA))
	}},
}

var copyRows = []row{
	{"copies a range", func(e *env) {
		e.file("a", strings.Repeat("0123456789", 10000))
		e.file("b", "")
		in, out := e.open("a", unix.O_RDONLY, 0), e.open("b", unix.O_RDWR, 0)
		off, to := int64(5), int64(3)
		total := 0
		for total < 50000 {
			n, err := unix.CopyFileRange(in, &off, out, &to, 50000-total, 0)
			e.ok(err)
			e.check(n > 0, "nothing")
			total += n
		}
		want := "\x00\x00\x00" + strings.Repeat("0123456789", 10000)[5:50005]
		e.content("b", want)
		e.check(off == 50005 && to == 50003, "offsets %d, %d", off, to)
	}},
	{"stops at the end of the source", func(e *env) {
		e.file("a", "abc")
		e.file("b", "")
		in, out := e.open("a", unix.O_RDONLY, 0), e.open("b", unix.O_RDWR, 0)
		n, err := unix.CopyFileRange(in, nil, out, nil, 100, 0)
		e.ok(err)
		e.check(n == 3, "%d", n)
		n, err = unix.CopyFileRange(in, nil, out, nil, 100, 0)
		e.ok(err)
		e.check(n == 0, "%d at the end", n)
		e.content("b", "abc")
	}},
	{"overlapping ranges of one file are EINVAL", func(e *env) {
		e.file("a", strings.Repeat("x", 1000))
		fd := e.open("a", unix.O_RDWR, 0)
		off, to := int64(0), int64(100)
		_, err := unix.CopyFileRange(fd, &off, fd, &to, 500, 0)
		e.want(err, unix.EINVAL)
	}},
	{"within one file, apart", func(e *env) {
		e.file("a", "0123456789----------")
		fd := e.open("a", unix.O_RDWR, 0)
		off, to := int64(0), int64(10)
		n, err := unix.CopyFileRange(fd, &off, fd, &to, 10, 0)
		e.ok(err)
		e.check(n == 10, "%d", n)
		e.content("a", "01234567890123456789")
	}},
	{"what was just written is copied", func(e *env) {
		in, out := e.open("a", unix.O_CREAT|unix.O_RDWR, 0o644), e.open("b", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.write(in, "fresh")
		off := int64(0)
		n, err := unix.CopyFileRange(in, &off, out, nil, 5, 0)
		e.ok(err)
		e.check(n == 5, "%d", n)
		e.content("b", "fresh")
	}},
}

var mmapRows = []row{
	{"a shared mapping reads the file", func(e *env) {
		e.file("f", strings.Repeat("abcd", 3000))
		fd := e.open("f", unix.O_RDONLY, 0)
		p, err := unix.Mmap(fd, 0, 12000, unix.PROT_READ, unix.MAP_SHARED)
		e.ok(err)
		defer unix.Munmap(p)
		e.check(string(p) == strings.Repeat("abcd", 3000), "other data")
	}},
	{"what a shared mapping writes is read", func(e *env) {
		e.file("f", strings.Repeat("x", 10000))
		mapWrite(e, "f")
		got, err := os.ReadFile(e.p("f"))
		e.ok(err)
		e.check(string(got[:6]) == "mapped" && got[6] == 'x', "%q", got[:10])
	}},
	{"what write(2) writes is seen through the mapping", func(e *env) {
		e.file("f", strings.Repeat("x", 5000))
		fd := e.open("f", unix.O_RDWR, 0)
		p, err := unix.Mmap(fd, 0, 5000, unix.PROT_READ, unix.MAP_SHARED)
		e.ok(err)
		defer unix.Munmap(p)
		e.check(p[4200] == 'x', "before")
		_, err = unix.Pwrite(fd, []byte("new"), 4200)
		e.ok(err)
		e.check(string(p[4200:4203]) == "new", "%q", p[4200:4203])
	}},
	{"a private mapping leaves the file", func(e *env) {
		e.file("f", "abcdef")
		fd := e.open("f", unix.O_RDWR, 0)
		p, err := unix.Mmap(fd, 0, 6, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		e.ok(err)
		copy(p, "XYZ")
		e.ok(unix.Munmap(p))
		e.content("f", "abcdef")
	}},
	{"the page's rest after the end is zeros", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDWR, 0)
		p, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		e.ok(err)
		e.check(bytes.Equal(p[3:], make([]byte, 4093)), "not zeros")
		e.ok(unix.Munmap(p))
		e.size("f", 3)
	}},
	{"a mapping of an unlinked file lives", func(e *env) {
		e.file("f", strings.Repeat("x", 8192))
		fd, err := unix.Open(e.p("f"), unix.O_RDWR|unix.O_CLOEXEC, 0)
		e.ok(err)
		p, err := unix.Mmap(fd, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		e.ok(err)
		e.ok(unix.Close(fd))
		e.ok(unix.Unlink(e.p("f")))
		e.check(p[8000] == 'x', "data")
		p[0] = 'y'
		e.ok(unix.Msync(p, unix.MS_SYNC))
		e.ok(unix.Munmap(p))
	}},
	{"truncate takes the mapping's pages away", func(e *env) {
		e.file("f", strings.Repeat("x", 4096))
		fd := e.open("f", unix.O_RDWR, 0)
		p, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		e.ok(err)
		defer unix.Munmap(p)
		e.check(p[100] == 'x', "before")
		e.ok(unix.Ftruncate(fd, 10))
		e.check(p[5] == 'x' && p[100] == 0, "after: %q %q", p[5], p[100])
	}},
}

func mapWrite(e *env, name string) {
	fd := e.open(name, unix.O_RDWR, 0)
	p, err := unix.Mmap(fd, 0, 6, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	e.ok(err)
	copy(p, "mapped")
	e.ok(unix.Msync(p, unix.MS_SYNC))
	e.ok(unix.Munmap(p))
}
