package engine

import (
	"slices"
	"syscall"
)

// The model's calls. Each returns the errno that the engine's call must give.

const ok = syscall.Errno(0)

func (m *modelFS) dir(ino Ino) (*modelInode, syscall.Errno) {
	n := m.inodes[ino]
	switch {
	case n == nil:
		return nil, syscall.ESTALE
	case n.typ != TypeDir:
		return nil, syscall.ENOTDIR
	}
	return n, ok
}

func (m *modelFS) lookup(c *Cred, dir Ino, name string) (Ino, syscall.Errno) {
	d, errno := m.dir(dir)
	if errno != ok {
		return 0, errno
	}
	if !d.may(c, 1) {
		return 0, syscall.EACCES
	}
	switch name {
	case ".":
		return dir, ok
	case "..":
		if m.inodes[d.parent] == nil {
			return 0, syscall.ESTALE
		}
		return d.parent, ok
	}
	ino, there := d.names[name]
	if !there {
		return 0, syscall.ENOENT
	}
	return ino, ok
}

// create adds the inode under its number if errno is ok and it did not exist.
func (m *modelFS) create(c *Cred, dir Ino, name string, f *NewFile) (existing Ino, n *modelInode, errno syscall.Errno) {
	d, errno := m.dir(dir)
	if errno != ok {
		return 0, nil, errno
	}
	if !d.may(c, 1) {
		return 0, nil, syscall.EACCES
	}
	if old, there := d.names[name]; there {
		o := m.inodes[old]
		switch {
		case f.Type != TypeRegular || f.Exclusive:
			return 0, nil, syscall.EEXIST
		case o.typ == TypeDir:
			return 0, nil, syscall.EISDIR
		case o.typ == TypeSymlink:
			return 0, nil, syscall.ELOOP
		}
		return old, nil, ok
	}
	if d.nlink == 0 {
		return 0, nil, syscall.ENOENT
	}
	if !d.may(c, 3) {
		return 0, nil, syscall.EACCES
	}
	if f.Type == TypeChar && c.UID != 0 {
		return 0, nil, syscall.EPERM
	}
	n = &modelInode{typ: f.Type, mode: f.Mode, uid: c.UID, gid: c.GID, nlink: 1, chunks: map[int64][]byte{}, xattrs: map[string]string{}}
	switch f.Type {
	case TypeDir:
		n.nlink, n.parent, n.names = 2, dir, map[string]Ino{}
		d.nlink++
	case TypeSymlink:
		n.mode, n.target, n.size = 0o777, f.Target, int64(len(f.Target))
	case TypeChar:
		n.rdev = f.Rdev
	}
	if d.mode&0o2000 != 0 {
		n.gid = d.gid
		if f.Type == TypeDir {
			n.mode |= 0o2000
		}
	}
	if f.Type != TypeDir && n.mode&0o2010 == 0o2010 && c.UID != 0 && !n.member(c, n.gid) {
		n.mode &^= 0o2000
	}
	switch {
	case f.Type == TypeSymlink:
	case d.preset == nil:
		n.mode &^= f.Umask
	default:
		n.mode &= d.preset.mode() | 0o7000
		l := *d.preset
		l.user, l.mask, l.other = n.mode>>6&7, n.mode>>3&7, n.mode&7
		n.access = &l
		if f.Type == TypeDir {
			n.preset = d.preset
		}
	}
	return 0, n, ok
}

// entered completes create.
func (m *modelFS) entered(dir Ino, name string, ino Ino, n *modelInode, now int64) {
	n.atime, n.mtime, n.ctime = now, now, now
	m.inodes[ino] = n
	m.stamp(dir, now)
	m.inodes[dir].names[name] = ino
}

func (m *modelFS) stamp(ino Ino, now int64) { m.inodes[ino].mtime, m.inodes[ino].ctime = now, now }

func (m *modelFS) link(c *Cred, ino, dir Ino, name string, now int64) syscall.Errno {
	n := m.inodes[ino]
	if n == nil {
		return syscall.ESTALE
	}
	d, errno := m.dir(dir)
	if errno != ok {
		return errno
	}
	_, taken := d.names[name]
	switch {
	case !d.may(c, 1):
		return syscall.EACCES
	case taken:
		return syscall.EEXIST
	case n.typ == TypeDir:
		return syscall.EPERM
	case d.nlink == 0:
		return syscall.ENOENT
	case !d.may(c, 3):
		return syscall.EACCES
	case n.nlink == 0:
		return syscall.ENOENT
	}
	d.names[name] = ino
	n.nlink++
	n.ctime = now
	m.stamp(dir, now)
	return ok
}

// mayRemove is what rename(2), unlink(2) and rmdir(2) ask for a name that goes.
func mayRemove(c *Cred, d, n *modelInode) syscall.Errno {
	if !d.may(c, 3) {
		return syscall.EACCES
	}
	if d.mode&0o1000 != 0 && !d.owner(c) && !n.owner(c) {
		return syscall.EPERM
	}
	return ok
}

func (m *modelFS) remove(c *Cred, dir Ino, name string, isDir bool, now int64) syscall.Errno {
	d, errno := m.dir(dir)
	if errno != ok {
		return errno
	}
	if !d.may(c, 1) {
		return syscall.EACCES
	}
	ino, there := d.names[name]
	if !there {
		return syscall.ENOENT
	}
	n := m.inodes[ino]
	if errno := mayRemove(c, d, n); errno != ok {
		return errno
	}
	switch {
	case isDir && n.typ != TypeDir:
		return syscall.ENOTDIR
	case !isDir && n.typ == TypeDir:
		return syscall.EISDIR
	case len(n.names) > 0:
		return syscall.ENOTEMPTY
	}
	delete(d.names, name)
	if isDir {
		d.nlink--
	}
	m.stamp(dir, now)
	m.unlinked(ino, now)
	return ok
}

func (m *modelFS) unlinked(ino Ino, now int64) {
	n := m.inodes[ino]
	n.nlink--
	if n.typ == TypeDir {
		n.nlink = 0
	}
	n.ctime = now
	m.collect(ino)
}

// below reports whether dir is anc or lies below it.
func (m *modelFS) below(dir, anc Ino) bool {
	for ; dir != anc; dir = m.inodes[dir].parent {
		if dir == RootIno {
			return false
		}
	}
	return true
}

func (m *modelFS) rename(c *Cred, from Ino, name string, to Ino, newName string, flags RenameFlags, now int64) syscall.Errno {
	f, errno := m.dir(from)
	if errno != ok {
		return errno
	}
	t, errno := m.dir(to)
	if errno != ok {
		return errno
	}
	if !f.may(c, 1) || !t.may(c, 1) {
		return syscall.EACCES
	}
	ino, there := f.names[name]
	if !there {
		return syscall.ENOENT
	}
	old, taken := t.names[newName]
	switch {
	case !taken && flags == RenameExchange:
		return syscall.ENOENT
	case taken && flags == RenameNoReplace:
		return syscall.EEXIST
	}
	n, o := m.inodes[ino], m.inodes[old]
	if from != to {
		switch {
		case n.typ == TypeDir && m.below(to, ino):
			return syscall.EINVAL
		case taken && o.typ == TypeDir && m.below(from, old):
			if flags == RenameExchange {
				return syscall.EINVAL
			}
			return syscall.ENOTEMPTY
		}
	}
	if ino == old {
		return ok
	}
	if errno := m.mayRename(c, f, t, n, o, flags); errno != ok {
		return errno
	}
	if from != to && (n.typ == TypeDir && !n.may(c, 2) || flags == RenameExchange && o.typ == TypeDir && !o.may(c, 2)) {
		return syscall.EACCES
	}
	m.moved(from, name, to, newName, flags, now)
	return ok
}

func (m *modelFS) mayRename(c *Cred, f, t, n, o *modelInode, flags RenameFlags) syscall.Errno {
	if errno := mayRemove(c, f, n); errno != ok {
		return errno
	}
	if o == nil {
		switch {
		case t.nlink == 0:
			return syscall.ENOENT
		case !t.may(c, 3):
			return syscall.EACCES
		}
		return ok
	}
	if errno := mayRemove(c, t, o); errno != ok {
		return errno
	}
	switch {
	case flags == RenameExchange:
	case n.typ == TypeDir && o.typ != TypeDir:
		return syscall.ENOTDIR
	case n.typ != TypeDir && o.typ == TypeDir:
		return syscall.EISDIR
	case len(o.names) > 0:
		return syscall.ENOTEMPTY
	}
	return ok
}

func (m *modelFS) moved(from Ino, name string, to Ino, newName string, flags RenameFlags, now int64) {
	f, t := m.inodes[from], m.inodes[to]
	ino := f.names[name]
	old, taken := t.names[newName]
	arrive := func(d *modelInode, dir Ino, ino Ino, name string) {
		n := m.inodes[ino]
		d.names[name] = ino
		n.ctime = now
		if n.typ == TypeDir {
			d.nlink++
			n.parent = dir
		}
	}
	leave := func(d *modelInode, name string) {
		if m.inodes[d.names[name]].typ == TypeDir {
			d.nlink--
		}
		delete(d.names, name)
	}
	leave(f, name)
	if taken {
		leave(t, newName)
	}
	arrive(t, to, ino, newName)
	switch {
	case flags == RenameExchange:
		arrive(f, from, old, name)
	case taken:
		m.unlinked(old, now)
	}
	m.stamp(from, now)
	m.stamp(to, now)
}

func (m *modelFS) setattr(c *Cred, ino Ino, s *SetAttr, now int64) syscall.Errno {
	n := m.inodes[ino]
	if n == nil {
		return syscall.ESTALE
	}
	if s.empty() {
		return ok
	}
	if s.Size != nil {
		switch {
		case n.typ == TypeDir:
			return syscall.EISDIR
		case n.typ != TypeRegular:
			return syscall.EINVAL
		case !s.Opened && !n.may(c, 2):
			return syscall.EACCES
		}
	}
	mine := n.owner(c)
	switch {
	case s.UID != nil && c.UID != 0 && (!mine || *s.UID != n.uid):
		return syscall.EPERM
	case s.GID != nil && c.UID != 0 && (!mine || *s.GID != n.gid && !n.member(c, *s.GID)):
		return syscall.EPERM
	case s.Mode != nil && !mine:
		return syscall.EPERM
	}
	if !mine {
		switch both := s.AtimeNow && s.MtimeNow; {
		case s.Atime != nil || s.Mtime != nil || (s.AtimeNow || s.MtimeNow) && !both:
			return syscall.EPERM
		case both && !n.may(c, 2):
			return syscall.EACCES
		}
	}
	n.ctime = now
	if s.Size != nil {
		n.truncate(int64(*s.Size))
		n.mtime = now
		n.unprivileged(c)
	}
	if s.UID != nil {
		n.uid = *s.UID
	}
	if s.GID != nil {
		n.gid = *s.GID
	}
	if (s.UID != nil || s.GID != nil) && n.typ != TypeDir {
		n.mode = modelWithoutSetID(n.mode)
	}
	if s.Mode != nil {
		n.mode = *s.Mode
		if c.UID != 0 && !n.member(c, n.gid) {
			n.mode &^= 0o2000
		}
		if l := n.access; l != nil {
			k := *l
			k.user, k.mask, k.other = n.mode>>6&7, n.mode>>3&7, n.mode&7
			n.access = &k
		}
	}
	for _, x := range []struct {
		dst *int64
		set *int64
		now bool
	}{{&n.atime, s.Atime, s.AtimeNow}, {&n.mtime, s.Mtime, s.MtimeNow}} {
		if x.now {
			*x.dst = now
		} else if x.set != nil {
			*x.dst = *x.set
		}
	}
	return ok
}

func (m *modelFS) xattrAllowed(c *Cred, n *modelInode, name string, write bool) syscall.Errno {
	switch name {
	case "trusted.t":
		if c.UID != 0 && write {
			return syscall.EPERM
		} else if c.UID != 0 {
			return syscall.ENODATA
		}
	case "security.s":
		if c.UID != 0 && write {
			return syscall.EPERM
		}
	case "user.u":
		plain := n.typ == TypeRegular || n.typ == TypeDir
		switch {
		case !plain && write:
			return syscall.EPERM
		case !plain:
			return syscall.ENODATA
		case write && n.typ == TypeDir && n.mode&0o1000 != 0 && !n.owner(c):
			return syscall.EPERM
		case write && !n.may(c, 2), !write && !n.may(c, 4):
			return syscall.EACCES
		}
	}
	return ok
}

func (m *modelFS) setxattr(c *Cred, ino Ino, name, value string, flags int, remove bool, now int64) syscall.Errno {
	n := m.inodes[ino]
	if n == nil {
		return syscall.ESTALE
	}
	if errno := m.xattrAllowed(c, n, name, true); errno != ok {
		return errno
	}
	_, there := n.xattrs[name]
	switch {
	case there && flags&XattrCreate != 0:
		return syscall.EEXIST
	case !there && (flags&XattrReplace != 0 || remove):
		return syscall.ENODATA
	}
	if remove {
		delete(n.xattrs, name)
	} else {
		n.xattrs[name] = value
	}
	n.ctime = now
	return ok
}

func (m *modelFS) setACL(c *Cred, ino Ino, preset bool, l *modelACL, now int64) syscall.Errno {
	n := m.inodes[ino]
	switch {
	case n == nil:
		return syscall.ESTALE
	case n.typ == TypeSymlink:
		return syscall.EOPNOTSUPP
	case !n.owner(c):
		return syscall.EPERM
	case preset && n.typ != TypeDir && l != nil:
		return syscall.EACCES
	case preset && n.typ != TypeDir:
		return ok
	}
	n.ctime = now
	if preset {
		n.preset = l
		return ok
	}
	n.access = l
	if l != nil {
		n.mode = n.mode&^0o777 | l.mode()
		if c.UID != 0 && !n.member(c, n.gid) {
			n.mode &^= 0o2000
		}
	}
	return ok
}

// attrNames are what listxattr(2) shows.
func (n *modelInode) attrNames(c *Cred) (names []string) {
	for name := range n.xattrs {
		if name != "trusted.t" || c.UID == 0 {
			names = append(names, name)
		}
	}
	if n.access != nil {
		names = append(names, xattrAccessACL)
	}
	if n.preset != nil {
		names = append(names, xattrDefaultACL)
	}
	slices.Sort(names)
	return names
}
