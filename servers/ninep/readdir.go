package ninep

import (
	"math"

	"zerofs/engine"
)

// Offsets of a directory: 0 is its begin; an entry's offset is where what comes after it goes on. The
// engine's cookies come after those of "." and "..", and stay what they are while entries come and go.
const (
	offsetDot    = 1
	offsetDotDot = 2
)

// readdir does Treaddir. Only the type and path of an entry's qid are true: the version would take
// reading its attributes, and no client asks for that here.
//
//	Treaddir fid[4] offset[8] count[4]   Rreaddir count[4] data[count]: see appendDirent
func (r *request) readdir(*decoder) error {
	f, err := r.file(r.io.fid)
	if err != nil {
		return err
	}
	defer f.put()
	switch {
	case f.typ != engine.TypeDir:
		return errNotDir
	case !f.read:
		return errBadFid
	case r.io.count == 0:
		return errInvalid
	}
	l := &listing{p: r.Buffer.Payload(int(r.io.count))[:0]}
	if err := r.list(f, l); err != nil {
		return err
	}
	if l.full && len(l.p) == 0 {
		return errInvalid // not even one fits
	}
	r.data(len(l.p), msgTreaddir+1)
	return nil
}

// listing is the data of an Rreaddir.
type listing struct {
	p    []byte // within its capacity
	full bool
}

// add appends an entry if it fits, and reports whether it did.
func (l *listing) add(ino engine.Ino, typ engine.FileType, offset uint64, name string) bool {
	if len(l.p)+direntSize(name) > cap(l.p) {
		l.full = true
		return false
	}
	l.p = appendDirent(l.p, qid{typ: qidType(typ), path: uint64(ino)}, offset, typ, name)
	return true
}

// list fills in the entries after the offset.
func (r *request) list(f *fid, l *listing) error {
	off := r.io.off
	if off < offsetDot && !l.add(f.ino, engine.TypeDir, offsetDot, ".") {
		return nil
	}
	if off < offsetDotDot {
		up := f.ino
		if f.ino != f.who.root {
			a, err := r.s.srv.FS.GetAttr(r.ctx, f.ino)
			if err != nil {
				return err
			}
			up = a.Parent
		}
		if !l.add(up, engine.TypeDir, offsetDotDot, "..") {
			return nil
		}
	}
	if off > math.MaxInt64 {
		return nil
	}
	after := max(off, offsetDotDot) - offsetDotDot
	return r.s.srv.FS.ReadDir(r.ctx, nil, f.ino, after, false, func(e *engine.Entry) bool {
		return l.add(e.Ino, e.Type, e.Cookie+offsetDotDot, e.Name)
	})
}
