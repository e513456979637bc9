//go:build linux

package fuse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"zerofs/engine"
)

// Sizes and numbers that the kernel is given.
const (
	maxRequest    = 1 << 20 // bytes of a READ or WRITE
	maxBackground = 256     // requests without a process that waits: reading ahead, writing back, asynchronous I/O
)

// fileSystem maps requests to the engine. Its methods are go-fuse's RawFileSystem; which of them the
// kernel uses follows from the capabilities in mountOptions.
type fileSystem struct {
	fuse.RawFileSystem // answers ENOSYS: tmpfile, ioctl

	opts    Options
	engine  Engine
	log     *slog.Logger
	creds   creds
	lookups lookups
	notes   *notices // set before the first request
	handles handles
	counts  counters

	life     context.Context // ends when requests are not waited for any longer
	endLife  context.CancelCauseFunc
	watchers sync.WaitGroup
}

type counters struct {
	reads, fastReads, writes, syncs, others, failed, readBytes, writtenBytes atomic.Int64
}

// String is the name of the file system's type, after "fuse.".
func (fs *fileSystem) String() string { return "zerofs" }

// Server is a mount that is being served.
type Server struct {
	fs     *fileSystem
	server *fuse.Server
	watch  func()        // ends the engine's notes
	done   chan struct{} // closed when the kernel has gone and nothing is in progress
	left   atomic.Bool   // Unmount took the mount out of the tree
}

// errUnmounted ends requests that outlive their mount.
var errUnmounted = errors.New("fuse: unmounted")

// Mount mounts and begins to serve. A dead mount that an earlier process left at the mountpoint is
// removed first.
func Mount(ctx context.Context, o Options) (*Server, error) {
	fs := newFileSystem(o)
	if err := prepare(ctx, o.Mountpoint, fs.log); err != nil {
		return nil, fmt.Errorf("fuse: %s: %w", o.Mountpoint, err)
	}
	srv, err := fuse.NewServer(fs, o.Mountpoint, mountOptions(&fs.opts, fs.log))
	if err != nil {
		fs.endLife(errUnmounted)
		return nil, fmt.Errorf("fuse: mount on %s: %w", o.Mountpoint, err)
	}
	s := &Server{fs: fs, server: srv, done: make(chan struct{})}
	fs.notes = newNotices(fs, srv)
	s.watch = o.Engine.Watch(o.Client, fs.notes.changed)
	go s.serve()
	return s, nil
}

func newFileSystem(o Options) *fileSystem {
	fs := &fileSystem{RawFileSystem: fuse.NewDefaultRawFileSystem(), opts: o, engine: o.Engine, log: o.Logger}
	if fs.log == nil {
		fs.log = slog.New(slog.DiscardHandler)
	}
	fs.creds = creds{status: o.Status, now: o.Now}
	fs.lookups.engine = o.Engine
	fs.life, fs.endLife = context.WithCancelCause(engine.WithOrigin(context.Background(), o.Client))
	return fs
}

// mountOptions say what the kernel is told and asked for.
//
//   - POSIX_ACL: the kernel checks permissions as for a disk's file system, ACLs included. Without it
//     a path walk through names that it remembers would be checked by nobody.
//   - DONT_MASK: the umask comes along, since a default ACL takes its place.
//   - HANDLE_KILLPRIV_V2: setuid and setgid are cleared here; otherwise each write asks for
//     security.capability before.
//   - EXPLICIT_INVAL_DATA: pages are dropped by our notices, and not because a file's own writer changed its time.
//   - splice: the library splices from files only, and what is read here is in memory: a copy, then, and no pipes.
func mountOptions(o *Options, log *slog.Logger) *fuse.MountOptions {
	caps := uint64(fuse.CAP_DONT_MASK | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_ASYNC_DIO |
		fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_DIRECT_IO_ALLOW_MMAP)
	if o.WritebackCache {
		caps |= fuse.CAP_WRITEBACK_CACHE
	}
	m := &fuse.MountOptions{
		AllowOther: o.AllowOther, FsName: o.Source, Name: "zerofs",
		MaxWrite: maxRequest, MaxReadAhead: maxRequest, MaxBackground: maxBackground,
		EnableLocks: o.Locks != nil, EnableAcl: true, EnableSymlinkCaching: true, ExplicitDataCacheControl: true, DisableSplice: true,
		ExtraCapabilities: caps,
		Logger:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		PanicHandler: func(v any) fuse.Status {
			log.Error("request panicked", "panic", v)
			return fuse.EIO
		},
	}
	if unix.Geteuid() == 0 {
		m.DirectMountStrict, m.DirectMountFlags = true, mountFlags(o)
	} else if o.ReadOnly || o.NoExec {
		if o.ReadOnly {
			m.Options = append(m.Options, "ro")
		}
		if o.NoExec {
			m.Options = append(m.Options, "noexec")
		}
	}
	return m
}

// mountFlags are those of mount(2). MS_MGC_VAL means nothing to the kernel and to the library that
// zero is meant.
func mountFlags(o *Options) uintptr {
	flags := uintptr(unix.MS_MGC_VAL)
	for _, f := range []struct {
		on   bool
		flag uintptr
	}{{o.ReadOnly, unix.MS_RDONLY}, {o.NoSUID, unix.MS_NOSUID}, {o.NoDev, unix.MS_NODEV}, {o.NoExec, unix.MS_NOEXEC}} {
		if f.on {
			flags |= f.flag
		}
	}
	return flags
}

// prepare removes mounts whose server has died without unmounting, and wants a directory below them.
func prepare(ctx context.Context, dir string, log *slog.Logger) error {
	for range 16 {
		var st unix.Stat_t
		err := unix.Stat(dir, &st)
		var fs unix.Statfs_t
		if err == nil && errors.Is(unix.Statfs(dir, &fs), unix.ENOTCONN) {
			err = unix.ENOTCONN // stat was answered from what the kernel remembers of the dead mount
		}
		if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return unix.ENOTDIR
		}
		if !errors.Is(err, unix.ENOTCONN) {
			return err
		}
		log.Warn("a dead mount is removed", "mountpoint", dir)
		if err := detach(ctx, dir); err != nil {
			return err
		}
	}
	return unix.EBUSY
}

// detach takes the mount out of the tree; it ends when the last file of it is closed.
func detach(ctx context.Context, dir string) error {
	if unix.Geteuid() == 0 {
		return unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if out, err := exec.CommandContext(ctx, "fusermount3", "-u", "-z", "--", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("fusermount3 -u -z: %w: %s", err, out)
	}
	return nil
}

// serve runs until the kernel has gone, and gives back what it held.
func (s *Server) serve() {
	s.server.Serve()
	s.watch()
	s.fs.notes.stop()
	s.fs.endLife(errUnmounted)
	s.fs.watchers.Wait()
	s.fs.lookups.releaseAll()
	if t := s.fs.opts.Locks; t != nil {
		t.DropClient(s.fs.opts.Client)
	}
	close(s.done)
}

// Done is closed when the mount has ended, by Unmount or by somebody else.
func (s *Server) Done() <-chan struct{} { return s.done }

// Unmount has the kernel write back what it holds, unmounts, and waits until everything is given back.
// A mount that is in use leaves the tree at once and is waited for until ctx ends; whoever uses it
// then is cut off, and ctx's error returned.
func (s *Server) Unmount(ctx context.Context) error {
	dir := s.fs.opts.Mountpoint
	select {
	case <-s.done:
		return nil
	default:
	}
	unmounted := make(chan error, 1) // unmounting writes back, which takes requests and so may take time
	go func() { unmounted <- s.unmount(ctx, dir) }()
	var err error
	under := false // unmounting has not returned
	select {
	case err = <-unmounted:
	case <-s.done:
		return nil
	case <-ctx.Done():
		err, under = context.Cause(ctx), true
	}
	if err == nil {
		select {
		case <-s.done:
			return nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	s.fs.endLife(errUnmounted) // what waits for lease, locks or room is answered with an error
	if under {
		<-unmounted // which waited for such requests; when we return the mount has left the tree
	}
	return fmt.Errorf("fuse: unmount %s: %w", dir, err)
}

// unmountRetry is how long a mount that was in use a moment ago is given.
const unmountRetry = 50 * time.Millisecond

// unmount takes the mount out of the tree, at once or, while it is in use, for its users to end.
func (s *Server) unmount(ctx context.Context, dir string) error {
	if s.left.Load() {
		return nil
	}
	if unix.Geteuid() == 0 {
		err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		for range 4 {
			if !errors.Is(err, unix.EBUSY) {
				return err
			}
			t := time.NewTimer(unmountRetry)
			<-t.C
			err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		}
		s.fs.log.Warn("the mount is in use; it leaves the tree now and ends with its last user", "mountpoint", dir)
	}
	err := writeBack(dir)
	derr := detach(ctx, dir)
	s.left.Store(derr == nil)
	return errors.Join(err, derr)
}

// writeBack has the kernel write the pages that it still has. umount(2) does so by itself, detaching does not.
func writeBack(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.fs.counts
	return Stats{
		Inodes: s.fs.lookups.inodes.Load(), Reads: c.reads.Load(), FastReads: c.fastReads.Load(), Writes: c.writes.Load(),
		Syncs: c.syncs.Load(), Others: c.others.Load(), Failed: c.failed.Load(),
		ReadBytes: c.readBytes.Load(), WrittenBytes: c.writtenBytes.Load(),
	}
}
