package fuse

import (
	"context"
	"log/slog"
	"time"

	"zerofs/engine"
	"zerofs/engine/locks"
	"zerofs/journal"
)

// Engine is what the server asks of a volume: *engine.Engine in the program.
type Engine interface {
	Lookup(ctx context.Context, c *engine.Cred, dir engine.Ino, name string) (engine.Ino, engine.Attr, error)
	GetAttr(ctx context.Context, ino engine.Ino) (engine.Attr, error)
	Access(ctx context.Context, c *engine.Cred, ino engine.Ino, want uint32) (uint32, error)
	SetAttr(ctx context.Context, c *engine.Cred, ino engine.Ino, set engine.SetAttr) (engine.Change, journal.LSN, error)

	Create(ctx context.Context, c *engine.Cred, dir engine.Ino, name string, f engine.NewFile) (engine.Created, error)
	Link(ctx context.Context, c *engine.Cred, ino, dir engine.Ino, name string) (engine.Attr, engine.Change, journal.LSN, error)
	Unlink(ctx context.Context, c *engine.Cred, dir engine.Ino, name string) (engine.Change, journal.LSN, error)
	Rmdir(ctx context.Context, c *engine.Cred, dir engine.Ino, name string) (engine.Change, journal.LSN, error)
	Rename(ctx context.Context, c *engine.Cred, from engine.Ino, name string, to engine.Ino, newName string, flags engine.RenameFlags) (fromDir, toDir engine.Change, lsn journal.LSN, err error)
	Readlink(ctx context.Context, c *engine.Cred, ino engine.Ino) (string, error)
	ReadDir(ctx context.Context, c *engine.Cred, dir engine.Ino, after uint64, plus bool, fn func(*engine.Entry) bool) error

	Hold(ctx context.Context, ino engine.Ino) (engine.Attr, error)
	Release(ino engine.Ino)
	Open(ctx context.Context, c *engine.Cred, ino engine.Ino, access uint32, trunc bool) (engine.Attr, journal.LSN, error)
	TryRead(ino engine.Ino, p []byte, off int64) (int, bool)
	Read(ctx context.Context, ino engine.Ino, p []byte, off int64) (int, error)
	ReadNoAtime(ctx context.Context, ino engine.Ino, p []byte, off int64) (int, error)
	Write(ctx context.Context, c *engine.Cred, ino engine.Ino, p []byte, off int64) (engine.Change, journal.LSN, error)
	Append(ctx context.Context, c *engine.Cred, ino engine.Ino, p []byte) (int64, engine.Change, journal.LSN, error)
	Fallocate(ctx context.Context, c *engine.Cred, ino engine.Ino, mode engine.FallocMode, off, n int64) (journal.LSN, error)
	Seek(ctx context.Context, ino engine.Ino, off int64, hole bool) (int64, error)
	CopyRange(ctx context.Context, c *engine.Cred, src engine.Ino, srcOff int64, dst engine.Ino, dstOff, n int64) (int64, journal.LSN, error)

	GetXattr(ctx context.Context, c *engine.Cred, ino engine.Ino, name string) ([]byte, error)
	SetXattr(ctx context.Context, c *engine.Cred, ino engine.Ino, name string, value []byte, flags int) (journal.LSN, error)
	ListXattr(ctx context.Context, c *engine.Cred, ino engine.Ino) ([]string, error)
	RemoveXattr(ctx context.Context, c *engine.Cred, ino engine.Ino, name string) (journal.LSN, error)

	Watch(origin uint64, fn func(engine.Note)) (stop func())

	StatFS(ctx context.Context) (engine.StatFS, error)
	Sync(ctx context.Context, lsn journal.LSN) error
	SyncInode(ctx context.Context, ino engine.Ino) error
}

// Options say what is mounted, where and how.
type Options struct {
	Mountpoint string // a directory
	Source     string // what mount and df name as the device

	// AllowOther lets users other than the one who mounts in. Without root it needs
	// user_allow_other in /etc/fuse.conf.
	AllowOther bool
	// WritebackCache leaves written pages in the kernel until it writes them back or is told to. The
	// kernel then owns sizes and times of modification of files; other servers of the volume see
	// them late.
	WritebackCache bool
	// DirectIO keeps file pages out of the kernel's cache.
	DirectIO bool
	// ReadOnly, NoSUID, NoDev and NoExec are the mount's flags of these names. Without root NoSUID and NoDev
	// are always in force.
	ReadOnly, NoSUID, NoDev, NoExec bool

	Engine Engine
	// Locks are the advisory locks that all servers of the volume share. Nil leaves locks to the kernel: they hold
	// among the processes of this mount only.
	Locks *locks.Table
	// Client is this mount's name among the owners of locks and the origins of changes; above zero.
	Client uint64

	// Wait returns nil when an answer may be sent: the lease holds. It fails when none ever will.
	Wait func(ctx context.Context) error
	// Status reads /proc/TID/status of a thread.
	Status func(tid uint32) ([]byte, error)
	// Now is the clock that bounds how long a thread's supplementary groups are remembered.
	Now func() time.Time
	// Logger gets the causes of I/O errors; nil for none.
	Logger *slog.Logger
}

// Stats are counts since the mount, and what is there now.
type Stats struct {
	Inodes       int64 `json:"inodes"` // now: that the kernel knows
	Reads        int64 `json:"reads"`
	FastReads    int64 `json:"fast_reads"` // of Reads, answered from memory at once
	Writes       int64 `json:"writes"`
	Syncs        int64 `json:"syncs"`
	Others       int64 `json:"others"`
	Failed       int64 `json:"failed"` // answered with EIO
	ReadBytes    int64 `json:"read_bytes"`
	WrittenBytes int64 `json:"written_bytes"`
}
