//go:build linux

package fuse

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"zerofs/engine"
	"zerofs/journal"
)

// accessOf returns the access that open flags ask for. A file that is opened to be executed need not
// be readable.
func accessOf(flags uint32) uint32 {
	if flags&fuse.FMODE_EXEC != 0 {
		return fuse.X_OK
	}
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return fuse.R_OK
	case unix.O_WRONLY:
		return fuse.W_OK
	}
	return fuse.R_OK | fuse.W_OK
}

// openFlags are what the kernel may do with an open file: keep its pages, since what others change is
// taken from it. What the clients of a block device write is not told. Where a read sets the access time
// (the first one after a change) the pages go, for of a read from the cache nobody is told either.
func (fs *fileSystem) openFlags(a *engine.Attr, flags uint32) uint32 {
	switch reads := accessOf(flags)&fuse.W_OK == 0 && flags&unix.O_NOATIME == 0; {
	case fs.opts.DirectIO || a.Device():
		return fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES
	case reads && a.Size > 0 && a.AtimeDue(fs.opts.Now().UnixNano()):
		return 0
	}
	return fuse.FOPEN_KEEP_CACHE
}

// open checks and truncates. The inode of an open file stays known to the kernel, and so is held.
func (r *request) open(ino engine.Ino, flags uint32) (openFlags uint32, err error) {
	a, _, err := r.fs.engine.Open(r, r.cred(), ino, accessOf(flags), flags&unix.O_TRUNC != 0)
	if err != nil {
		return 0, err
	}
	r.fs.engine.Release(ino)
	return r.fs.openFlags(&a, flags), nil
}

// Open opens a file.
func (fs *fileSystem) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	var err error
	out.Fh = fs.handles.next()
	out.OpenFlags, err = r.open(r.ino(), in.Flags)
	return r.answer("open", err)
}

// Create makes and opens a regular file, or opens the one that is there.
func (fs *fileSystem) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	made, st := r.create("create", name, engine.NewFile{
		Type: engine.TypeRegular, Mode: in.Mode & 0o7777, Umask: in.Umask, Exclusive: in.Flags&unix.O_EXCL != 0,
	}, &out.EntryOut)
	if st != fuse.OK {
		return st
	}
	out.Fh, out.OpenFlags = fs.handles.next(), fs.openFlags(&made.Attr, in.Flags)
	if !made.Existed { // whoever makes a file may use it, whatever its mode
		return st
	}
	var err error
	if out.OpenFlags, err = r.open(made.Ino, in.Flags); err != nil {
		fs.lookups.forget(made.Ino, 1)
		return r.answer("create", err)
	}
	out.AttrValid = 0 // it may have been truncated since
	return r.answer("create", nil)
}

// Release is the last close of an open file. What flock(2) and F_OFD_SETLK locked ends with it.
func (fs *fileSystem) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	t := fs.opts.Locks
	if t == nil {
		return
	}
	if in.ReleaseFlags&fuse.FUSE_RELEASE_FLOCK_UNLOCK != 0 {
		t.Unflock(in.NodeId, fs.owner(in.LockOwner))
	}
	for _, by := range fs.handles.released(in.Fh) {
		t.DropOwner(by.ino, by.owner)
	}
}

// Flush is any close of a descriptor: the process's byte-range locks on the file end with it. Without
// locks of ours the kernel need not call it again.
func (fs *fileSystem) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	if fs.opts.Locks == nil {
		return fuse.ENOSYS
	}
	fs.opts.Locks.DropOwner(in.NodeId, fs.owner(in.LockOwner))
	return fuse.OK
}

// data is what a READ is answered with. go-fuse gives it back with Done.
type data struct{ p []byte }

var datas = sync.Pool{New: func() any { return new(data) }}

// Bytes is fuse.ReadResult's.
func (d *data) Bytes([]byte) ([]byte, fuse.Status) { return d.p, fuse.OK }

// Size is fuse.ReadResult's.
func (d *data) Size() int { return len(d.p) }

// Done is fuse.ReadResult's.
func (d *data) Done() {
	d.p = nil
	datas.Put(d)
}

// Read reads into the answer's buffer.
func (fs *fileSystem) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.reads.Add(1)
	n, err := r.read(buf, int64(in.Offset), in.Flags&unix.O_NOATIME != 0)
	if st := r.answer("read", err); st != fuse.OK {
		return nil, st
	}
	fs.counts.readBytes.Add(int64(n))
	d := datas.Get().(*data)
	d.p = buf[:n]
	return d, fuse.OK
}

func (r *request) read(p []byte, off int64, noAtime bool) (int, error) {
	e := r.fs.engine
	if noAtime {
		return e.ReadNoAtime(r, r.ino(), p, off)
	}
	if n, ok := e.TryRead(r.ino(), p, off); ok {
		r.fs.counts.fastReads.Add(1)
		return n, nil
	}
	return e.Read(r, r.ino(), p, off)
}

// Write writes. What the kernel says of the end of a file that is open for appending may be old.
func (fs *fileSystem) Write(cancel <-chan struct{}, in *fuse.WriteIn, p []byte) (uint32, fuse.Status) {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.writes.Add(1)
	var cred *engine.Cred
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		cred = r.cred()
	}
	cached := in.WriteFlags&fuse.WRITE_CACHE != 0
	lsn, err := r.write(cred, p, int64(in.Offset), in.Flags&unix.O_APPEND != 0 && !cached)
	if err == nil && in.Flags&(unix.O_SYNC|unix.O_DSYNC) != 0 && !cached {
		err = fs.engine.Sync(r, lsn)
	}
	st := r.answer("write", err)
	if st != fuse.OK {
		return 0, st
	}
	fs.counts.writtenBytes.Add(int64(len(p)))
	return uint32(len(p)), fuse.OK
}

// write writes at off, or at what is the end now. The kernel has the data where it took the end to be; if others
// moved that, its pages are dropped.
func (r *request) write(c *engine.Cred, p []byte, off int64, appends bool) (journal.LSN, error) {
	if !appends {
		_, lsn, err := r.fs.engine.Write(r, c, r.ino(), p, off)
		return lsn, err
	}
	at, _, lsn, err := r.fs.engine.Append(r, c, r.ino(), p)
	if err == nil && at != off {
		r.fs.notes.changed(engine.Note{Ino: r.ino(), Data: true})
	}
	return lsn, err
}

// Fsync is fsync and fdatasync.
func (fs *fileSystem) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.syncs.Add(1)
	return r.answer("fsync", fs.engine.SyncInode(r, r.ino()))
}

// FsyncDir is fsync of a directory.
func (fs *fileSystem) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return fs.Fsync(cancel, in)
}

// Fallocate is fallocate(2): allocate, keep the size, punch a hole, zero a range.
func (fs *fileSystem) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	const known = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if in.Mode&^known != 0 {
		return r.answer("fallocate", engine.ErrUnsupported)
	}
	_, err := fs.engine.Fallocate(r, r.cred(), r.ino(), engine.FallocMode(in.Mode), int64(in.Offset), int64(in.Length))
	return r.answer("fallocate", err)
}

// Lseek is lseek(2) with SEEK_DATA and SEEK_HOLE; the kernel does the rest itself.
func (fs *fileSystem) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
		return r.answer("lseek", unix.EINVAL)
	}
	off, err := fs.engine.Seek(r, r.ino(), int64(in.Offset), in.Whence == unix.SEEK_HOLE)
	out.Offset = uint64(off)
	return r.answer("lseek", err)
}

// copyMax bounds one copy, so that an interrupt is seen and the answer's 32 bits suffice.
const copyMax = 256 << 20

// CopyFileRange is copy_file_range(2) within the volume.
func (fs *fileSystem) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	r := fs.begin(cancel, &in.InHeader)
	defer r.end()
	fs.counts.others.Add(1)
	n, _, err := fs.engine.CopyRange(r, r.cred(), r.ino(), int64(in.OffIn), engine.Ino(in.NodeIdOut), int64(in.OffOut), int64(min(in.Len, copyMax)))
	st := r.answer("copy_file_range", err)
	if st != fuse.OK {
		return 0, st
	}
	return uint32(n), fuse.OK
}
