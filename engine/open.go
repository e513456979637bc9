package engine

import (
	"context"
	"fmt"
	"time"

	"zerofs/journal"
)

// open is acquire for an inode of one type.
func (e *Engine) open(ctx context.Context, ino Ino, want FileType) (*node, error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return nil, err
	}
	if got := n.attr.Load().Type; got != want {
		e.release(n)
		return nil, wrongType(ino, got, want)
	}
	return n, nil
}

func wrongType(ino Ino, got, want FileType) error {
	switch {
	case want == TypeDir:
		return fmt.Errorf("engine: inode %d: %w", ino, ErrNotDir)
	case got == TypeDir:
		return fmt.Errorf("engine: inode %d: %w", ino, ErrIsDir)
	}
	return fmt.Errorf("engine: inode %d is of type %d, not %d: %w", ino, got, want, errInvalid)
}

// current returns a copy of the attributes, with a read that is not stored yet.
func (n *node) current() Attr {
	a := *n.attr.Load()
	if at := n.atime.Load(); at != 0 {
		a.Atime = at
	}
	return a
}

// GetAttr returns the inode's attributes.
func (e *Engine) GetAttr(ctx context.Context, ino Ino) (Attr, error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return Attr{}, err
	}
	defer e.release(n)
	return e.stat(n), nil
}

// Access returns which of the asked bits c has.
func (e *Engine) Access(ctx context.Context, c *Cred, ino Ino, want uint32) (granted uint32, err error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return 0, err
	}
	defer e.release(n)
	a := n.attr.Load()
	for _, bit := range []uint32{AccessRead, AccessWrite, AccessExec} {
		if want&bit != 0 && c.allows(a, bit) {
			granted |= bit
		}
	}
	return granted, nil
}

// Hold keeps the inode from being removed by its last unlink until Release, which must be called as often. No
// permission is checked.
func (e *Engine) Hold(ctx context.Context, ino Ino) (Attr, error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return Attr{}, err
	}
	return n.current(), nil
}

// Release gives back what Hold or Open gave.
func (e *Engine) Release(ino Ino) {
	if n := e.nodes.held(ino); n != nil {
		e.release(n)
	}
}

// Open checks c's permissions for access (the Access bits), truncates a regular file with trunc, and holds
// the inode. The LSN is that of the truncation, if there was one.
func (e *Engine) Open(ctx context.Context, c *Cred, ino Ino, access uint32, trunc bool) (Attr, journal.LSN, error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return Attr{}, 0, err
	}
	a, lsn, err := e.openNode(ctx, c, n, access, trunc)
	if err != nil {
		e.release(n)
	}
	return a, lsn, err
}

func (e *Engine) openNode(ctx context.Context, c *Cred, n *node, access uint32, trunc bool) (Attr, journal.LSN, error) {
	a := n.attr.Load()
	switch {
	case a.Type == TypeSymlink:
		return Attr{}, 0, fmt.Errorf("engine: open inode %d: %w", n.ino, ErrLoop)
	case a.Type == TypeDir && (trunc || access&AccessWrite != 0):
		return Attr{}, 0, fmt.Errorf("engine: open inode %d: %w", n.ino, ErrIsDir)
	}
	if trunc {
		access |= AccessWrite
	}
	if err := c.check(n.ino, a, access); err != nil {
		return Attr{}, 0, err
	}
	if !trunc || a.Type != TypeRegular {
		return n.current(), 0, nil
	}
	ch, lsn, err := e.resize(ctx, n, c, &SetAttr{Size: new(uint64), Opened: true})
	return ch.After, lsn, err
}

// relatime is how long an access time that is later than the last change is left as it is.
const relatime = int64(24 * time.Hour)

// AtimeDue reports whether a read at now sets the access time: relatime.
func (a *Attr) AtimeDue(now int64) bool {
	return a.Atime <= a.Mtime || a.Atime <= a.Ctime || now-a.Atime >= relatime
}

// accessed is told of each read. Access times follow relatime: they are set if they are not later than
// the last change, or old. They are stored with the next change, or before the node is forgotten.
func (e *Engine) accessed(n *node) {
	a := n.current()
	now := nanos(e.opts.Now())
	if a.AtimeDue(now) && now > a.Atime && n.atime.Swap(now) == 0 {
		e.touched(n)
	}
}

// Sync waits until lsn, and with it everything before it, is durable.
func (e *Engine) Sync(ctx context.Context, lsn journal.LSN) error {
	if lsn == 0 {
		return nil
	}
	if err := e.opts.Durable(ctx, lsn); err != nil {
		return fmt.Errorf("engine: sync lsn %d: %w", lsn, err)
	}
	return nil
}

// SyncInode waits until everything that was done to the inode before the call is durable.
func (e *Engine) SyncInode(ctx context.Context, ino Ino) error {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return err
	}
	defer e.release(n)
	if n.attr.Load().Flags&flagDevice != 0 { // writes of its clients leave no trace in the node
		return e.SyncAll(ctx)
	}
	return e.Sync(ctx, journal.LSN(n.lsn.Load()))
}

// SyncAll waits until everything that was done before the call is durable.
func (e *Engine) SyncAll(ctx context.Context) error { return e.Sync(ctx, e.Applied()) }
