package ninep

import (
	"fmt"

	"zerofs/engine"
)

// make makes a file in the directory of a fid.
func (r *request) make(id uint32, name string, gid uint32, f engine.NewFile) error {
	if err := checkName(name); err != nil {
		return err
	}
	dir, err := r.file(id)
	if err != nil {
		return err
	}
	defer dir.put()
	f.Exclusive = true
	made, err := r.s.srv.FS.Create(r.ctx, dir.who.as(gid), dir.ino, name, f)
	if err != nil {
		return err
	}
	r.out = appendQid(r.out, qidOf(made.Ino, &made.Attr))
	return nil
}

// permBits are those of a mode that are not the type.
const permBits = 0o7777

// mkdir does Tmkdir.
//
//	Tmkdir dfid[4] name[s] mode[4] gid[4]   Rmkdir qid[13]
func (r *request) mkdir(d *decoder) error {
	var m tmkdir
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	return r.make(m.fid, m.name, m.gid, engine.NewFile{Type: engine.TypeDir, Mode: m.mode & permBits})
}

// symlink does Tsymlink.
//
//	Tsymlink fid[4] name[s] symtgt[s] gid[4]   Rsymlink qid[13]
func (r *request) symlink(d *decoder) error {
	var m tsymlink
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	return r.make(m.fid, m.name, m.gid, engine.NewFile{Type: engine.TypeSymlink, Mode: 0o777, Target: m.target})
}

// mknod does Tmknod, of regular files too.
//
//	Tmknod dfid[4] name[s] mode[4] major[4] minor[4] gid[4]   Rmknod qid[13]
func (r *request) mknod(d *decoder) error {
	var m tmknod
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	f := engine.NewFile{Type: engine.FileType(m.mode >> 12 & 0xf), Mode: m.mode & permBits}
	switch f.Type {
	case 0:
		f.Type = engine.TypeRegular
	case engine.TypeChar, engine.TypeBlock:
		f.Rdev = device(m.major, m.minor)
	case engine.TypeRegular, engine.TypeFIFO, engine.TypeSocket:
	default:
		return errInvalid
	}
	return r.make(m.fid, m.name, m.gid, f)
}

// device returns a device number as Linux's stat(2) shows it.
func device(major, minor uint32) uint64 {
	a, b := uint64(major), uint64(minor)
	return b&0xff | a&0xfff<<8 | b&^0xff<<12 | a&^0xfff<<32
}

// link does Tlink.
//
//	Tlink dfid[4] fid[4] name[s]   Rlink
func (r *request) link(d *decoder) error {
	var m twoFids
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	if err := checkName(m.name); err != nil {
		return err
	}
	dir, f, err := r.files(m.first, m.second)
	if err != nil {
		return err
	}
	defer dir.put()
	defer f.put()
	_, _, _, err = r.s.srv.FS.Link(r.ctx, dir.who.cred, f.ino, dir.ino, m.name)
	return err
}

// rename does Trename: the name that the fid was walked to becomes another. The fid stays, with
// the new name.
//
//	Trename fid[4] dfid[4] name[s]   Rrename
func (r *request) rename(d *decoder) error {
	var m twoFids
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	if err := checkName(m.name); err != nil {
		return err
	}
	f, dir, err := r.files(m.first, m.second)
	if err != nil {
		return err
	}
	defer f.put()
	defer dir.put()
	if err := r.stillNamed(f); err != nil {
		return err
	}
	if _, _, _, err = r.s.srv.FS.Rename(r.ctx, f.who.cred, f.dir, f.name, dir.ino, m.name, 0); err != nil {
		return err
	}
	if f.open {
		return nil // nothing asks an open fid for its name
	}
	g, err := r.s.newFid(f.who, f.ino, f.typ)
	if err != nil {
		return nil // renamed it is; the fid cannot be removed by its name any more
	}
	g.dir, g.name = dir.ino, m.name
	if _, err := g.hold(r.ctx); err != nil || !r.s.fids.replace(m.first, f, g) {
		g.put()
	}
	return nil
}

// renameat does Trenameat.
//
//	Trenameat olddirfid[4] oldname[s] newdirfid[4] newname[s]   Rrenameat
func (r *request) renameat(d *decoder) error {
	var m trenameat
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	for _, name := range [...]string{m.name, m.newName} {
		if err := checkName(name); err != nil {
			return err
		}
	}
	from, to, err := r.files(m.from, m.to)
	if err != nil {
		return err
	}
	defer from.put()
	defer to.put()
	_, _, _, err = r.s.srv.FS.Rename(r.ctx, from.who.cred, from.ino, m.name, to.ino, m.newName, 0)
	return err
}

// unlinkat does Tunlinkat.
//
//	Tunlinkat dirfd[4] name[s] flags[4]   Runlinkat
func (r *request) unlinkat(d *decoder) error {
	var m tunlinkat
	if m.decode(d); !d.ok() || m.flags&^unlinkDir != 0 {
		return errInvalid
	}
	if err := checkName(m.name); err != nil {
		return err
	}
	dir, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer dir.put()
	return r.unlink(dir.who.cred, dir.ino, m.name, m.flags&unlinkDir != 0)
}

// readlink does Treadlink.
//
//	Treadlink fid[4]   Rreadlink target[s]
func (r *request) readlink(d *decoder) error {
	id := d.u32()
	if !d.ok() {
		return errInvalid
	}
	f, err := r.file(id)
	if err != nil {
		return err
	}
	defer f.put()
	target, err := r.s.srv.FS.Readlink(r.ctx, f.who.cred, f.ino)
	if err != nil {
		return err
	}
	if len(target)+2+headerSize > r.s.msize {
		return fmt.Errorf("target of %d bytes, msize %d: %w", len(target), r.s.msize, errMessageSize)
	}
	r.out = appendString(r.out, target)
	return nil
}
