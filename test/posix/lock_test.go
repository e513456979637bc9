//go:build linux

package posix

import (
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Open file description locks belong to the descriptor, so that one process can play several; they go the same
// way as a process's own.
func ofd(fd int, cmd int, typ int16, start, n int64) (unix.Flock_t, error) {
	l := unix.Flock_t{Type: typ, Whence: 0, Start: start, Len: n}
	err := unix.FcntlFlock(uintptr(fd), cmd, &l)
	return l, err
}

func (e *env) lockOK(fd int, typ int16, start, n int64) {
	_, err := ofd(fd, unix.F_OFD_SETLK, typ, start, n)
	e.ok(err)
}

func (e *env) lockBusy(fd int, typ int16, start, n int64) {
	_, err := ofd(fd, unix.F_OFD_SETLK, typ, start, n)
	e.want(err, unix.EAGAIN, unix.EACCES)
}

func (e *env) two() (a, b int) {
	e.file("f", "0123456789")
	return e.open("f", unix.O_RDWR, 0), e.open("f", unix.O_RDWR, 0)
}

var lockRows = []row{
	{"exclusive ranges exclude what overlaps", func(e *env) {
		a, b := e.two()
		e.lockOK(a, unix.F_WRLCK, 0, 5)
		e.lockBusy(b, unix.F_WRLCK, 4, 1)
		e.lockBusy(b, unix.F_RDLCK, 0, 0)
		e.lockOK(b, unix.F_WRLCK, 5, 5)
		e.lockBusy(a, unix.F_RDLCK, 0, 0)
	}},
	{"shared ones go together", func(e *env) {
		a, b := e.two()
		e.lockOK(a, unix.F_RDLCK, 0, 10)
		e.lockOK(b, unix.F_RDLCK, 5, 10)
		e.lockBusy(b, unix.F_WRLCK, 0, 1)
		e.lockOK(a, unix.F_UNLCK, 0, 5)
		e.lockOK(b, unix.F_WRLCK, 0, 5)
	}},
	{"unlocking the middle splits", func(e *env) {
		a, b := e.two()
		e.lockOK(a, unix.F_WRLCK, 0, 30)
		e.lockOK(a, unix.F_UNLCK, 10, 10)
		e.lockOK(b, unix.F_WRLCK, 10, 10)
		e.lockBusy(b, unix.F_WRLCK, 9, 1)
		e.lockBusy(b, unix.F_WRLCK, 20, 1)
	}},
	{"F_GETLK tells who is in the way", func(e *env) {
		a, b := e.two()
		e.lockOK(a, unix.F_WRLCK, 100, 50)
		l, err := ofd(b, unix.F_OFD_GETLK, unix.F_RDLCK, 0, 0)
		e.ok(err)
		e.check(l.Type == unix.F_WRLCK && l.Start == 100 && l.Len == 50, "%+v", l)
		l, err = ofd(b, unix.F_OFD_GETLK, unix.F_RDLCK, 0, 100)
		e.ok(err)
		e.check(l.Type == unix.F_UNLCK, "%+v", l)
	}},
	{"go with the last close of their descriptor", func(e *env) {
		e.file("f", "")
		b := e.open("f", unix.O_RDWR, 0)
		a, err := unix.Open(e.p("f"), unix.O_RDWR|unix.O_CLOEXEC, 0)
		e.ok(err)
		e.lockOK(a, unix.F_WRLCK, 0, 0)
		e.lockBusy(b, unix.F_WRLCK, 0, 0)
		e.ok(unix.Close(a))
		e.eventually(func() error { _, err := ofd(b, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 0); return err })
	}},
	{"a process's locks go with any close of the file", func(e *env) {
		a, b := e.two()
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 10}
		e.ok(unix.FcntlFlock(uintptr(a), unix.F_SETLK, &l))
		e.lockBusy(b, unix.F_WRLCK, 0, 10)
		c, err := unix.Open(e.p("f"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		e.ok(err)
		e.ok(unix.Close(c))
		e.lockOK(b, unix.F_WRLCK, 0, 10)
	}},
	{"one that waits gets it", func(e *env) {
		a, b := e.two()
		e.lockOK(a, unix.F_WRLCK, 0, 0)
		got := make(chan error)
		go func() {
			_, err := ofd(b, unix.F_OFD_SETLKW, unix.F_WRLCK, 0, 0)
			got <- err
		}()
		select {
		case err := <-got:
			e.fail("did not wait: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		e.lockOK(a, unix.F_UNLCK, 0, 0)
		e.ok(<-got)
	}},
	{"a wait ends with a signal", func(e *env) {
		a, b := e.two()
		e.lockOK(a, unix.F_WRLCK, 0, 0)
		tid, got := make(chan int), make(chan error)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tid <- unix.Gettid()
			_, err := ofd(b, unix.F_OFD_SETLKW, unix.F_WRLCK, 0, 0)
			got <- err
		}()
		id := <-tid
		ended := false
		go func() { time.Sleep(50 * time.Millisecond); _ = unix.Tgkill(unix.Getpid(), id, unix.SIGURG) }() // a handler of Go's, with SA_RESTART
		select {
		case err := <-got:
			e.check(errors.Is(err, unix.EINTR), "%v", err)
			ended = true
		case <-time.After(300 * time.Millisecond): // started again, as SA_RESTART says
		}
		e.lockOK(a, unix.F_UNLCK, 0, 0)
		if !ended {
			e.ok(<-got)
		}
	}},
	{"a lock needs the descriptor's access", func(e *env) {
		e.file("f", "")
		r, w := e.open("f", unix.O_RDONLY, 0), e.open("f", unix.O_WRONLY, 0)
		_, err := ofd(r, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 1)
		e.want(err, unix.EBADF)
		_, err = ofd(w, unix.F_OFD_SETLK, unix.F_RDLCK, 0, 1)
		e.want(err, unix.EBADF)
	}},
	{"flock excludes, shares and converts", func(e *env) {
		a, b := e.two()
		e.ok(unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB))
		e.want(unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
		e.want(unix.Flock(b, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
		e.ok(unix.Flock(a, unix.LOCK_SH|unix.LOCK_NB))
		e.ok(unix.Flock(b, unix.LOCK_SH|unix.LOCK_NB))
		e.want(unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
		e.ok(unix.Flock(b, unix.LOCK_UN))
		e.ok(unix.Flock(b, unix.LOCK_UN))
		e.ok(unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB))
	}},
	{"flock goes with the last close", func(e *env) {
		e.file("f", "")
		b := e.open("f", unix.O_RDWR, 0)
		a, err := unix.Open(e.p("f"), unix.O_RDWR|unix.O_CLOEXEC, 0)
		e.ok(err)
		e.ok(unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB))
		dup, err := unix.FcntlInt(uintptr(a), unix.F_DUPFD_CLOEXEC, 0)
		e.ok(err)
		e.ok(unix.Close(a))
		e.want(unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
		e.ok(unix.Close(dup))
		e.eventually(func() error { return unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB) })
	}},
	{"flock and fcntl do not see each other", func(e *env) {
		if e.fsType() == nfsMagic {
			e.skip("NFS makes one of the other")
		}
		a, b := e.two()
		e.ok(unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB))
		e.lockOK(b, unix.F_WRLCK, 0, 0)
	}},
}

const nfsMagic = 0x6969

// eventually wants fn to succeed soon: a close is told to the server without waiting for it.
func (e *env) eventually(fn func() error) {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			e.fail("%v", err)
		}
	}
}
