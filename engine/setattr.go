package engine

import (
	"context"
	"errors"
	"fmt"

	"zerofs/journal"
)

// SetAttr says which attributes to change; nil leaves one as it is. Times are Unix nanoseconds.
type SetAttr struct {
	Mode, UID, GID     *uint32
	Size               *uint64
	Atime, Mtime       *int64
	AtimeNow, MtimeNow bool   // the engine's clock; both together are permitted to writers too
	Ctime              *int64 // if not nil, the call fails with ErrChanged unless the change time is this
	Opened             bool   // the size is set through a descriptor open for writing: its permission was checked
}

func (s *SetAttr) empty() bool {
	return s.Mode == nil && s.UID == nil && s.GID == nil && s.Size == nil && s.Atime == nil && s.Mtime == nil && !s.AtimeNow && !s.MtimeNow
}

// SetAttr changes attributes: chmod(2), chown(2), truncate(2), utimensat(2), or several of them. A smaller
// size gives the space back.
func (e *Engine) SetAttr(ctx context.Context, c *Cred, ino Ino, set SetAttr) (Change, journal.LSN, error) {
	n, err := e.acquire(ctx, ino)
	if err != nil {
		return Change{}, 0, err
	}
	defer e.release(n)
	if set.empty() {
		a := n.current()
		if set.Ctime != nil && *set.Ctime != a.Ctime {
			return Change{}, 0, fmt.Errorf("engine: inode %d: %w", ino, ErrChanged)
		}
		return Change{a, a}, 0, nil
	}
	if set.Size != nil {
		if err := e.mayResize(n, *set.Size); err != nil {
			return Change{}, 0, err
		}
		return e.resize(ctx, n, c, &set)
	}
	return e.changeAttr(ctx, n, c, &set)
}

// changeAttr changes attributes other than the size.
func (e *Engine) changeAttr(ctx context.Context, n *node, c *Cred, set *SetAttr) (Change, journal.LSN, error) {
	for {
		room := n.attr.Load().lists().room()
		ch, lsn, err := e.changeAttrOnce(ctx, n, c, set, room)
		if !errors.Is(err, errChanged) {
			return ch, lsn, err
		}
	}
}

func (e *Engine) changeAttrOnce(ctx context.Context, n *node, c *Cred, set *SetAttr, room int) (Change, journal.LSN, error) {
	t, err := e.begin(ctx, attrOpMax+capabilityOpMax+room)
	if err != nil {
		return Change{}, 0, err
	}
	defer t.end()
	n.meta.Lock()
	defer n.meta.Unlock()
	if n.attr.Load().lists().room() > room {
		return Change{}, 0, errChanged
	}
	t.change(n, c, set, nil)
	lsn, err := t.commit()
	if err != nil {
		return Change{}, 0, err
	}
	return t.changed(0), lsn, nil
}

// change adds what set says to a transaction, and more if that is not nil. The inode's meta lock is held.
func (t *txn) change(n *node, c *Cred, set *SetAttr, more func(*Attr)) {
	to, dropped := t.chmod(n, set), false
	if set.Size != nil || set.UID != nil || set.GID != nil {
		dropped = t.dropCapability(n)
	}
	now := nanos(t.e.opts.Now())
	t.setAttr(n, func(a *Attr) error {
		if err := set.permitted(c, n.ino, a); err != nil {
			return err
		}
		set.apply(c, a, now)
		if set.Mode != nil {
			a.setACL(to)
		}
		if dropped {
			a.Flags &^= flagCapability
		}
		if more != nil {
			more(a)
		}
		return nil
	})
}

// permitted reports why c may not do it to an inode with these attributes: chmod(2), chown(2), utimensat(2).
func (s *SetAttr) permitted(c *Cred, ino Ino, a *Attr) error {
	if s.Ctime != nil && *s.Ctime != a.Ctime {
		return fmt.Errorf("engine: inode %d: %w", ino, ErrChanged)
	}
	if s.Size != nil && !s.Opened {
		if err := c.check(ino, a, AccessWrite); err != nil {
			return err
		}
	}
	if c.root() {
		return nil
	}
	owner := c.UID == a.UID
	denied := func(what string) error { return fmt.Errorf("engine: inode %d: %s: %w", ino, what, ErrPerm) }
	switch {
	case s.UID != nil && (*s.UID != a.UID || !owner):
		return denied("change the owner")
	case s.GID != nil && (!owner || *s.GID != a.GID && !c.inGroup(*s.GID)):
		return denied("change the group")
	case s.Mode != nil && !owner:
		return denied("change the mode")
	case owner:
		return nil
	case s.Atime != nil || s.Mtime != nil || s.AtimeNow != s.MtimeNow:
		return denied("change times")
	case s.AtimeNow:
		return c.check(ino, a, AccessWrite)
	}
	return nil
}

// apply changes a.
func (s *SetAttr) apply(c *Cred, a *Attr, now int64) {
	if s.Size != nil {
		a.Size = *s.Size
		a.modified(now)
		c.dropPrivileges(a)
	} else {
		a.changed(now)
	}
	if s.UID != nil {
		a.UID = *s.UID
	}
	if s.GID != nil {
		a.GID = *s.GID
	}
	if (s.UID != nil || s.GID != nil) && a.Type != TypeDir {
		a.Mode = withoutSetID(a.Mode)
	}
	if s.Mode != nil {
		a.Mode = *s.Mode & 0o7777
		if !c.root() && !c.inGroup(a.GID) {
			a.Mode &^= modeSetgid
		}
	}
	set := func(dst *int64, v *int64, now bool) {
		switch {
		case now:
			*dst = a.Ctime
		case v != nil:
			*dst = *v
		}
	}
	set(&a.Atime, s.Atime, s.AtimeNow)
	set(&a.Mtime, s.Mtime, s.MtimeNow)
}

// mayResize reports why a file cannot have a size.
func (e *Engine) mayResize(n *node, size uint64) error {
	a := n.attr.Load()
	switch {
	case a.Type == TypeDir:
		return fmt.Errorf("engine: inode %d: %w", n.ino, ErrIsDir)
	case a.Type != TypeRegular:
		return fmt.Errorf("engine: inode %d: size of a file of type %d: %w", n.ino, a.Type, errInvalid)
	case size > maxFileSize:
		return fmt.Errorf("engine: inode %d: size %d: %w", n.ino, size, ErrTooLarge)
	case a.Flags&flagDevice != 0 && size%SectorSize != 0:
		return fmt.Errorf("engine: device %d: size %d is no multiple of %d: %w", n.ino, size, SectorSize, errInvalid)
	}
	return nil
}
