//go:build linux

package fuse

import (
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/hanwen/go-fuse/v2/fuse"

	"zerofs/engine"
)

// createTries is how often a name is created anew when somebody removes it before it is held.
const createTries = 8

// tell counts that the kernel is told of an inode, and fills in what it is told. The attributes are read after it was
// counted: then what others change meanwhile is told as well.
func (r *request) tell(ino engine.Ino, out *fuse.EntryOut) error {
	if err := r.fs.lookups.add(r, ino); err != nil {
		return err
	}
	a, err := r.fs.engine.GetAttr(r, ino)
	if err != nil {
		r.fs.lookups.forget(ino, 1)
		return err
	}
	fillEntry(out, ino, &a)
	return nil
}

// entry answers with an inode.
func (r *request) entry(op string, ino engine.Ino, out *fuse.EntryOut) fuse.Status {
	if err := r.tell(ino, out); err != nil {
		return r.answer(op, err)
	}
	st := r.answer(op, nil)
	if st != fuse.OK {
		r.fs.lookups.forget(ino, 1)
	}
	return st
}

// Lookup finds a name. One that is not there is remembered by the kernel as well.
func (fs *fileSystem) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	r := fs.begin(cancel, h)
	defer r.end()
	fs.counts.others.Add(1)
	ino, _, err := fs.engine.Lookup(r, r.cred(), r.ino(), name)
	if err == nil {
		return r.entry("lookup", ino, out)
	}
	if errors.Is(err, iofs.ErrNotExist) {
		out.NodeId, out.EntryValid, out.EntryValidNsec = 0, cacheFor, 0
		return r.answer("lookup", nil)
	}
	return r.answer("lookup", err)
}

// Forget takes back what Lookup and its like counted.
func (fs *fileSystem) Forget(nodeid, n uint64) { fs.lookups.forget(engine.Ino(nodeid), n) }

// create makes a name and counts its inode. An inode that was removed in between is made again.
func (r *request) create(op, name string, f engine.NewFile, out *fuse.EntryOut) (engine.Created, fuse.Status) {
	for try := 1; ; try++ {
		made, err := r.fs.engine.Create(r, r.cred(), r.ino(), name, f)
		if err == nil {
			err = r.tell(made.Ino, out)
			if errors.Is(err, iofs.ErrNotExist) && try < createTries {
				continue
			}
		}
		if err != nil {
			return made, r.answer(op, err)
		}
		st := r.answer(op, nil)
		if st != fuse.OK {
			r.fs.lookups.forget(made.Ino, 1)
		}
		return made, st
	}
}

// Mknod makes a file, FIFO, socket or device.
func (fs *fileSystem) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	_, st := r.create("mknod", name, engine.NewFile{
		Type: engine.FileType(in.Mode >> 12), Mode: in.Mode & 0o7777, Umask: in.Umask, Rdev: uint64(in.Rdev), Exclusive: true,
	}, out)
	return st
}

// Mkdir makes a directory.
func (fs *fileSystem) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	_, st := r.create("mkdir", name, engine.NewFile{Type: engine.TypeDir, Mode: in.Mode & 0o7777, Umask: in.Umask, Exclusive: true}, out)
	return st
}

// Symlink makes a symbolic link.
func (fs *fileSystem) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	r := fs.begin(cancel, h)
	defer r.end()
	fs.counts.others.Add(1)
	_, st := r.create("symlink", name, engine.NewFile{Type: engine.TypeSymlink, Mode: 0o777, Target: target, Exclusive: true}, out)
	return st
}

// Readlink reads a symbolic link's target.
func (fs *fileSystem) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	r := fs.begin(cancel, h)
	defer r.end()
	fs.counts.others.Add(1)
	target, err := fs.engine.Readlink(r, r.cred(), r.ino())
	return []byte(target), r.answer("readlink", err)
}

// Link gives an inode one more name.
func (fs *fileSystem) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	ino := engine.Ino(in.Oldnodeid)
	if _, _, _, err := fs.engine.Link(r, r.cred(), ino, r.ino(), name); err != nil {
		return r.answer("link", err)
	}
	return r.entry("link", ino, out)
}

// Unlink removes a name that is not a directory's.
func (fs *fileSystem) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	r := fs.begin(cancel, h)
	defer r.end()
	fs.counts.others.Add(1)
	_, _, err := fs.engine.Unlink(r, r.cred(), r.ino(), name)
	return r.answer("unlink", err)
}

// Rmdir removes an empty directory.
func (fs *fileSystem) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	r := fs.begin(cancel, h)
	defer r.end()
	fs.counts.others.Add(1)
	_, _, err := fs.engine.Rmdir(r, r.cred(), r.ino(), name)
	return r.answer("rmdir", err)
}

// Rename is renameat2(2), without RENAME_WHITEOUT.
func (fs *fileSystem) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	flags := engine.RenameFlags(in.Flags)
	if flags&^(engine.RenameNoReplace|engine.RenameExchange) != 0 {
		return r.answer("rename", fmt.Errorf("fuse: rename flags %#x: %w", in.Flags, iofs.ErrInvalid))
	}
	_, _, _, err := fs.engine.Rename(r, r.cred(), r.ino(), oldName, engine.Ino(in.Newdir), newName, flags)
	return r.answer("rename", err)
}
