package ninep

import (
	"encoding/binary"
	"errors"
	"io/fs"

	"zerofs/engine"
)

// openMode is what the flags of an open ask for.
type openMode struct {
	access                        uint32 // bits that the file has to grant
	read, write, append, dataSync bool
	truncate                      bool
}

// parseOpen reads the flags of Tlopen and Tlcreate. Those that mean nothing to a server (nonblock,
// direct, largefile, close-on-exec ...) pass.
func parseOpen(flags uint32) (openMode, error) {
	m := openMode{append: flags&openAppend != 0, dataSync: flags&(openDataSync|openSync) != 0, truncate: flags&openTruncate != 0}
	switch flags & openAccess {
	case 0:
		m.read, m.access = true, engine.AccessRead
	case 1:
		m.write, m.access = true, engine.AccessWrite
	case 2:
		m.read, m.write, m.access = true, true, engine.AccessRead|engine.AccessWrite
	default:
		return m, errInvalid
	}
	if m.truncate {
		m.access |= engine.AccessWrite
	}
	return m, nil
}

// lopen does Tlopen.
//
//	Tlopen fid[4] flags[4]   Rlopen qid[13] iounit[4]
func (r *request) lopen(d *decoder) error {
	var m tlopen
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	mode, err := parseOpen(m.flags)
	if err != nil {
		return err
	}
	f, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer f.put()
	if f.open {
		return errBusy
	}
	if err := openable(f.typ, m.flags, mode); err != nil {
		return err
	}
	g, err := r.s.newFid(f.who, f.ino, f.typ)
	if err != nil {
		return err
	}
	g.dir, g.name = f.dir, f.name
	a, err := r.openAs(g, mode)
	if err == nil && !r.s.fids.replace(m.fid, f, g) {
		err = errBadFid // it was clunked meanwhile, or opened by another message
	}
	if err != nil {
		g.put()
		return err
	}
	r.opened(f.ino, &a)
	return nil
}

// openable reports why a file of a type cannot be opened so. Clients open what is neither file nor
// directory themselves.
func openable(t engine.FileType, flags uint32, mode openMode) error {
	switch {
	case t == engine.TypeDir && (mode.write || mode.truncate):
		return errIsDir
	case t == engine.TypeDir:
		return nil
	case flags&openDirectory != 0:
		return errNotDir
	case t == engine.TypeSymlink:
		return errLoop
	case t != engine.TypeRegular:
		return errNoDevice
	}
	return nil
}

// openAs has the engine open a fid's file. A program that may be executed but not read is read by
// the client's kernel, which only it can tell from a reader: it may, as over NFS.
func (r *request) openAs(f *fid, mode openMode) (engine.Attr, error) {
	fsys := r.s.srv.FS
	a, lsn, err := fsys.Open(r.ctx, f.who.cred, f.ino, mode.access, mode.truncate)
	if errors.Is(err, engine.ErrAccess) && mode.access == engine.AccessRead && f.typ == engine.TypeRegular {
		a, lsn, err = fsys.Open(r.ctx, f.who.cred, f.ino, engine.AccessExec, false)
	}
	if err != nil {
		return a, err
	}
	f.held = true
	f.opened(mode)
	if mode.dataSync && mode.truncate {
		err = fsys.Sync(r.ctx, lsn)
	}
	return a, err
}

func (f *fid) opened(mode openMode) {
	f.open, f.read, f.write, f.append, f.dataSync = true, mode.read, mode.write, mode.append, mode.dataSync
}

// opened appends what Rlopen and Rlcreate say. iounit 0 leaves the size of reads and writes to
// msize.
func (r *request) opened(ino engine.Ino, a *engine.Attr) {
	r.out = appendQid(r.out, qidOf(ino, a))
	r.out = binary.LittleEndian.AppendUint32(r.out, 0)
}

// lcreate does Tlcreate: a regular file is made in the fid's directory, or opened if it is there and
// need not be new, and the fid becomes that file.
//
//	Tlcreate fid[4] name[s] flags[4] mode[4] gid[4]   Rlcreate qid[13] iounit[4]
func (r *request) lcreate(d *decoder) error {
	var m tlcreate
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	mode, err := parseOpen(m.flags)
	if err != nil {
		return err
	}
	if err := checkName(m.name); err != nil {
		return err
	}
	dir, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer dir.put()
	if dir.open {
		return errBusy
	}
	f, a, err := r.create(dir, &m, mode)
	if err != nil {
		return err
	}
	if !r.s.fids.replace(m.fid, dir, f) {
		f.put()
		return errBadFid
	}
	r.opened(f.ino, &a)
	return nil
}

// create makes or opens the file of a Tlcreate. One that goes between the two steps is made anew, as
// if it had gone before.
func (r *request) create(dir *fid, m *tlcreate, mode openMode) (*fid, engine.Attr, error) {
	for {
		made, err := r.s.srv.FS.Create(r.ctx, dir.who.as(m.gid), dir.ino, m.name, engine.NewFile{
			Type: engine.TypeRegular, Mode: m.mode & permBits, Exclusive: m.flags&openExclusive != 0,
		})
		if err != nil {
			return nil, engine.Attr{}, err
		}
		f, err := r.s.newFid(dir.who, made.Ino, engine.TypeRegular)
		if err != nil {
			return nil, engine.Attr{}, err
		}
		f.dir, f.name = dir.ino, m.name
		a, err := r.openMade(f, made.Existed, mode)
		if err == nil {
			return f, a, nil
		}
		f.put()
		if !errors.Is(err, fs.ErrNotExist) || r.ctx.Err() != nil {
			return nil, a, err
		}
	}
}

// openMade opens the file that Create returned: a new one whatever its mode says, an existing one as
// Tlopen does.
func (r *request) openMade(f *fid, existed bool, mode openMode) (engine.Attr, error) {
	if existed {
		return r.openAs(f, mode)
	}
	a, err := r.s.srv.FS.Hold(r.ctx, f.ino)
	if err != nil {
		return a, err
	}
	f.held = true
	f.opened(mode)
	return a, nil
}
