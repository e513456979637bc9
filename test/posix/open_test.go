//go:build linux

package posix

import (
	"runtime"

	"golang.org/x/sys/unix"
)

var openRows = []row{
	{"missing is ENOENT", func(e *env) { e.openErr("f", unix.O_RDONLY, 0, unix.ENOENT) }},
	{"O_CREAT makes a file of the mode", func(e *env) {
		e.open("f", unix.O_CREAT|unix.O_WRONLY, 0o640)
		e.mode("f", 0o640)
		e.size("f", 0)
		e.nlink("f", 1)
	}},
	{"O_CREAT keeps setuid, setgid and sticky", func(e *env) {
		e.open("f", unix.O_CREAT|unix.O_WRONLY, 0o7755)
		e.mode("f", 0o7755)
	}},
	{"O_CREAT honours the umask", func(e *env) {
		e.withUmask(0o027, func() { e.open("f", unix.O_CREAT|unix.O_WRONLY, 0o666) })
		e.mode("f", 0o640)
	}},
	{"O_CREAT on an existing file opens it", func(e *env) {
		e.file("f", "data")
		e.open("f", unix.O_CREAT|unix.O_RDWR, 0o600)
		e.mode("f", 0o644)
		e.content("f", "data")
	}},
	{"O_CREAT of mode 0 gives a descriptor that writes", func(e *env) {
		e.mkdir("d", 0o777)
		e.as(alice, func() {
			fd := e.open("d/f", unix.O_CREAT|unix.O_RDWR, 0)
			e.write(fd, "x")
			e.openErr("d/f", unix.O_RDONLY, 0, unix.EACCES)
		})
		e.size("d/f", 1)
	}},
	{"O_CREAT belongs to the caller", func(e *env) {
		e.mkdir("d", 0o777)
		e.as(alice, func() { e.open("d/f", unix.O_CREAT|unix.O_RDWR, 0o644) })
		st := e.stat("d/f")
		e.check(int(st.Uid) == alice.uid && int(st.Gid) == alice.gid, "owner %d:%d", st.Uid, st.Gid)
	}},
	{"O_EXCL on an existing file is EEXIST", func(e *env) {
		e.file("f", "")
		e.openErr("f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644, unix.EEXIST)
	}},
	{"O_EXCL on a dangling symlink is EEXIST", func(e *env) {
		e.ok(unix.Symlink("nowhere", e.p("l")))
		e.openErr("l", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644, unix.EEXIST)
		e.gone("nowhere")
	}},
	{"O_CREAT through a dangling symlink makes the target", func(e *env) {
		e.ok(unix.Symlink("target", e.p("l")))
		e.open("l", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.size("target", 0)
	}},
	{"O_EXCL makes one of many racers the winner", func(e *env) {
		won := make(chan bool)
		for range 16 {
			go func() {
				fd, err := unix.Open(e.p("f"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
				if err == nil {
					_ = unix.Close(fd)
				}
				won <- err == nil
			}()
		}
		winners := 0
		for range 16 {
			if <-won {
				winners++
			}
		}
		e.check(winners == 1, "%d winners", winners)
	}},
	{"O_TRUNC empties", func(e *env) {
		e.file("f", "data")
		e.open("f", unix.O_WRONLY|unix.O_TRUNC, 0)
		e.size("f", 0)
	}},
	{"O_TRUNC without write permission is EACCES and keeps the data", func(e *env) {
		e.file("f", "data")
		e.as(alice, func() { e.openErr("f", unix.O_WRONLY|unix.O_TRUNC, 0, unix.EACCES) })
		e.content("f", "data")
	}},
	{"a directory for writing is EISDIR", func(e *env) {
		e.mkdir("d", 0o755)
		e.openErr("d", unix.O_WRONLY, 0, unix.EISDIR)
		e.openErr("d", unix.O_RDWR, 0, unix.EISDIR)
	}},
	{"O_CREAT on a directory is EISDIR", func(e *env) {
		e.mkdir("d", 0o755)
		e.openErr("d", unix.O_CREAT|unix.O_RDWR, 0o644, unix.EISDIR)
	}},
	{"O_DIRECTORY on a file is ENOTDIR", func(e *env) {
		e.file("f", "")
		e.openErr("f", unix.O_RDONLY|unix.O_DIRECTORY, 0, unix.ENOTDIR)
	}},
	{"O_NOFOLLOW on a symlink is ELOOP", func(e *env) {
		e.file("f", "")
		e.ok(unix.Symlink("f", e.p("l")))
		e.openErr("l", unix.O_RDONLY|unix.O_NOFOLLOW, 0, unix.ELOOP)
	}},
	{"a component that is a file is ENOTDIR", func(e *env) {
		e.file("f", "")
		e.openErr("f/x", unix.O_RDONLY, 0, unix.ENOTDIR)
		e.openErr("f/x", unix.O_CREAT|unix.O_RDWR, 0o644, unix.ENOTDIR)
	}},
	{"a trailing slash on a file is ENOTDIR", func(e *env) {
		e.file("f", "")
		e.openErr("f/", unix.O_RDONLY, 0, unix.ENOTDIR)
	}},
	{"O_APPEND writes at the end, wherever the offset is", func(e *env) {
		e.file("f", "one")
		fd := e.open("f", unix.O_WRONLY|unix.O_APPEND, 0)
		_, err := unix.Seek(fd, 0, unix.SEEK_SET)
		e.ok(err)
		e.write(fd, "two")
		e.content("f", "onetwo")
	}},
	{"O_APPEND by two descriptors interleaves whole writes", func(e *env) {
		e.file("f", "")
		a, b := e.open("f", unix.O_WRONLY|unix.O_APPEND, 0), e.open("f", unix.O_WRONLY|unix.O_APPEND, 0)
		for range 50 {
			e.write(a, "aaaa\n")
			e.write(b, "bbbb\n")
		}
		e.size("f", 500)
		fd := e.open("f", unix.O_RDONLY, 0)
		e.check(e.pread(fd, 10, 0) == "aaaa\nbbbb\n", "begins %q", e.pread(fd, 10, 0))
	}},
	{"O_APPEND by many writers at once loses nothing", func(e *env) {
		e.file("f", "")
		errs := make(chan error)
		for range 8 {
			go func() {
				fd, err := unix.Open(e.p("f"), unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
				for i := 0; i < 100 && err == nil; i++ {
					_, err = unix.Write(fd, []byte("0123456789abcdef"))
				}
				_ = unix.Close(fd)
				errs <- err
			}()
		}
		for range 8 {
			e.ok(<-errs)
		}
		e.size("f", 8*100*16)
	}},
	{"reading a write-only descriptor is EBADF", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_WRONLY, 0o644)
		_, err := unix.Read(fd, make([]byte, 1))
		e.want(err, unix.EBADF)
	}},
	{"writing a read-only descriptor is EBADF", func(e *env) {
		e.file("f", "x")
		fd := e.open("f", unix.O_RDONLY, 0)
		_, err := unix.Write(fd, []byte("y"))
		e.want(err, unix.EBADF)
	}},
	{"O_DIRECT writes and reads whole blocks", func(e *env) {
		fd, err := unix.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0o644)
		if err == unix.EINVAL {
			e.skip("no O_DIRECT here")
		}
		e.ok(err)
		defer unix.Close(fd)
		p := aligned(8192)
		for i := range p {
			p[i] = byte(i * 7)
		}
		n, err := unix.Pwrite(fd, p, 4096)
		e.ok(err)
		e.check(n == len(p), "wrote %d", n)
		q := aligned(8192)
		n, err = unix.Pread(fd, q, 4096)
		e.ok(err)
		e.check(n == len(q) && string(p) == string(q), "read %d bytes, other data", n)
		e.size("f", 4096+8192)
	}},
	{"O_SYNC and O_DSYNC write", func(e *env) {
		for _, flag := range []int{unix.O_SYNC, unix.O_DSYNC} {
			fd := e.open("f", unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC|flag, 0o644)
			e.write(fd, "data")
			e.content("f", "data")
		}
	}},
	{"O_PATH and fstatat see the file", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_PATH, 0)
		e.check(e.fstat(fd).Size == 3, "size %d", e.fstat(fd).Size)
	}},
	{"a new descriptor starts at offset 0", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDONLY, 0)
		off, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		e.ok(err)
		e.check(off == 0, "offset %d", off)
	}},
	{"execute permission alone does not read", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Chmod(e.p("f"), 0o111))
		e.as(alice, func() { e.openErr("f", unix.O_RDONLY, 0, unix.EACCES) })
	}},
	{"O_NOATIME by another user is EPERM", func(e *env) {
		e.file("f", "abc")
		e.as(alice, func() { e.openErr("f", unix.O_RDONLY|unix.O_NOATIME, 0, unix.EPERM) })
	}},
}

// withUmask runs fn with a umask of its own thread's.
func (e *env) withUmask(mask int, fn func()) {
	done := make(chan any)
	go func() {
		runtime.LockOSThread()
		defer func() { done <- recover() }()
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			panic(failure{err.Error()})
		}
		unix.Umask(mask)
		fn()
	}()
	if v := <-done; v != nil {
		panic(v)
	}
}
