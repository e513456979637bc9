//go:build linux

package fuse

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"zerofs/engine"
)

// Offsets before those of entries, which are their cookies and two.
const (
	afterDot    = 1
	afterDotDot = 2
)

// OpenDir opens a directory. The kernel keeps its listing like a file's pages.
func (fs *fileSystem) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	got, err := fs.engine.Access(r, r.cred(), r.ino(), fuse.R_OK)
	if err == nil && got&fuse.R_OK == 0 {
		err = engine.ErrAccess
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
	return r.answer("opendir", err)
}

// ReadDir lists names.
func (fs *fileSystem) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	full, err := r.dots(in.Offset, func(e fuse.DirEntry) bool { return out.AddDirEntry(e) })
	if err == nil && !full {
		err = fs.engine.ReadDir(r, nil, r.ino(), cookieAfter(in.Offset), false, func(e *engine.Entry) bool {
			return out.AddDirEntry(dirEntry(e))
		})
	}
	return r.answer("readdir", err)
}

// ReadDirPlus lists names with their attributes, and counts the inodes that it tells.
func (fs *fileSystem) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	full, err := r.dots(in.Offset, func(e fuse.DirEntry) bool { return out.AddDirLookupEntry(e) != nil })
	var told []engine.Ino
	if err == nil && !full {
		err = fs.engine.ReadDir(r, nil, r.ino(), cookieAfter(in.Offset), true, func(e *engine.Entry) bool {
			entry := out.AddDirLookupEntry(dirEntry(e))
			if entry == nil {
				return false
			}
			// One that has gone meanwhile keeps node id 0: a name without attributes.
			if r.tell(e.Ino, entry) == nil {
				told = append(told, e.Ino)
			}
			return true
		})
	}
	st := r.answer("readdirplus", err)
	if st != fuse.OK {
		for _, ino := range told {
			fs.lookups.forget(ino, 1)
		}
	}
	return st
}

// dots lists "." and "..", with node id 0: the kernel knows them. It reports whether there was no more room.
func (r *request) dots(off uint64, add func(fuse.DirEntry) bool) (full bool, err error) {
	if off >= afterDotDot {
		return false, nil
	}
	a, err := r.fs.engine.GetAttr(r, r.ino())
	if err != nil {
		return false, err
	}
	if off < afterDot && !add(fuse.DirEntry{Name: ".", Ino: uint64(r.ino()), Mode: unix.S_IFDIR, Off: afterDot}) {
		return true, nil
	}
	parent := a.Parent
	if parent == 0 {
		parent = r.ino()
	}
	return !add(fuse.DirEntry{Name: "..", Ino: uint64(parent), Mode: unix.S_IFDIR, Off: afterDotDot}), nil
}

func cookieAfter(off uint64) uint64 {
	if off < afterDotDot {
		return 0
	}
	return off - afterDotDot
}

func dirEntry(e *engine.Entry) fuse.DirEntry {
	return fuse.DirEntry{Name: e.Name, Ino: uint64(e.Ino), Mode: uint32(e.Type) << 12, Off: e.Cookie + afterDotDot}
}
