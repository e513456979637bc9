package engine

import (
	"context"
	"errors"
	"fmt"

	"zerofs/journal"
)

// RenameFlags are renameat2(2)'s.
type RenameFlags uint32

// The flags that Rename knows.
const (
	RenameNoReplace RenameFlags = 1 // a name that is taken is an error
	RenameExchange  RenameFlags = 2 // both names must be there, and change places
)

// Rename gives an inode another name, in place of what had that name before.
func (e *Engine) Rename(ctx context.Context, c *Cred, from Ino, name string, to Ino, newName string, flags RenameFlags) (fromDir, toDir Change, lsn journal.LSN, err error) {
	if flags > RenameExchange {
		return fromDir, toDir, 0, fmt.Errorf("engine: rename with flags %x: %w", flags, errInvalid)
	}
	if err := errors.Join(checkName(name), checkName(newName)); err != nil {
		return fromDir, toDir, 0, err
	}
	if isDot(name) || isDot(newName) {
		return fromDir, toDir, 0, fmt.Errorf("engine: rename %q to %q: %w", name, newName, ErrBusy)
	}
	r := rename{e: e, c: c, name: name, newName: newName, flags: flags}
	if r.from, err = e.open(ctx, from, TypeDir); err != nil {
		return fromDir, toDir, 0, err
	}
	defer e.release(r.from)
	if r.to, err = e.open(ctx, to, TypeDir); err != nil {
		return fromDir, toDir, 0, err
	}
	defer e.release(r.to)
	for {
		lsn, err = r.try(ctx)
		if !errors.Is(err, errChanged) {
			return r.fromDir, r.toDir, lsn, err
		}
	}
}

// rename is one call of Rename.
type rename struct {
	e              *Engine
	c              *Cred
	from, to       *node
	name, newName  string
	flags          RenameFlags
	d, over        dentry // what the names mean; over may have no inode
	child, target  *node  // target may be nil
	fromDir, toDir Change
}

func (r *rename) exchange() bool { return r.flags == RenameExchange }

// try looks at what there is, with no lock held, and renames if that holds still.
func (r *rename) try(ctx context.Context) (journal.LSN, error) {
	e := r.e
	for _, n := range []*node{r.from, r.to} {
		if err := r.c.check(n.ino, n.attr.Load(), AccessExec); err != nil {
			return 0, err
		}
	}
	moves, versions := e.moves.Load(), [2]uint64{r.from.version.Load(), r.to.version.Load()}
	changed := func(err error) error {
		if errors.Is(err, ErrStale) && (r.from.version.Load() != versions[0] || r.to.version.Load() != versions[1]) {
			return errChanged
		}
		return err
	}
	var err error
	if r.child, r.d, err = e.child(ctx, r.from, r.name); err != nil {
		return 0, changed(err)
	}
	defer e.release(r.child)
	if r.over, err = e.find(r.to.ino, r.newName); err != nil {
		return 0, err
	}
	r.target = nil
	if r.over.ino != 0 {
		if r.target, err = e.acquire(ctx, r.over.ino); err != nil {
			return 0, changed(err)
		}
		defer e.release(r.target)
	}
	switch {
	case r.target == nil && r.exchange():
		return 0, fmt.Errorf("engine: directory %d: %q: %w", r.to.ino, r.newName, errNotExist)
	case r.target != nil && r.flags == RenameNoReplace:
		return 0, fmt.Errorf("engine: directory %d: %q: %w", r.to.ino, r.newName, errExist)
	}
	if err := r.checkLoops(ctx); err != nil {
		return 0, err
	}
	return r.at(ctx, moves, versions)
}

// checkLoops reports whether a directory would come to lie below itself. It holds as long as no directory
// moves to another.
func (r *rename) checkLoops(ctx context.Context) error {
	if r.from == r.to {
		return nil
	}
	if r.d.typ == TypeDir {
		below, err := r.e.below(ctx, r.to.ino, r.d.ino)
		if err != nil {
			return err
		}
		if below {
			return fmt.Errorf("engine: directory %d to below itself: %w", r.d.ino, errInvalid)
		}
	}
	if r.over.typ == TypeDir {
		below, err := r.e.below(ctx, r.from.ino, r.over.ino)
		if err != nil {
			return err
		}
		switch {
		case below && r.exchange():
			return fmt.Errorf("engine: directory %d to below itself: %w", r.over.ino, errInvalid)
		case below:
			return fmt.Errorf("engine: directory %d: %q: %w", r.to.ino, r.newName, ErrNotEmpty)
		}
	}
	return nil
}

// below reports whether dir is anc or lies below it.
func (e *Engine) below(ctx context.Context, dir, anc Ino) (bool, error) {
	for dir != anc {
		if dir == RootIno {
			return false, nil
		}
		n, err := e.acquire(ctx, dir)
		if errors.Is(err, ErrStale) { // the directory was removed, or has moved since, and so a move was counted
			return false, nil
		}
		if err != nil {
			return false, err
		}
		dir = n.attr.Load().Parent
		e.release(n)
	}
	return true, nil
}

// moved reports whether a directory gets another parent.
func (r *rename) moved() bool {
	return r.from != r.to && (r.d.typ == TypeDir || r.exchange() && r.over.typ == TypeDir)
}

// at renames if what try found is still so.
func (r *rename) at(ctx context.Context, moves uint64, versions [2]uint64) (journal.LSN, error) {
	e := r.e
	t, err := e.begin(ctx, 4*attrOpMax+2*dirOpMax+dropOpMax)
	if err != nil {
		return 0, err
	}
	defer t.end()
	if r.moved() {
		e.moving.Lock()
		defer e.moving.Unlock()
		if e.moves.Load() != moves {
			return 0, errChanged
		}
	}
	defer lockDirs(r.from, r.to, r.child, r.target)()
	if !e.still(r.from, versions[0], r.name, r.d) || !e.still(r.to, versions[1], r.newName, r.over) {
		return 0, errChanged
	}
	if r.over.ino == r.d.ino { // two names of one inode: POSIX wants nothing to happen
		from, to := r.from.current(), r.to.current()
		r.fromDir, r.toDir = Change{from, from}, Change{to, to}
		return 0, nil
	}
	if err := r.permitted(); err != nil {
		return 0, err
	}
	now := nanos(e.opts.Now())
	doomed, after := r.build(&t, now)
	e.dentries.change(r.from.ino, r.name)
	e.dentries.change(r.to.ino, r.newName)
	lsn, err := t.commit()
	e.dentries.settle(r.from.ino, r.name, after[0], err == nil)
	e.dentries.settle(r.to.ino, r.newName, after[1], err == nil)
	if err == nil {
		r.from.version.Add(1)
		r.to.version.Add(1)
		if r.moved() {
			e.moves.Add(1)
		}
		r.fromDir, r.toDir = t.changed(0), t.changed(0)
		if r.from != r.to {
			r.toDir = t.changed(1)
		}
	}
	if doomed {
		e.nodes.settle(r.target, err == nil)
	}
	return lsn, err
}

// permitted reports why c may not do it. The locks are held.
func (r *rename) permitted() error {
	if err := r.c.mayRemove(r.from, r.child); err != nil {
		return err
	}
	if r.target == nil {
		if err := r.c.mayAdd(r.to); err != nil {
			return err
		}
	} else {
		if err := r.c.mayRemove(r.to, r.target); err != nil {
			return err
		}
		if !r.exchange() {
			if err := removable(r.to, r.target, r.newName, r.d.typ == TypeDir); err != nil {
				return err
			}
		}
	}
	if r.from != r.to { // ".." of a directory that moves is written
		if err := r.mayMove(r.child); err != nil {
			return err
		}
		if r.exchange() {
			if err := r.mayMove(r.target); err != nil {
				return err
			}
		}
	}
	return r.devices()
}

func (r *rename) mayMove(n *node) error {
	if a := n.attr.Load(); a.Type == TypeDir {
		return r.c.check(n.ino, a, AccessWrite)
	}
	return nil
}

// devices are renamed among themselves, and only while nobody has them attached.
func (r *rename) devices() error {
	a, b := r.from.attr.Load(), r.to.attr.Load()
	switch {
	case isDeviceDir(r.to, r.newName):
		return fmt.Errorf("engine: rename to %q: %w", deviceDir, ErrBusy)
	case (a.Flags^b.Flags)&flagDevice != 0:
		return fmt.Errorf("engine: rename to or from %q: %w", deviceDir, ErrCrossDevice)
	case r.child.devices != 0 || r.target != nil && r.target.devices != 0:
		return fmt.Errorf("engine: device %q or %q is attached: %w", r.name, r.newName, ErrBusy)
	}
	for _, n := range []*node{r.child, r.target} {
		if n != nil && a.Flags&flagDevice == 0 && n.attr.Load().Flags&flagDevice != 0 {
			return fmt.Errorf("engine: rename the directory of block devices: %w", ErrBusy)
		}
	}
	return nil
}

// build makes the change and returns what the names will mean. The first setAttr is the old directory's, the
// second the new one's if that is another.
func (r *rename) build(t *txn, now int64) (doomed bool, after [2]dentry) {
	same := r.from == r.to
	in := r.d
	in.cookie = r.to.attr.Load().Cookie + 1
	var out dentry
	t.dropName(r.from.ino, r.name, r.d)
	if r.target != nil {
		t.dropName(r.to.ino, r.newName, r.over)
	}
	if r.exchange() {
		out = r.over
		out.cookie = r.from.attr.Load().Cookie + 1
		if same {
			out.cookie++
		}
		t.addName(r.from.ino, r.name, out)
	}
	t.addName(r.to.ino, r.newName, in)
	t.setAttr(r.from, func(a *Attr) error {
		a.modified(now)
		a.left(r.d.typ)
		if out.ino != 0 {
			if err := a.entered(out.typ, out.cookie); err != nil {
				return err
			}
		}
		if same {
			return r.arrive(a, in)
		}
		return nil
	})
	if !same {
		t.setAttr(r.to, func(a *Attr) error { a.modified(now); return r.arrive(a, in) })
	}
	r.renamed(t, r.child, r.to.ino, now)
	switch {
	case r.exchange():
		r.renamed(t, r.target, r.from.ino, now)
	case r.target != nil:
		doomed = t.unlink(r.target, now)
	}
	return doomed, [2]dentry{out, in}
}

// arrive is what changes in the new directory.
func (r *rename) arrive(a *Attr, in dentry) error {
	if r.target != nil {
		a.left(r.over.typ)
	}
	return a.entered(in.typ, max(in.cookie, a.Cookie))
}

// renamed is what changes in an inode that has another name, in dir.
func (r *rename) renamed(t *txn, n *node, dir Ino, now int64) {
	t.setAttr(n, func(a *Attr) error {
		if a.Type == TypeDir {
			a.Parent = dir
		}
		a.changed(now)
		return nil
	})
}
