package ninep

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// xattr is an extended attribute, or the list of their names, that a fid stands for: read as a whole
// when the fid was walked to, or written piece by piece and set when it is clunked.
type xattr struct {
	name    string
	flags   int   // of setxattr(2)
	writes  bool  // it is to be set
	charged int64 // bytes counted in session.xattrs

	mu    sync.Mutex
	value []byte // guarded by mu while it is written
	got   int    // guarded by mu; bytes that were written
}

// xattrwalk does Txattrwalk: newfid becomes the value of an attribute, or with an empty name the
// list of names, each with a zero behind it.
//
//	Txattrwalk fid[4] newfid[4] name[s]   Rxattrwalk size[8]
func (r *request) xattrwalk(d *decoder) error {
	var m txattrwalk
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	f, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer f.put()
	value, err := r.xattrValue(f, m.name)
	if err != nil {
		return err
	}
	g, err := r.s.newXattr(f, &xattr{name: m.name, value: value, charged: int64(len(value))})
	if err != nil {
		return err
	}
	if m.fid == m.newFid {
		if !r.s.fids.replace(m.fid, f, g) {
			err = errBadFid
		}
	} else if !r.s.fids.add(m.newFid, g) {
		err = errBusy
	}
	if err != nil {
		g.put()
		return err
	}
	r.out = binary.LittleEndian.AppendUint64(r.out, uint64(len(value)))
	return nil
}

// xattrValue returns the value of an attribute, or the names of all.
func (r *request) xattrValue(f *fid, name string) ([]byte, error) {
	if name != "" {
		return r.s.srv.FS.GetXattr(r.ctx, f.who.cred, f.ino, name)
	}
	names, err := r.s.srv.FS.ListXattr(r.ctx, f.who.cred, f.ino)
	if err != nil {
		return nil, err
	}
	var list []byte
	for _, n := range names {
		list = append(append(list, n...), 0)
	}
	if len(list) > maxXattr {
		return nil, errTooBig
	}
	return list, nil
}

// newXattr returns a fid for an attribute of f's file.
func (s *session) newXattr(f *fid, x *xattr) (*fid, error) {
	if !s.xattrs.take(x.charged) {
		return nil, fmt.Errorf("values of extended attributes: %w", errNoMemory)
	}
	g, err := s.newFid(f.who, f.ino, f.typ)
	if err != nil {
		s.xattrs.free(x.charged)
		return nil, err
	}
	g.xattr = x
	return g, nil
}

// xattrcreate does Txattrcreate: the fid becomes an attribute that is to be written.
//
//	Txattrcreate fid[4] name[s] attr_size[8] flags[4]   Rxattrcreate
func (r *request) xattrcreate(d *decoder) error {
	var m txattrcreate
	if m.decode(d); !d.ok() || m.flags&^(xattrCreate|xattrReplace) != 0 {
		return errInvalid
	}
	if m.size > maxXattr {
		return errTooBig
	}
	f, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer f.put()
	g, err := r.s.newXattr(f, &xattr{name: m.name, flags: int(m.flags), writes: true, charged: int64(m.size), value: make([]byte, m.size)})
	if err != nil {
		return err
	}
	if !r.s.fids.replace(m.fid, f, g) {
		g.put()
		return errBadFid
	}
	return nil
}

// setXattr sets the attribute that was written through a fid. Linux removes one by replacing it with
// nothing.
func (r *request) setXattr(f *fid) error {
	x := f.xattr
	if !x.writes {
		return nil
	}
	x.mu.Lock()
	got := x.got
	x.mu.Unlock()
	switch {
	case got < len(x.value):
		return fmt.Errorf("extended attribute of %d bytes, %d were written: %w", len(x.value), got, errInvalid)
	case len(x.value) == 0 && x.flags == xattrReplace:
		_, err := r.s.srv.FS.RemoveXattr(r.ctx, f.who.cred, f.ino, x.name)
		return err
	}
	_, err := r.s.srv.FS.SetXattr(r.ctx, f.who.cred, f.ino, x.name, x.value, x.flags)
	return err
}

// read copies what there is of the value at off to p.
func (x *xattr) read(p []byte, off int64) (int, error) {
	if x.writes {
		return 0, errBadFid
	}
	return copy(p, x.value[min(off, int64(len(x.value))):]), nil
}

// write takes a piece of the value. Pieces come in their order.
func (x *xattr) write(p []byte, off uint64) error {
	if !x.writes {
		return errBadFid
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if off != uint64(x.got) || len(p) > len(x.value)-x.got {
		return errInvalid
	}
	x.got += copy(x.value[x.got:], p)
	return nil
}
