package engine

import (
	"maps"
	"slices"
)

// The model is POSIX in memory, written from the manual pages and not from the engine. It takes inode
// numbers and times from outside.

type modelFS struct {
	inodes map[Ino]*modelInode
}

type modelInode struct {
	typ                 FileType
	mode, uid, gid      uint32
	nlink               uint32
	rdev                uint64
	size                int64
	chunks              map[int64][]byte // 4096 bytes each, never changed once here
	target              string
	parent              Ino
	names               map[string]Ino
	atime, mtime, ctime int64
	xattrs              map[string]string
	access, preset      *modelACL
	holds               int
}

// modelACL is one with a mask, one named user and one named group.
type modelACL struct{ user, named, group, namedGroup, mask, other uint32 }

const (
	modelNamedUser  = 1001
	modelNamedGroup = 200
)

func (l *modelACL) encode() []byte {
	return appendACL(nil, acl{
		{aclUserObj, uint16(l.user), aclNoID}, {aclUser, uint16(l.named), modelNamedUser},
		{aclGroupObj, uint16(l.group), aclNoID}, {aclGroup, uint16(l.namedGroup), modelNamedGroup},
		{aclMask, uint16(l.mask), aclNoID}, {aclOther, uint16(l.other), aclNoID},
	})
}

func (l *modelACL) mode() uint32 { return l.user<<6 | l.mask<<3 | l.other }

func newModel(at int64) *modelFS {
	return &modelFS{inodes: map[Ino]*modelInode{RootIno: {
		typ: TypeDir, mode: 0o777, nlink: 2, parent: RootIno, names: map[string]Ino{}, atime: at, mtime: at, ctime: at, xattrs: map[string]string{},
	}}}
}

// clone returns a copy that shares chunks.
func (m *modelFS) clone() *modelFS {
	c := &modelFS{inodes: map[Ino]*modelInode{}}
	for ino, n := range m.inodes {
		k := *n
		k.chunks, k.names, k.xattrs = maps.Clone(n.chunks), maps.Clone(n.names), maps.Clone(n.xattrs)
		c.inodes[ino] = &k
	}
	return c
}

// crashed forgets who holds what, and what only they kept.
func (m *modelFS) crashed() {
	for ino, n := range m.inodes {
		n.holds = 0
		m.collect(ino)
	}
}

func (m *modelFS) collect(ino Ino) {
	if n := m.inodes[ino]; n != nil && n.nlink == 0 && n.holds == 0 {
		delete(m.inodes, ino)
	}
}

func (n *modelInode) member(c *Cred, gid uint32) bool {
	return c.GID == gid || slices.Contains(c.Groups, gid)
}

// may is path_resolution(7) and acl(5).
func (n *modelInode) may(c *Cred, want uint32) bool {
	if c.UID == 0 {
		return want&1 == 0 || n.typ == TypeDir || n.mode&0o111 != 0
	}
	switch l := n.access; {
	case c.UID == n.uid:
		return n.mode>>6&want == want
	case l != nil && n.mode&0o070 != 0:
		if c.UID == modelNamedUser {
			return l.named&l.mask&want == want
		}
		groups := false
		if n.member(c, n.gid) {
			groups = true
			if l.group&want == want {
				return l.mask&want == want
			}
		}
		if n.member(c, modelNamedGroup) {
			groups = true
			if l.namedGroup&want == want {
				return l.mask&want == want
			}
		}
		return !groups && l.other&want == want
	case n.member(c, n.gid):
		return n.mode>>3&want == want
	}
	return n.mode&want == want
}

func (n *modelInode) owner(c *Cred) bool { return c.UID == 0 || c.UID == n.uid }

// read returns size bytes from off, or those before the end.
func (n *modelInode) read(off, size int64) []byte {
	size = max(0, min(size, n.size-off))
	p := make([]byte, size)
	for i := int64(0); i < size; {
		k := (off + i) / 4096
		within := (off + i) % 4096
		step := min(4096-within, size-i)
		if c := n.chunks[k]; c != nil {
			copy(p[i:i+step], c[within:])
		}
		i += step
	}
	return p
}

func (n *modelInode) write(p []byte, off int64) {
	for i := 0; i < len(p); {
		k, within := (off+int64(i))/4096, (off+int64(i))%4096
		c := make([]byte, 4096)
		copy(c, n.chunks[k])
		i += copy(c[within:], p[i:])
		n.chunks[k] = c
	}
	n.size = max(n.size, off+int64(len(p)))
}

func (n *modelInode) zero(off, end int64) {
	size := n.size
	for at := off; at < min(end, size); {
		k, within := at/4096, at%4096
		step := min(4096-within, end-at)
		if c := n.chunks[k]; c != nil {
			c = slices.Clone(c)
			clear(c[within : within+step])
			n.chunks[k] = c
		}
		at += step
	}
}

func (n *modelInode) truncate(size int64) {
	if size < n.size {
		n.zero(size, (n.size+4095)/4096*4096)
		if within := size % 4096; within != 0 && n.chunks[size/4096] != nil {
			c := slices.Clone(n.chunks[size/4096])
			clear(c[within:])
			n.chunks[size/4096] = c
		}
		maps.DeleteFunc(n.chunks, func(k int64, _ []byte) bool { return k*4096 >= size })
	}
	n.size = size
}

// unprivileged is what a write by c takes from the mode.
func (n *modelInode) unprivileged(c *Cred) {
	if c.UID != 0 && n.typ == TypeRegular {
		n.mode = modelWithoutSetID(n.mode)
	}
}

func modelWithoutSetID(mode uint32) uint32 {
	mode &^= 0o4000
	if mode&0o010 != 0 {
		mode &^= 0o2000
	}
	return mode
}
