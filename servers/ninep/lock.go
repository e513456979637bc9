package ninep

import (
	"encoding/binary"
	"errors"
	"math"

	"zerofs/engine/locks"
)

// maxWaiting is how many requests of a connection may wait for a lock. They count as in flight, and
// the client has to have room for the message that gives the lock back. Who comes later is told to
// ask again.
const maxWaiting = 64

// lock does Tlock: byte-range locks of a process, and flock(2), which Linux sends as one of the whole
// file. A client that asks for it waits here until the lock is free; Tflush ends that.
//
//	Tlock fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s]   Rlock status[1]
func (r *request) lock(d *decoder) error {
	var m tlock
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	f, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer f.put()
	if !f.open {
		return errBadFid
	}
	l, err := r.s.lockOf(m.typ, m.start, m.length, m.proc)
	if err != nil {
		return err
	}
	if m.typ == lockUnlock {
		r.s.srv.Locks.Unset(uint64(f.ino), l.Owner, l.Start, l.End)
		r.out = append(r.out, lockSuccess)
		return nil
	}
	f.owned.add(l.Owner)
	switch err := r.setLock(f, l, m.flags&lockFlagBlock != 0); {
	case errors.Is(err, locks.ErrWouldBlock):
		r.out = append(r.out, lockBlocked)
	case err != nil:
		return err
	default:
		r.out = append(r.out, lockSuccess)
	}
	return nil
}

func (r *request) setLock(f *fid, l locks.Lock, wait bool) error {
	if wait && r.s.waiting.Add(1) > maxWaiting {
		wait = false
		r.s.waiting.Add(-1)
	}
	if wait {
		defer r.s.waiting.Add(-1)
	}
	return r.s.srv.Locks.Set(r.ctx, uint64(f.ino), l, wait)
}

// lockOf returns the lock that a message means. A length of 0 reaches to the end of every file.
func (s *session) lockOf(typ uint8, start, length uint64, proc uint32) (locks.Lock, error) {
	l := locks.Lock{Owner: s.owner(proc), PID: proc, Start: start, End: math.MaxUint64, Exclusive: typ == lockExclusive}
	if typ > lockUnlock {
		return l, errInvalid
	}
	if length > 0 && length-1 <= math.MaxUint64-start {
		l.End = start + length - 1
	}
	return l, nil
}

// getlock does Tgetlock: which lock is in the way of one.
//
//	Tgetlock fid[4] type[1] start[8] length[8] proc_id[4] client_id[s]
//	Rgetlock type[1] start[8] length[8] proc_id[4] client_id[s]
func (r *request) getlock(d *decoder) error {
	var m tgetlock
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	f, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer f.put()
	if !f.open {
		return errBadFid
	}
	l, err := r.s.lockOf(m.typ, m.start, m.length, m.proc)
	if err != nil {
		return err
	}
	m.typ, m.client = lockUnlock, ""
	if c, found := r.s.srv.Locks.Test(uint64(f.ino), l); found {
		m.typ, m.start, m.length, m.proc = lockShared, c.Start, 0, c.PID
		if c.Exclusive {
			m.typ = lockExclusive
		}
		if c.End != math.MaxUint64 {
			m.length = c.End - c.Start + 1
		}
	}
	le := binary.LittleEndian
	r.out = append(r.out, m.typ)
	r.out = le.AppendUint64(r.out, m.start)
	r.out = le.AppendUint64(r.out, m.length)
	r.out = le.AppendUint32(r.out, m.proc)
	r.out = appendString(r.out, m.client)
	return nil
}
