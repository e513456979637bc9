package ninep

import (
	"context"

	"zerofs/engine"
	"zerofs/engine/locks"
	"zerofs/journal"
)

// FileSystem is what the server asks of an engine. *engine.Engine is one. Its permission checks are
// the only ones. Any goroutine may call any method; errors are mapped to errnos by servers.Errno.
type FileSystem interface {
	Lookup(ctx context.Context, c *engine.Cred, dir engine.Ino, name string) (engine.Ino, engine.Attr, error)
	GetAttr(ctx context.Context, ino engine.Ino) (engine.Attr, error)
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

	Read(ctx context.Context, ino engine.Ino, p []byte, off int64) (int, error)
	TryRead(ino engine.Ino, p []byte, off int64) (n int, ok bool)
	Write(ctx context.Context, c *engine.Cred, ino engine.Ino, p []byte, off int64) (engine.Change, journal.LSN, error)
	Append(ctx context.Context, c *engine.Cred, ino engine.Ino, p []byte) (off int64, ch engine.Change, lsn journal.LSN, err error)

	GetXattr(ctx context.Context, c *engine.Cred, ino engine.Ino, name string) ([]byte, error)
	SetXattr(ctx context.Context, c *engine.Cred, ino engine.Ino, name string, value []byte, flags int) (journal.LSN, error)
	ListXattr(ctx context.Context, c *engine.Cred, ino engine.Ino) ([]string, error)
	RemoveXattr(ctx context.Context, c *engine.Cred, ino engine.Ino, name string) (journal.LSN, error)

	StatFS(ctx context.Context) (engine.StatFS, error)
	Sync(ctx context.Context, lsn journal.LSN) error
	SyncInode(ctx context.Context, ino engine.Ino) error
}

// Locks is the table of advisory locks. *locks.Table is one.
type Locks interface {
	Set(ctx context.Context, ino uint64, l locks.Lock, wait bool) error
	Unset(ino uint64, o locks.Owner, start, end uint64)
	Test(ino uint64, l locks.Lock) (conflict locks.Lock, found bool)
	DropOwner(ino uint64, o locks.Owner)
	DropClient(client uint64)
}

// Users is a user database.
type Users interface {
	// Groups returns the groups of a user, the primary one first. A user that it does not know is in
	// none.
	Groups(uid uint32) ([]uint32, error)
	// UID returns the number of a user's name; ok is false when nobody has it.
	UID(name string) (uid uint32, ok bool)
}
