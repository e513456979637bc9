package ninep

import (
	"context"
	"encoding/binary"
	"fmt"

	"zerofs/engine"
)

// place is where a walk has come to.
type place struct {
	ino  engine.Ino
	typ  engine.FileType
	dir  engine.Ino
	name string
}

// walk does Twalk: newfid becomes the file that the names lead to. With no names it becomes another
// fid of the same file. When the first name leads nowhere that is an error; when a later one does, the
// answer has the qids so far and newfid stays what it was.
//
//	Twalk fid[4] newfid[4] nwname[2] nwname*(wname[s])   Rwalk nwqid[2] nwqid*(qid[13])
func (r *request) walk(d *decoder) error {
	var m twalk
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	f, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer f.put()
	if m.fid == m.newFid && f.open {
		return fmt.Errorf("fid %d is open: %w", m.fid, errBusy)
	}
	r.out = append(r.out, 0, 0)
	at, steps := place{f.ino, f.typ, f.dir, f.name}, 0
	for _, name := range m.names {
		q, next, err := r.step(f.who, at.ino, name)
		if err != nil && steps == 0 {
			return err
		}
		if err != nil {
			break
		}
		r.out = appendQid(r.out, q)
		at, steps = next, steps+1
	}
	binary.LittleEndian.PutUint16(r.out[headerSize:], uint16(steps))
	if steps < len(m.names) {
		return nil
	}
	return r.arrive(&m, f, at)
}

// step goes from a directory to what a name in it means.
func (r *request) step(who *identity, dir engine.Ino, name string) (qid, place, error) {
	if err := checkName(name); err != nil {
		return qid{}, place{}, err
	}
	if name == ".." {
		return r.stepUp(who, dir)
	}
	ino, a, err := r.s.srv.FS.Lookup(r.ctx, who.cred, dir, name)
	if err != nil {
		return qid{}, place{}, err
	}
	p := place{ino: ino, typ: a.Type}
	if name != "." {
		p.dir, p.name = dir, name
	}
	return qidOf(ino, &a), p, nil
}

// stepUp goes to the parent of a directory, but not out of what was attached: nothing is above the
// root of that, and a directory that was moved out of it has no way on.
func (r *request) stepUp(who *identity, dir engine.Ino) (qid, place, error) {
	name := ".."
	if dir == who.root {
		name = "."
	}
	ino, a, err := r.s.srv.FS.Lookup(r.ctx, who.cred, dir, name)
	if err == nil && !r.s.srv.inside(r.ctx, ino, &a, who.root) {
		err = errNotExist
	}
	return qidOf(ino, &a), place{ino: ino, typ: a.Type}, err
}

// inside reports whether a directory is root or below it.
func (s *Server) inside(ctx context.Context, ino engine.Ino, a *engine.Attr, root engine.Ino) bool {
	for root != engine.RootIno && ino != root {
		if ino == engine.RootIno || ino == a.Parent {
			return false
		}
		ino = a.Parent
		up, err := s.FS.GetAttr(ctx, ino)
		if err != nil {
			return false
		}
		a = &up
	}
	return true
}

// arrive makes the new fid of a walk.
func (r *request) arrive(m *twalk, from *fid, at place) error {
	f, err := r.s.newFid(from.who, at.ino, at.typ)
	if err != nil {
		return err
	}
	f.dir, f.name = at.dir, at.name
	if _, err := f.hold(r.ctx); err != nil {
		f.put()
		return err
	}
	if m.fid == m.newFid {
		if !r.s.fids.replace(m.fid, from, f) {
			err = errBadFid // it was clunked meanwhile, or became something else
		}
	} else if !r.s.fids.add(m.newFid, f) {
		err = errBusy
	}
	if err != nil {
		f.put()
	}
	return err
}

// clunk does Tclunk: the fid is gone, whatever the answer. An extended attribute that was written
// through it is set now.
//
//	Tclunk fid[4]   Rclunk
func (r *request) clunk(d *decoder) error {
	id := d.u32()
	if !d.ok() {
		return errInvalid
	}
	f := r.s.fids.remove(id)
	if f == nil {
		return errBadFid
	}
	defer f.put()
	if f.xattr != nil {
		return r.setXattr(f)
	}
	return nil
}

// remove does Tremove: the file goes, by the name that the fid was walked to, and the fid goes even
// if the file does not.
//
//	Tremove fid[4]   Rremove
func (r *request) remove(d *decoder) error {
	id := d.u32()
	if !d.ok() {
		return errInvalid
	}
	f := r.s.fids.remove(id)
	if f == nil {
		return errBadFid
	}
	defer f.put()
	if f.xattr != nil {
		return errInvalid
	}
	if err := r.stillNamed(f); err != nil {
		return err
	}
	return r.unlink(f.who.cred, f.dir, f.name, f.typ == engine.TypeDir)
}

// stillNamed reports why the name that a fid was walked to does not mean its file.
func (r *request) stillNamed(f *fid) error {
	if f.dir == 0 {
		return errBusy // a root, or reached by ".."
	}
	ino, _, err := r.s.srv.FS.Lookup(r.ctx, f.who.cred, f.dir, f.name)
	if err == nil && ino != f.ino {
		err = errNotExist
	}
	return err
}

func (r *request) unlink(c *engine.Cred, dir engine.Ino, name string, isDir bool) (err error) {
	if isDir {
		_, _, err = r.s.srv.FS.Rmdir(r.ctx, c, dir, name)
	} else {
		_, _, err = r.s.srv.FS.Unlink(r.ctx, c, dir, name)
	}
	return err
}
