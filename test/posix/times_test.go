//go:build linux

package posix

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// stamps are a file's times in Unix nanoseconds.
type stamps struct{ a, m, c int64 }

func timesOf(st unix.Stat_t) stamps {
	return stamps{unix.TimespecToNsec(st.Atim), unix.TimespecToNsec(st.Mtim), unix.TimespecToNsec(st.Ctim)}
}

// past is when the files of a row were last touched, before what it does.
const past = int64(1_500_000_000_123_456_789)

// age sets access and modification time to the past, and waits until the clock of the file system has gone on, so that
// any later change shows.
func (e *env) age(names ...string) {
	var last int64
	for _, n := range names {
		ts := []unix.Timespec{unix.NsecToTimespec(past), unix.NsecToTimespec(past)}
		e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, e.p(n), ts, unix.AT_SYMLINK_NOFOLLOW))
		last = max(last, timesOf(e.stat(n)).c)
	}
	probe := e.dir + ".clock"
	defer func() { _ = unix.Unlink(probe) }()
	for {
		fd, err := unix.Open(probe, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		e.ok(err)
		e.ok(unix.Fchmod(fd, 0o600))
		c := timesOf(e.fstat(fd)).c
		_ = unix.Close(fd)
		if c > last {
			return
		}
	}
}

// changed names the times of a file that are not what they were: "a", "m", "c".
func (e *env) changed(name string, before stamps) string {
	now := timesOf(e.stat(name))
	var b strings.Builder
	for _, t := range []struct {
		name     string
		was, now int64
	}{{"a", before.a, now.a}, {"m", before.m, now.m}, {"c", before.c, now.c}} {
		if t.was != t.now {
			b.WriteString(t.name)
		}
	}
	return b.String()
}

// timesCase says which times a call changes: of the file "f", and of its directory "d".
type timesCase struct {
	name    string
	do      func(e *env)
	file    string // times of d/f, "-" when it is gone
	maybe   string // times of d/f that may change or not
	dir     string // times of d
	prepare func(e *env)
}

var timesCases = []timesCase{
	{name: "stat", do: func(e *env) { e.stat("d/f") }},
	{name: "open for writing", do: func(e *env) { e.open("d/f", unix.O_WRONLY, 0) }},
	{name: "read", do: func(e *env) { e.pread(e.open("d/f", unix.O_RDONLY, 0), 3, 0) }, file: "a"},
	{name: "read of a file that was just written", do: func(e *env) { e.pread(e.open("d/f", unix.O_RDONLY, 0), 3, 0) }, file: "a",
		prepare: func(e *env) { e.file("d/f", "0123456789") }},
	{name: "read of whole pages that were just written", do: func(e *env) { e.pread(e.open("d/f", unix.O_RDONLY, 0), 3, 0) }, file: "a",
		prepare: func(e *env) { e.file("d/f", strings.Repeat("x", 100000)) }},
	{name: "read with O_NOATIME", do: func(e *env) { e.pread(e.open("d/f", unix.O_RDONLY|unix.O_NOATIME, 0), 3, 0) }},
	{name: "write", do: func(e *env) { e.write(e.open("d/f", unix.O_WRONLY, 0), "xyz") }, file: "mc"},
	{name: "append", do: func(e *env) { e.write(e.open("d/f", unix.O_WRONLY|unix.O_APPEND, 0), "xyz") }, file: "mc"},
	{name: "write of nothing", do: func(e *env) { _, err := unix.Write(e.open("d/f", unix.O_WRONLY, 0), nil); e.ok(err) }},
	{name: "truncate", do: func(e *env) { e.ok(unix.Truncate(e.p("d/f"), 1)) }, file: "mc"},
	{name: "truncate to the same size", do: func(e *env) { e.ok(unix.Truncate(e.p("d/f"), 10)) }, file: "mc"},
	{name: "ftruncate", do: func(e *env) { e.ok(unix.Ftruncate(e.open("d/f", unix.O_WRONLY, 0), 100)) }, file: "mc"},
	{name: "open with O_TRUNC", do: func(e *env) { e.open("d/f", unix.O_WRONLY|unix.O_TRUNC, 0) }, file: "mc"},
	{name: "chmod", do: func(e *env) { e.ok(unix.Chmod(e.p("d/f"), 0o600)) }, file: "c"},
	{name: "chmod to the same mode", do: func(e *env) { e.ok(unix.Chmod(e.p("d/f"), 0o644)) }, file: "c"},
	{name: "chmod that fails", do: func(e *env) { e.as(alice, func() { e.want(unix.Chmod(e.p("d/f"), 0), unix.EPERM) }) }},
	{name: "chown", do: func(e *env) { e.ok(unix.Chown(e.p("d/f"), 1, 1)) }, file: "c"},
	{name: "setxattr", do: func(e *env) { e.ok(unix.Setxattr(e.p("d/f"), "user.x", []byte("y"), 0)) }, file: "c"},
	{name: "removexattr", do: func(e *env) { e.ok(unix.Removexattr(e.p("d/f"), "user.old")) }, file: "c",
		prepare: func(e *env) { e.ok(unix.Setxattr(e.p("d/f"), "user.old", []byte("y"), 0)) }},
	{name: "fallocate", do: func(e *env) { e.ok(unix.Fallocate(e.open("d/f", unix.O_WRONLY, 0), 0, 0, 10000)) }, file: "mc"},
	{name: "punching a hole", do: func(e *env) {
		e.ok(unix.Fallocate(e.open("d/f", unix.O_WRONLY, 0), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 5))
	}, file: "mc"},
	{name: "link", do: func(e *env) { e.ok(unix.Link(e.p("d/f"), e.p("d/g"))) }, file: "c", dir: "mc"},
	{name: "unlink", do: func(e *env) { e.ok(unix.Unlink(e.p("d/f"))) }, file: "-", dir: "mc"},
	{name: "unlink of one of two names", do: func(e *env) { e.ok(unix.Unlink(e.p("d/g"))) }, file: "c", dir: "mc",
		prepare: func(e *env) { e.ok(unix.Link(e.p("d/f"), e.p("d/g"))) }},
	{name: "rename over a name of a file with another", do: func(e *env) {
		e.ok(unix.Rename(e.p("d/x"), e.p("d/g")))
	}, file: "c", dir: "mc", prepare: func(e *env) {
		e.ok(unix.Link(e.p("d/f"), e.p("d/g")))
		e.file("d/x", "")
	}},
	{name: "creating", do: func(e *env) { e.open("d/new", unix.O_CREAT|unix.O_WRONLY, 0o644) }, dir: "mc"},
	{name: "creating that fails", do: func(e *env) { e.openErr("d/f", unix.O_CREAT|unix.O_EXCL, 0o644, unix.EEXIST) }},
	{name: "open with O_CREAT of an existing file", do: func(e *env) { e.open("d/f", unix.O_CREAT|unix.O_RDWR, 0o644) }},
	{name: "mkdir", do: func(e *env) { e.ok(unix.Mkdir(e.p("d/new"), 0o755)) }, dir: "mc"},
	{name: "rmdir", do: func(e *env) { e.ok(unix.Rmdir(e.p("d/sub"))) }, dir: "mc", prepare: func(e *env) { e.mkdir("d/sub", 0o755) }},
	{name: "symlink", do: func(e *env) { e.ok(unix.Symlink("x", e.p("d/l"))) }, dir: "mc"},
	{name: "mknod", do: func(e *env) { e.ok(unix.Mkfifo(e.p("d/p"), 0o644)) }, dir: "mc"},
	{name: "rename within a directory", do: func(e *env) { e.ok(unix.Rename(e.p("d/other"), e.p("d/o2"))) }, dir: "mc",
		prepare: func(e *env) { e.file("d/other", "") }},
	{name: "rename out of a directory", do: func(e *env) { e.ok(unix.Rename(e.p("d/other"), e.p("o2"))) }, dir: "mc",
		prepare: func(e *env) { e.file("d/other", "") }},
	{name: "rename into a directory", do: func(e *env) { e.ok(unix.Rename(e.p("o2"), e.p("d/other"))) }, dir: "mc",
		prepare: func(e *env) { e.file("o2", "") }},
	{name: "listing a directory", do: func(e *env) { e.getdents("d") }, dir: "a"},
	{name: "write through a mapping", do: func(e *env) { mapWrite(e, "d/f") }, file: "mc", maybe: "a"},
}

func timesRows() []row {
	rows := []row{
		{"a new file has all three, and its directory two", func(e *env) {
			e.mkdir("d", 0o755)
			e.age("d")
			before := timesOf(e.stat("d"))
			e.open("d/f", unix.O_CREAT|unix.O_WRONLY, 0o644)
			f, d := timesOf(e.stat("d/f")), timesOf(e.stat("d"))
			e.check(f.a > before.c && f.m > before.c && f.c > before.c, "%+v", f)
			e.check(d.m == d.c && d.m > before.c && d.a == past, "directory %+v", d)
		}},
		{"times have nanoseconds", func(e *env) {
			e.file("f", "")
			e.age("f")
			t := timesOf(e.stat("f"))
			e.check(t.a == past && t.m == past, "%+v", t)
		}},
		{"a write shows at once in fstat", func(e *env) {
			fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
			e.age("f")
			e.write(fd, "x")
			t := timesOf(e.fstat(fd))
			e.check(t.m > past && t.c >= t.m, "%+v", t)
		}},
		{"birth time stays", func(e *env) {
			e.file("f", "")
			birth := func() int64 {
				var st unix.Statx_t
				e.ok(unix.Statx(unix.AT_FDCWD, e.p("f"), 0, unix.STATX_BTIME, &st))
				if st.Mask&unix.STATX_BTIME == 0 {
					e.skip("no birth time here")
				}
				return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
			}
			b := birth()
			e.age("f")
			e.file("f", "abc")
			e.check(birth() == b && b > past, "birth went from %d to %d", b, birth())
		}},
	}
	for _, c := range timesCases {
		rows = append(rows, row{name: c.name, run: func(e *env) {
			e.mkdir("d", 0o755)
			e.file("d/f", "0123456789")
			if c.prepare != nil {
				c.prepare(e)
			}
			e.age("d/f", "d")
			f, d := timesOf(e.stat("d/f")), timesOf(e.stat("d"))
			c.do(e)
			if c.file == "-" {
				e.gone("d/f")
			} else if got := e.changed("d/f", f); got != c.file && strings.TrimLeft(got, c.maybe) != c.file {
				e.fail("of the file changed %q, want %q", got, c.file)
			}
			if got := e.changed("d", d); got != c.dir {
				e.fail("of the directory changed %q, want %q", got, c.dir)
			}
		}})
	}
	return rows
}

var utimensatRows = []row{
	{"sets both", func(e *env) {
		e.file("f", "")
		e.utimes("f", 1_000_000_000_000_000_001, 2_000_000_000_000_000_002)
		t := timesOf(e.stat("f"))
		e.check(t.a == 1_000_000_000_000_000_001 && t.m == 2_000_000_000_000_000_002, "%+v", t)
	}},
	{"before 1970 and after 2038", func(e *env) {
		e.file("f", "")
		for _, t := range []int64{-1, -1_000_000_001, -86400 * 1e9, 4_000_000_000 * 1e9} {
			e.utimes("f", t, t)
			got := timesOf(e.stat("f"))
			e.check(got.a == t && got.m == t, "%+v, want %d", got, t)
		}
	}},
	{"UTIME_OMIT leaves one", func(e *env) {
		e.file("f", "")
		e.utimes("f", past, past)
		e.utimesRaw("f", unix.NsecToTimespec(5e9), unix.Timespec{Nsec: unix.UTIME_OMIT})
		t := timesOf(e.stat("f"))
		e.check(t.a == 5e9 && t.m == past, "%+v", t)
	}},
	{"UTIME_NOW is the clock", func(e *env) {
		e.file("f", "")
		e.utimes("f", past, past)
		e.utimesRaw("f", unix.Timespec{Nsec: unix.UTIME_NOW}, unix.Timespec{Nsec: unix.UTIME_NOW})
		t := timesOf(e.stat("f"))
		e.check(t.a > past && t.m > past && t.a == t.m, "%+v", t)
	}},
	{"explicit times by another user are EPERM, even of one who may write", func(e *env) {
		e.file("f", "")
		e.ok(unix.Chmod(e.p("f"), 0o666))
		e.as(alice, func() {
			ts := []unix.Timespec{unix.NsecToTimespec(past), unix.NsecToTimespec(past)}
			e.want(unix.UtimesNanoAt(unix.AT_FDCWD, e.p("f"), ts, 0), unix.EPERM)
			half := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_OMIT}}
			e.want(unix.UtimesNanoAt(unix.AT_FDCWD, e.p("f"), half, 0), unix.EPERM)
		})
	}},
	{"now by one who may write is allowed, by others EACCES", func(e *env) {
		e.file("f", "")
		e.ok(unix.Chmod(e.p("f"), 0o666))
		now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
		e.as(alice, func() { e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, e.p("f"), now, 0)) })
		e.ok(unix.Chmod(e.p("f"), 0o644))
		e.as(alice, func() { e.want(unix.UtimesNanoAt(unix.AT_FDCWD, e.p("f"), now, 0), unix.EACCES) })
	}},
	{"by the owner of a file that nobody may write", func(e *env) {
		e.file("f", "")
		e.own("f", alice)
		e.ok(unix.Chmod(e.p("f"), 0))
		e.as(alice, func() { e.utimes("f", past, past) })
	}},
	{"of a symlink itself", func(e *env) {
		e.file("f", "")
		e.ok(unix.Symlink("f", e.p("l")))
		e.utimes("l", past, past)
		e.check(timesOf(e.stat("l")).m == past && timesOf(e.stat("f")).m != past, "wrong inode")
	}},
	{"changes ctime", func(e *env) {
		e.file("f", "")
		e.age("f")
		before := timesOf(e.stat("f"))
		e.utimes("f", past, past)
		e.check(timesOf(e.stat("f")).c > before.c, "ctime stayed")
	}},
	{"missing is ENOENT", func(e *env) {
		ts := []unix.Timespec{{}, {}}
		e.want(unix.UtimesNanoAt(unix.AT_FDCWD, e.p("f"), ts, 0), unix.ENOENT)
	}},
}

func (e *env) utimes(name string, a, m int64) {
	e.utimesRaw(name, timespec(a), timespec(m))
}

func (e *env) utimesRaw(name string, a, m unix.Timespec) {
	e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, e.p(name), []unix.Timespec{a, m}, unix.AT_SYMLINK_NOFOLLOW))
}

func timespec(ns int64) unix.Timespec {
	s, n := ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return unix.Timespec{Sec: s, Nsec: n}
}

var statRows = []row{
	{"fields agree between stat, fstat and statx", func(e *env) {
		e.file("f", strings.Repeat("x", 5000))
		fd := e.open("f", unix.O_RDONLY, 0)
		a, b := e.stat("f"), e.fstat(fd)
		e.check(a == b, "%+v, %+v", a, b)
		var x unix.Statx_t
		e.ok(unix.Statx(unix.AT_FDCWD, e.p("f"), 0, unix.STATX_BASIC_STATS, &x))
		e.check(x.Ino == a.Ino && x.Size == 5000 && uint32(x.Mode) == a.Mode && x.Nlink == 1, "%+v", x)
		e.check(a.Blksize >= 512, "blksize %d", a.Blksize)
	}},
	{"blocks count what is stored", func(e *env) {
		e.file("f", strings.Repeat("x", 1<<20))
		fd := e.open("f", unix.O_RDWR, 0)
		e.ok(unix.Fsync(fd))
		st := e.stat("f")
		e.check(st.Blocks >= 2048 && st.Blocks < 2300, "%d blocks of 512 bytes for 1 MiB", st.Blocks)
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<19))
		st = e.stat("f")
		e.check(st.Blocks >= 1024 && st.Blocks < 1300, "%d blocks after half was punched", st.Blocks)
		e.ok(unix.Ftruncate(fd, 0))
		e.check(e.stat("f").Blocks < 64, "%d blocks of an empty file", e.stat("f").Blocks)
	}},
	{"inodes differ, and stay", func(e *env) {
		seen := map[uint64]bool{}
		for i := range 100 {
			name := fmt.Sprintf("f%d", i)
			e.file(name, "")
			ino := e.stat(name).Ino
			e.check(!seen[ino], "inode %d twice", ino)
			seen[ino] = true
		}
		a := e.stat("f0").Ino
		e.ok(unix.Rename(e.p("f0"), e.p("g")))
		e.check(e.stat("g").Ino == a, "inode changed with the name")
	}},
	{"the device is one", func(e *env) {
		e.mkdir("d", 0o755)
		e.file("d/f", "")
		e.check(e.stat(".").Dev == e.stat("d/f").Dev, "two devices")
	}},
	{"\"..\" leads up", func(e *env) {
		e.mkdir("a", 0o755)
		e.mkdir("a/b", 0o755)
		e.check(e.stat("a/b/..").Ino == e.stat("a").Ino && e.stat("a/b/../..").Ino == e.stat(".").Ino, "wrong parent")
	}},
	{"a missing component is ENOENT", func(e *env) {
		var st unix.Stat_t
		e.want(unix.Stat(e.p("no/such"), &st), unix.ENOENT)
		e.want(unix.Stat("", &st), unix.ENOENT)
	}},
}
