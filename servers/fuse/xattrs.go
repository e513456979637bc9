//go:build linux

package fuse

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"zerofs/engine"
)

// GetXAttr reads an extended attribute into dest, or tells its size.
func (fs *fileSystem) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	r := fs.begin(cancel, h)
	defer r.end()
	fs.counts.others.Add(1)
	v, err := fs.engine.GetXattr(r, r.cred(), r.ino(), name)
	return r.sized("getxattr", v, dest, err)
}

// ListXAttr lists the names of extended attributes, each with a NUL after it.
func (fs *fileSystem) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	r := fs.begin(cancel, h)
	defer r.end()
	fs.counts.others.Add(1)
	names, err := fs.engine.ListXattr(r, r.cred(), r.ino())
	var list []byte
	for _, name := range names {
		list = append(append(list, name...), 0)
	}
	return r.sized("listxattr", list, dest, err)
}

// sized answers with v if it fits. A buffer of no size asks for v's.
func (r *request) sized(op string, v, dest []byte, err error) (uint32, fuse.Status) {
	if err == nil && len(dest) > 0 && len(v) > len(dest) {
		err = engine.ErrRange
	}
	st := r.answer(op, err)
	if st == fuse.OK {
		copy(dest, v)
	}
	return uint32(len(v)), st
}

// SetXAttr writes an extended attribute.
func (fs *fileSystem) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	_, err := fs.engine.SetXattr(r, r.cred(), r.ino(), name, value, int(in.Flags))
	return r.answer("setxattr", err)
}

// RemoveXAttr removes an extended attribute.
func (fs *fileSystem) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	r := fs.begin(cancel, h)
	defer r.end()
	fs.counts.others.Add(1)
	_, err := fs.engine.RemoveXattr(r, r.cred(), r.ino(), name)
	return r.answer("removexattr", err)
}
