package engine

import (
	"context"
	"errors"
	"fmt"

	"zerofs/journal"
)

// Bounds that are the same on Linux.
const (
	SymlinkMax = 4095      // bytes of a symbolic link's target
	LinkMax    = 1<<32 - 1 // names of an inode, and of a directory its subdirectories and two
)

// NewFile is what Create makes.
type NewFile struct {
	Type      FileType
	Mode      uint32 // before Umask
	Umask     uint32 // used unless the directory has a default ACL
	Rdev      uint64 // of a device
	Target    string // of a symbolic link
	Exclusive bool   // a name that is taken is an error; else, for a regular file, what has it is returned
	Verifier  uint64 // if not zero it is kept, and a regular file that was made with it is no error
}

// Created is what Create made or found.
type Created struct {
	Ino     Ino
	Attr    Attr
	Existed bool
	Dir     Change
	LSN     journal.LSN
}

// Change is an inode's attributes just before and just after a change, taken atomically with it.
type Change struct{ Before, After Attr }

func (f *NewFile) check() error {
	switch {
	case !f.Type.valid():
		return fmt.Errorf("engine: create a file of type %d: %w", f.Type, errInvalid)
	case f.Type != TypeSymlink:
		return nil
	case f.Target == "":
		return fmt.Errorf("engine: symbolic link to nothing: %w", errNotExist)
	case len(f.Target) > SymlinkMax:
		return fmt.Errorf("engine: symbolic link to %d bytes: %w", len(f.Target), ErrNameTooLong)
	}
	return nil
}

// Create makes a file of any type: open(2) with O_CREAT, mkdir(2), symlink(2), mknod(2).
func (e *Engine) Create(ctx context.Context, c *Cred, dir Ino, name string, f NewFile) (Created, error) {
	if err := checkName(name); err != nil {
		return Created{}, err
	}
	n, err := e.open(ctx, dir, TypeDir)
	if err != nil {
		return Created{}, err
	}
	defer e.release(n)
	for {
		if err := c.check(dir, n.attr.Load(), AccessExec); err != nil {
			return Created{}, err
		}
		version := n.version.Load()
		if isDot(name) {
			return Created{}, fmt.Errorf("engine: directory %d: %q: %w", dir, name, errExist)
		}
		d, err := e.find(dir, name)
		if err != nil {
			return Created{}, err
		}
		var made Created
		if d.ino != 0 {
			made, err = e.existing(ctx, n, name, d, &f)
			if errors.Is(err, ErrStale) && n.version.Load() != version {
				continue
			}
			return made, err
		}
		if err := f.check(); err != nil {
			return Created{}, err
		}
		made, err = e.createAt(ctx, c, n, version, name, &f)
		if !errors.Is(err, errChanged) {
			return made, err
		}
	}
}

// existing is Create's outcome for a name that is taken.
func (e *Engine) existing(ctx context.Context, dir *node, name string, d dentry, f *NewFile) (Created, error) {
	taken := fmt.Errorf("engine: directory %d: %q: %w", dir.ino, name, errExist)
	if f.Type != TypeRegular || f.Exclusive && f.Verifier == 0 {
		return Created{}, taken
	}
	child, err := e.acquire(ctx, d.ino)
	if err != nil {
		return Created{}, err
	}
	defer e.release(child)
	a := child.current()
	switch {
	case f.Verifier != 0 && a.Type == TypeRegular && a.Verifier == f.Verifier:
	case f.Exclusive || f.Verifier != 0:
		return Created{}, taken
	case a.Type == TypeDir:
		return Created{}, fmt.Errorf("engine: directory %d: %q: %w", dir.ino, name, ErrIsDir)
	case a.Type == TypeSymlink:
		return Created{}, fmt.Errorf("engine: directory %d: %q: %w", dir.ino, name, ErrLoop)
	}
	at := dir.current()
	return Created{Ino: d.ino, Attr: a, Existed: true, Dir: Change{at, at}, LSN: journal.LSN(child.lsn.Load())}, nil
}

// dirOpMax bounds what a name's coming or going adds to a batch.
const dirOpMax = 2*(NameMax+readdirKeyLen+readdirLen+dentryLen+opOverhead) + attrOpMax

// createAt is Create for a directory that has no such name at version.
func (e *Engine) createAt(ctx context.Context, c *Cred, dir *node, version uint64, name string, f *NewFile) (Created, error) {
	room := dir.attr.Load().lists().room()
	t, err := e.begin(ctx, 2*attrOpMax+dirOpMax+usageOpMax+len(f.Target)+inodeKeyLen+opOverhead+2*room)
	if err != nil {
		return Created{}, err
	}
	defer t.end()
	dir.dir.Lock()
	defer dir.dir.Unlock()
	at := dir.attr.Load()
	if !e.still(dir, version, name, dentry{}) || at.lists().room() > room {
		return Created{}, errChanged
	}
	if err := c.mayAdd(dir); err != nil {
		return Created{}, err
	}
	if (f.Type == TypeChar || f.Type == TypeBlock) && !c.root() {
		return Created{}, fmt.Errorf("engine: directory %d: make device %q: %w", dir.ino, name, ErrPerm)
	}
	if err := mayHold(dir, name, f.Type); err != nil {
		return Created{}, err
	}
	now, ino := nanos(e.opts.Now()), t.newIno()
	a := newInode(c, dir.ino, at, name, f, now)
	d := dentry{ino: ino, typ: f.Type, cookie: at.Cookie + 1}
	t.set(appendInodeKey(nil, ino), appendAttr(nil, a))
	t.setACLs(ino, a.lists())
	if f.Type == TypeSymlink {
		t.set(appendSymlinkKey(nil, ino), []byte(f.Target))
	}
	t.addName(dir.ino, name, d)
	t.use(usage{inodes: 1})
	t.setAttr(dir, func(a *Attr) error { a.modified(now); return a.entered(f.Type, d.cookie) })
	e.dentries.change(dir.ino, name)
	lsn, err := t.commit()
	if err != nil {
		e.dentries.settle(dir.ino, name, dentry{}, false)
		return Created{}, err
	}
	dir.version.Add(1)
	e.nodes.insert(ino, a, lsn)
	e.dentries.settle(dir.ino, name, d, true)
	return Created{Ino: ino, Attr: *a, Dir: t.changed(0), LSN: lsn}, nil
}

// newInode returns the attributes of a new file in a directory.
func newInode(c *Cred, dir Ino, at *Attr, name string, f *NewFile, now int64) *Attr {
	a := &Attr{Type: f.Type, Mode: f.Mode & 0o7777, Nlink: 1, Atime: now, Mtime: now, Ctime: now, Btime: now, Generation: 1, Verifier: f.Verifier}
	switch f.Type {
	case TypeDir:
		a.Nlink, a.Parent = 2, dir
		if dir == RootIno && name == deviceDir {
			a.Flags |= flagDevice
		}
	case TypeSymlink:
		a.Mode, a.Size = 0o777, uint64(len(f.Target))
	case TypeChar, TypeBlock:
		a.Rdev = f.Rdev
	case TypeRegular:
		a.Flags |= at.Flags & flagDevice
	}
	c.newOwner(a, at)
	a.inherit(at, f.Umask)
	return a
}

// entered is what a new entry changes in its directory, but for times.
func (a *Attr) entered(typ FileType, cookie uint64) error {
	if typ == TypeDir {
		if a.Nlink == LinkMax {
			return ErrLinks
		}
		a.Nlink++
	}
	a.Size++
	a.Cookie = cookie
	return nil
}

// left is what a removed entry changes in its directory, but for times.
func (a *Attr) left(typ FileType) {
	if typ == TypeDir {
		a.Nlink--
	}
	a.Size--
}

// addName makes an entry.
func (t *txn) addName(dir Ino, name string, d dentry) {
	t.set(appendDentryKey(nil, dir, name), appendDentry(nil, d))
	t.set(appendReaddirKey(nil, dir, d.cookie), appendReaddir(nil, d, name))
	t.watched.named(dir, name)
}

// dropName removes an entry.
func (t *txn) dropName(dir Ino, name string, d dentry) {
	t.delete(appendDentryKey(nil, dir, name))
	t.delete(appendReaddirKey(nil, dir, d.cookie))
	t.watched.named(dir, name)
}

func (t *txn) set(key, value []byte) { _ = t.b.Set(key, value, nil) } // an unindexed batch never fails
func (t *txn) delete(key []byte)     { _ = t.b.Delete(key, nil) }

// Link makes another name for an inode that is no directory.
func (e *Engine) Link(ctx context.Context, c *Cred, ino, dir Ino, name string) (Attr, Change, journal.LSN, error) {
	if err := checkName(name); err != nil {
		return Attr{}, Change{}, 0, err
	}
	child, err := e.acquire(ctx, ino)
	if err != nil {
		return Attr{}, Change{}, 0, err
	}
	defer e.release(child)
	n, err := e.open(ctx, dir, TypeDir)
	if err != nil {
		return Attr{}, Change{}, 0, err
	}
	defer e.release(n)
	for {
		if err := c.check(dir, n.attr.Load(), AccessExec); err != nil {
			return Attr{}, Change{}, 0, err
		}
		version := n.version.Load()
		d, err := e.find(dir, name)
		if err != nil {
			return Attr{}, Change{}, 0, err
		}
		if d.ino != 0 || isDot(name) {
			return Attr{}, Change{}, 0, fmt.Errorf("engine: directory %d: %q: %w", dir, name, errExist)
		}
		if child.attr.Load().Type == TypeDir {
			return Attr{}, Change{}, 0, fmt.Errorf("engine: link to directory %d: %w", ino, ErrPerm)
		}
		a, ch, lsn, err := e.linkAt(ctx, c, child, n, version, name)
		if !errors.Is(err, errChanged) {
			return a, ch, lsn, err
		}
	}
}

func (e *Engine) linkAt(ctx context.Context, c *Cred, child, dir *node, version uint64, name string) (Attr, Change, journal.LSN, error) {
	t, err := e.begin(ctx, attrOpMax+dirOpMax)
	if err != nil {
		return Attr{}, Change{}, 0, err
	}
	defer t.end()
	defer lockDirs(dir, child)()
	if !e.still(dir, version, name, dentry{}) {
		return Attr{}, Change{}, 0, errChanged
	}
	if err := c.mayAdd(dir); err != nil {
		return Attr{}, Change{}, 0, err
	}
	at, old := dir.attr.Load(), child.attr.Load()
	switch {
	case old.Nlink == 0:
		return Attr{}, Change{}, 0, fmt.Errorf("engine: link to inode %d, which was unlinked: %w", child.ino, errNotExist)
	case (old.Flags|at.Flags)&flagDevice != 0 || isDeviceDir(dir, name):
		return Attr{}, Change{}, 0, fmt.Errorf("engine: link to or among block devices: %w", ErrPerm)
	}
	now := nanos(e.opts.Now())
	d := dentry{ino: child.ino, typ: old.Type, cookie: at.Cookie + 1}
	t.addName(dir.ino, name, d)
	t.setAttr(dir, func(a *Attr) error { a.modified(now); return a.entered(old.Type, d.cookie) })
	t.setAttr(child, func(a *Attr) error {
		if a.Nlink == LinkMax {
			return ErrLinks
		}
		a.Nlink++
		a.changed(now)
		return nil
	})
	e.dentries.change(dir.ino, name)
	lsn, err := t.commit()
	if err != nil {
		e.dentries.settle(dir.ino, name, dentry{}, false)
		return Attr{}, Change{}, 0, err
	}
	dir.version.Add(1)
	e.dentries.settle(dir.ino, name, d, true)
	return t.changed(1).After, t.changed(0), lsn, nil
}
