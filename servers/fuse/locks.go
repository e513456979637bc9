//go:build linux

package fuse

import (
	"errors"
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"zerofs/engine/locks"
)

// offsetMax is what the kernel calls the end of a lock that has none.
const offsetMax = math.MaxInt64

func (fs *fileSystem) owner(id uint64) locks.Owner {
	return locks.Owner{Client: fs.opts.Client, ID: id}
}

// lock is a request's lock as the table has it.
func (fs *fileSystem) lock(in *fuse.LkIn) locks.Lock {
	end := in.Lk.End
	if end >= offsetMax {
		end = math.MaxUint64
	}
	return locks.Lock{Owner: fs.owner(in.Owner), PID: in.Lk.Pid, Start: in.Lk.Start, End: end, Exclusive: in.Lk.Typ == unix.F_WRLCK}
}

// GetLk is fcntl(F_GETLK): the first lock in the way.
func (fs *fileSystem) GetLk(cancel <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	other, found := fs.opts.Locks.Test(in.NodeId, fs.lock(in))
	if !found {
		out.Lk = fuse.FileLock{Typ: unix.F_UNLCK}
		return r.answer("getlk", nil)
	}
	out.Lk = fuse.FileLock{Start: other.Start, End: min(other.End, offsetMax), Typ: unix.F_RDLCK}
	if other.Exclusive {
		out.Lk.Typ = unix.F_WRLCK
	}
	if other.Owner.Client == fs.opts.Client {
		out.Lk.Pid = other.PID // another client's means nothing here
	}
	return r.answer("getlk", nil)
}

// SetLk is fcntl(F_SETLK) and flock(LOCK_NB).
func (fs *fileSystem) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return fs.setLock(cancel, in, false)
}

// SetLkw is SetLk that waits. An interrupt ends the wait; the kernel starts it again if that is due.
func (fs *fileSystem) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return fs.setLock(cancel, in, true)
}

func (fs *fileSystem) setLock(cancel <-chan struct{}, in *fuse.LkIn, wait bool) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	r.prompt = wait
	t, l := fs.opts.Locks, fs.lock(in)
	var err error
	switch flock := in.LkFlags&fuse.LK_FLOCK != 0; {
	case in.Lk.Typ == unix.F_UNLCK && flock:
		t.Unflock(in.NodeId, l.Owner)
	case in.Lk.Typ == unix.F_UNLCK:
		t.Unset(in.NodeId, l.Owner, l.Start, l.End)
	case flock:
		err = t.Flock(r, in.NodeId, l.Owner, l.Exclusive, wait)
	default:
		fs.handles.used(in.Fh, in.NodeId, l.Owner)
		err = t.Set(r, in.NodeId, l, wait)
	}
	r.prompt = false // what was locked is answered
	switch {
	case errors.Is(err, locks.ErrWouldBlock):
		return refused(r.answer("setlk", nil), unix.EAGAIN)
	case errors.Is(err, locks.ErrDeadlock):
		return refused(r.answer("setlk", nil), unix.EDEADLK)
	}
	return r.answer("setlk", err)
}

// refused is the answer of a lock that was not had.
func refused(st fuse.Status, errno unix.Errno) fuse.Status {
	if st == fuse.OK {
		return fuse.Status(errno)
	}
	return st
}
