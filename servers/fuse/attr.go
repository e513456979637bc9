//go:build linux

package fuse

import (
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"zerofs/engine"
)

// cacheFor is how long, in seconds, the kernel may keep names and attributes. What others change is
// taken from it at once, so this only bounds what a lost notice would cost.
const cacheFor = 600

// blockSize is st_blksize: what programs that ask use for their buffers.
const blockSize = 4096

// mode is st_mode.
func mode(a *engine.Attr) uint32 { return uint32(a.Type)<<12 | a.Mode }

// seconds splits a time in Unix nanoseconds.
func seconds(ns int64) (sec uint64, nsec uint32) {
	s, n := ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return uint64(s), uint32(n)
}

// nanoseconds is the inverse of seconds; what lies beyond the years 1677 to 2262 becomes their end.
func nanoseconds(sec uint64, nsec uint32) int64 {
	s, n := int64(sec), int64(nsec)
	const last = math.MaxInt64 / 1_000_000_000
	switch {
	case s >= last:
		return math.MaxInt64
	case s <= -last:
		return math.MinInt64
	}
	return s*1e9 + n
}

// fill writes attributes as the protocol has them.
func fill(out *fuse.Attr, ino engine.Ino, a *engine.Attr) {
	out.Ino = uint64(ino)
	out.Size = a.Size
	out.Blocks = (a.Blocks + 511) / 512
	out.Atime, out.Atimensec = seconds(a.Atime)
	out.Mtime, out.Mtimensec = seconds(a.Mtime)
	out.Ctime, out.Ctimensec = seconds(a.Ctime)
	out.Mode = mode(a)
	out.Nlink = a.Nlink
	out.Uid, out.Gid = a.UID, a.GID
	out.Rdev = uint32(a.Rdev) // major and minor as the kernel's new_encode_dev has them, which is makedev's low half
	out.Blksize = blockSize
	out.Flags = 0
}

func fillEntry(out *fuse.EntryOut, ino engine.Ino, a *engine.Attr) {
	out.NodeId, out.Generation = uint64(ino), a.Generation
	out.EntryValid, out.AttrValid = cacheFor, cacheFor
	out.EntryValidNsec, out.AttrValidNsec = 0, 0
	fill(&out.Attr, ino, a)
}

func fillAttr(out *fuse.AttrOut, ino engine.Ino, a *engine.Attr) {
	out.AttrValid, out.AttrValidNsec = cacheFor, 0
	fill(&out.Attr, ino, a)
}

// GetAttr is stat.
func (fs *fileSystem) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	a, err := fs.engine.GetAttr(r, r.ino())
	if err == nil {
		fillAttr(out, r.ino(), &a)
	}
	return r.answer("getattr", err)
}

// Statx is statx: stat and the time of birth.
func (fs *fileSystem) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	a, err := fs.engine.GetAttr(r, r.ino())
	if err == nil {
		fillStatx(out, r.ino(), &a)
	}
	return r.answer("statx", err)
}

func fillStatx(out *fuse.StatxOut, ino engine.Ino, a *engine.Attr) {
	out.AttrValid, out.AttrValidNsec, out.Flags = cacheFor, 0, 0
	x := &out.Statx
	x.Mask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	x.Blksize = blockSize
	x.Nlink, x.Uid, x.Gid = a.Nlink, a.UID, a.GID
	x.Mode = uint16(mode(a))
	x.Ino, x.Size, x.Blocks = uint64(ino), a.Size, (a.Blocks+511)/512
	x.Atime.Sec, x.Atime.Nsec = seconds(a.Atime)
	x.Mtime.Sec, x.Mtime.Nsec = seconds(a.Mtime)
	x.Ctime.Sec, x.Ctime.Nsec = seconds(a.Ctime)
	x.Btime.Sec, x.Btime.Nsec = seconds(a.Btime)
	x.RdevMajor, x.RdevMinor = unix.Major(a.Rdev), unix.Minor(a.Rdev)
}

// SetAttr is chmod, chown, truncate and utimensat. With the writeback cache it also brings the times
// that the kernel kept: it has checked the caller, and may bring them late and as anybody.
func (fs *fileSystem) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	set := setAttr(&in.SetAttrInCommon)
	cred := r.cred()
	if fs.opts.WritebackCache && in.Valid&fuse.FATTR_CTIME != 0 && set.Mtime != nil && set.Mode == nil && set.UID == nil && set.GID == nil {
		if set.Size != nil {
			if _, _, err := fs.engine.SetAttr(r, cred, r.ino(), engine.SetAttr{Size: set.Size, Opened: set.Opened}); err != nil {
				return r.answer("truncate", err)
			}
			set.Size = nil
		}
		if set.AtimeNow && in.Mtime == in.Ctime && in.Mtimensec == in.Ctimensec { // both now, by the kernel's clock
			set.Atime, set.AtimeNow = set.Mtime, false
		}
		cred = &fs.creds.root
	}
	ch, _, err := fs.engine.SetAttr(r, cred, r.ino(), set)
	if err == nil {
		fillAttr(out, r.ino(), &ch.After)
	}
	return r.answer("setattr", err)
}

func setAttr(in *fuse.SetAttrInCommon) engine.SetAttr {
	var s engine.SetAttr
	if m, ok := in.GetMode(); ok {
		s.Mode = &m
	}
	if id, ok := in.GetUID(); ok {
		s.UID = &id
	}
	if id, ok := in.GetGID(); ok {
		s.GID = &id
	}
	if n, ok := in.GetSize(); ok {
		s.Size = &n
		_, s.Opened = in.GetFh()
	}
	switch {
	case in.Valid&fuse.FATTR_ATIME_NOW != 0:
		s.AtimeNow = true
	case in.Valid&fuse.FATTR_ATIME != 0:
		t := nanoseconds(in.Atime, in.Atimensec)
		s.Atime = &t
	}
	switch {
	case in.Valid&fuse.FATTR_MTIME_NOW != 0:
		s.MtimeNow = true
	case in.Valid&fuse.FATTR_MTIME != 0:
		t := nanoseconds(in.Mtime, in.Mtimensec)
		s.Mtime = &t
	}
	return s
}

// Access is access(2). The kernel asks only where it does not check permissions itself.
func (fs *fileSystem) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	want := in.Mask & 7
	got, err := fs.engine.Access(r, r.cred(), r.ino(), want)
	if err == nil && got&want != want {
		err = engine.ErrAccess
	}
	return r.answer("access", err)
}

// StatFs is statfs(2).
func (fs *fileSystem) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	r := fs.begin(cancel, h)
	defer r.end()
	fs.counts.others.Add(1)
	st, err := fs.engine.StatFS(r)
	if err == nil {
		size := uint64(st.BlockSize)
		if size == 0 {
			size = blockSize
		}
		out.Bsize, out.Frsize, out.NameLen = uint32(size), uint32(size), st.NameMax
		out.Blocks, out.Bfree, out.Bavail = st.Total/size, st.Free/size, st.Avail/size
		out.Files, out.Ffree = st.Files, st.FreeFiles
	}
	return r.answer("statfs", err)
}
