package engine

import (
	"context"
	"fmt"

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
		switch {
		case want == TypeDir:
			return nil, fmt.Errorf("engine: inode %d: %w", ino, ErrNotDir)
		case got == TypeDir:
			return nil, fmt.Errorf("engine: inode %d: %w", ino, ErrIsDir)
		}
		return nil, fmt.Errorf("engine: inode %d is of type %d, not %d: %w", ino, got, want, errInvalid)
	}
	return n, nil
}

// GetAttr returns the inode's attributes.
func (e *Engine) GetAttr(ctx context.Context, ino Ino) (Attr, error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return Attr{}, err
	}
	defer e.release(n)
	return *n.attr.Load(), nil
}

// SetAttr says which attributes to change; nil leaves one as it is. Times are Unix nanoseconds.
type SetAttr struct {
	Mode, UID, GID *uint32
	Size           *uint64 // regular files only
	Atime, Mtime   *int64
}

// SetAttr changes attributes and returns those in force after it. A smaller size gives the space back.
func (e *Engine) SetAttr(ctx context.Context, ino Ino, set SetAttr) (Attr, journal.LSN, error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return Attr{}, 0, err
	}
	defer e.release(n)
	now := nanos(e.opts.Now())
	var after Attr
	change := func(a *Attr) {
		set.apply(a, now)
		after = *a
	}
	if set.Size != nil {
		if typ := n.attr.Load().Type; typ != TypeRegular {
			return Attr{}, 0, fmt.Errorf("engine: inode %d: size of a file of type %d: %w", ino, typ, errInvalid)
		}
		lsn, err := e.resize(ctx, n, *set.Size, change)
		return after, lsn, err
	}
	lsn, err := e.changeAttr(ctx, n, change)
	return after, lsn, err
}

func (s *SetAttr) apply(a *Attr, now int64) {
	put := func(dst *uint32, v *uint32) {
		if v != nil {
			*dst = *v
		}
	}
	if s.Mode != nil {
		a.Mode = *s.Mode & 0o7777
	}
	put(&a.UID, s.UID)
	put(&a.GID, s.GID)
	if s.Size != nil {
		a.Mtime = now
	}
	if s.Atime != nil {
		a.Atime = *s.Atime
	}
	if s.Mtime != nil {
		a.Mtime = *s.Mtime
	}
	a.Ctime = now
}

func (e *Engine) changeAttr(ctx context.Context, n *node, change func(*Attr)) (journal.LSN, error) {
	t, err := e.begin(ctx, attrOpMax)
	if err != nil {
		return 0, err
	}
	defer t.end()
	t.setAttr(n, change)
	return t.commit()
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
