package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// ProblemKind is what is wrong.
type ProblemKind uint8

// The kinds of problem.
const (
	ProblemDangling ProblemKind = iota // a name without an inode
	ProblemEntry                       // a name that ReadDir does not show, or shows wrongly
	ProblemListed                      // ReadDir shows a name that is not there
	ProblemLinks                       // a link count
	ProblemEntries                     // a directory's number of entries, or its last cookie
	ProblemParent                      // ".." of a directory
	ProblemLost                        // an inode, or a ring of directories, without a name
	ProblemOrphan                      // an unlinked inode that would never go, or a mark of one that is not there
	ProblemBeyond                      // chunks beyond the end of a file, or of no file
	ProblemBlocks                      // the account of a file's chunks
	ProblemXattr                       // attributes of no inode, or an inode that does not know of them
	ProblemTarget                      // a symbolic link's target that is not as long as its size, or nobody's
	ProblemNext                        // the next inode number was used already
	ProblemUsage                       // what the volume holds
	ProblemChunk                       // a chunk that cannot be read
	ProblemRecord                      // a record that cannot be what was written
)

var problemNames = [...]string{"dangling name", "entry", "listed entry", "link count", "entry count", "parent", "lost inode", "orphan",
	"chunks", "allocation", "extended attributes", "symbolic link", "inode counter", "usage", "unreadable chunk", "record"}

// String returns the kind's name.
func (k ProblemKind) String() string { return problemNames[k] }

// Problem is one thing that Check found.
type Problem struct {
	Kind ProblemKind
	Ino  Ino    // whom it is about, zero for none
	Dir  Ino    // of a name
	Name string // likewise
	Text string

	cookie uint64 // of a listed name
	should *Attr  // what the inode's attributes should be
}

// String is a line for people.
func (p Problem) String() string { return fmt.Sprintf("%s: %s", p.Kind, p.Text) }

// CheckStats is what Check saw.
type CheckStats struct{ Inodes, Names, Chunks, Bytes int64 }

// Check looks at the whole tree as it is at one moment, beside whatever goes on, and calls report for each
// problem. With chunks it reads every chunk. It needs some 200 bytes of memory for each inode. An error
// says that the check itself could not go on.
func (e *Engine) Check(ctx context.Context, chunks bool, report func(Problem)) (CheckStats, error) {
	if err := e.guard.enter(); err != nil {
		return CheckStats{}, err
	}
	defer e.guard.exit()
	snap := e.db.NewSnapshot()
	defer snap.Close()
	c := &checker{ctx: ctx, e: e, snap: snap, read: chunks, report: report, inodes: map[Ino]*checkedInode{}, chunk: uint64(e.opts.ChunkSize)}
	for _, step := range []func() error{c.scanInodes, c.scanDentries, c.scanListed, c.scanOrphans, c.scanXattrs, c.scanTargets, c.scanChunks, c.scanGroups} {
		if err := step(); err != nil {
			return c.stats, fmt.Errorf("engine: check: %w", err)
		}
	}
	c.judge()
	return c.stats, c.judgeState()
}

// checker is one run of Check.
type checker struct {
	ctx    context.Context
	e      *Engine
	snap   *pebble.Snapshot
	read   bool
	report func(Problem)
	inodes map[Ino]*checkedInode
	chunk  uint64
	stats  CheckStats
	used   usage
	last   Ino // the highest number
}

// checkedInode is what Check remembers of an inode.
type checkedInode struct {
	attr    Attr
	names   uint64 // that stand for it
	subdirs uint64 // of a directory
	entries uint64
	listed  uint64
	cookie  uint64 // the highest
	orphan  bool
	target  bool
	reached bool
	account *account // set once its chunks were looked at
}

// wrong is problem for an inode that a change of its attributes puts right.
func (c *checker) wrong(kind ProblemKind, ino Ino, in *checkedInode, change func(*Attr), format string, args ...any) {
	a := in.attr
	change(&a)
	c.report(Problem{Kind: kind, Ino: ino, Text: fmt.Sprintf(format, args...), should: &a})
}

func (c *checker) problem(kind ProblemKind, ino Ino, format string, args ...any) {
	c.report(Problem{Kind: kind, Ino: ino, Text: fmt.Sprintf(format, args...)})
}

// scan calls fn for all keys with a prefix. What fn finds wrong with one is a problem of its own.
func (c *checker) scan(prefix byte, fn func(key, value []byte) error) (err error) {
	it, err := c.snap.NewIterWithContext(c.ctx, &pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	steps := 0
	for ok := it.First(); ok; ok = it.Next() {
		var v []byte
		if prefix != prefixChunk || c.read {
			if v, err = it.ValueAndErr(); err != nil {
				if prefix != prefixChunk {
					return err
				}
				c.unreadable(it.Key(), err)
				continue
			}
		}
		if err := fn(it.Key(), v); err != nil {
			c.problem(ProblemRecord, 0, "key %x: %v", it.Key(), err)
		}
		if steps++; steps%4096 == 0 && c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
	}
	return it.Error()
}

func (c *checker) named(kind ProblemKind, dir Ino, name string, d dentry, format string, args ...any) {
	c.report(Problem{Kind: kind, Ino: d.ino, Dir: dir, Name: name, Text: fmt.Sprintf(format, args...), cookie: d.cookie})
}

func (c *checker) unreadable(key []byte, err error) {
	ino, _ := inoOfKey(key)
	c.problem(ProblemChunk, ino, "inode %d: chunk at key %x: %v", ino, key, err)
}

func (c *checker) scanInodes() error {
	return c.scan(prefixInode, func(key, value []byte) error {
		ino, err := inoOfKey(key)
		if err != nil {
			return err
		}
		a, err := decodeAttr(value)
		if err != nil {
			return err
		}
		c.inodes[ino] = &checkedInode{attr: a}
		c.stats.Inodes++
		c.used.inodes++
		c.used.bytes += int64(a.Blocks)
		c.last = max(c.last, ino)
		return nil
	})
}

func (c *checker) scanDentries() error {
	return c.scan(prefixDentry, func(key, value []byte) error {
		dir, err := inoOfKey(key)
		if err != nil {
			return err
		}
		name := string(key[inodeKeyLen:])
		d, err := decodeDentry(value)
		if err != nil {
			return err
		}
		if checkName(name) != nil || isDot(name) {
			return fmt.Errorf("%w: name %q", ErrCorrupt, name)
		}
		c.stats.Names++
		in, child := c.inodes[dir], c.inodes[d.ino]
		if in == nil || in.attr.Type != TypeDir || child == nil || child.attr.Type != d.typ {
			c.named(ProblemDangling, dir, name, d, "directory %d: %q means inode %d of type %d", dir, name, d.ino, d.typ)
			return nil
		}
		if d.typ == TypeDir {
			switch {
			case child.names > 0:
				c.named(ProblemDangling, dir, name, d, "directory %d has a second name, %q in %d", d.ino, name, dir)
				return nil
			case child.attr.Parent != dir:
				c.wrong(ProblemParent, d.ino, child, func(a *Attr) { a.Parent = dir }, "directory %d is %q in %d, its parent is %d", d.ino, name, dir, child.attr.Parent)
			}
		}
		in.entries++
		in.cookie = max(in.cookie, d.cookie)
		if d.typ == TypeDir {
			in.subdirs++
		}
		child.names++
		v, closer, err := c.snap.Get(appendReaddirKey(nil, dir, d.cookie))
		if err != nil && !errors.Is(err, pebble.ErrNotFound) {
			return err
		}
		if err == nil {
			ld, lname, derr := decodeReaddir(appendReaddirKey(nil, dir, d.cookie), v)
			if derr == nil && ld == d && lname == name {
				return closer.Close()
			}
			_ = closer.Close() // it holds memory only
		}
		c.named(ProblemEntry, dir, name, d, "directory %d: %q is not listed at cookie %d", dir, name, d.cookie)
		return nil
	})
}

func (c *checker) scanListed() error {
	return c.scan(prefixReaddir, func(key, value []byte) error {
		dir, err := inoOfKey(key)
		if err != nil {
			return err
		}
		d, name, err := decodeReaddir(key, value)
		if err != nil {
			return err
		}
		if in := c.inodes[dir]; in != nil {
			in.listed++
		}
		v, closer, err := c.snap.Get(appendDentryKey(nil, dir, name))
		if err != nil && !errors.Is(err, pebble.ErrNotFound) {
			return err
		}
		if err == nil {
			have, derr := decodeDentry(v)
			_ = closer.Close() // it holds memory only
			if derr == nil && have == d {
				return nil
			}
		}
		c.named(ProblemListed, dir, name, d, "directory %d lists %q at cookie %d", dir, name, d.cookie)
		return nil
	})
}

func (c *checker) scanOrphans() error {
	return c.scan(prefixOrphan, func(key, _ []byte) error {
		ino, err := inoOfKey(key)
		if err != nil {
			return err
		}
		in := c.inodes[ino]
		if in == nil || in.attr.Nlink != 0 {
			c.problem(ProblemOrphan, ino, "inode %d is to be removed, and is not unlinked", ino)
			return nil
		}
		in.orphan = true
		return nil
	})
}

func (c *checker) scanXattrs() error {
	return c.scan(prefixXattr, func(key, value []byte) error {
		ino, err := inoOfKey(key)
		if err != nil {
			return err
		}
		name := string(key[inodeKeyLen:])
		want := flagXattrs
		switch name {
		case xattrAccessACL, xattrDefaultACL:
			want |= flagACL
			if _, err := decodeACL(value); err != nil {
				return err
			}
		case xattrCapability:
			want |= flagCapability
		}
		in := c.inodes[ino]
		switch {
		case in == nil:
			c.problem(ProblemXattr, ino, "inode %d is not there, and has attribute %q", ino, name)
		case in.attr.Flags&want != want:
			c.wrong(ProblemXattr, ino, in, func(a *Attr) { a.Flags |= want }, "inode %d: attribute %q is not known of", ino, name)
		}
		return nil
	})
}

func (c *checker) scanTargets() error {
	return c.scan(prefixSymlink, func(key, value []byte) error {
		ino, err := inoOfKey(key)
		if err != nil {
			return err
		}
		in := c.inodes[ino]
		switch {
		case in == nil || in.attr.Type != TypeSymlink:
			c.problem(ProblemTarget, ino, "inode %d is no symbolic link, and has a target", ino)
		case in.attr.Size != uint64(len(value)):
			c.wrong(ProblemTarget, ino, in, func(a *Attr) { a.Size = uint64(len(value)) }, "inode %d: target of %d bytes, size %d", ino, len(value), in.attr.Size)
		}
		if in != nil {
			in.target = true
		}
		return nil
	})
}

// judge looks at what the scans found of each inode.
func (c *checker) judge() {
	for ino, in := range c.inodes {
		a := &in.attr
		switch {
		case a.Type == TypeSymlink && !in.target:
			c.problem(ProblemTarget, ino, "inode %d: symbolic link without a target", ino)
		case a.Type == TypeDir:
			c.judgeDir(ino, in)
		}
		switch names := in.names; {
		case ino == RootIno:
		case a.Nlink == 0 && !in.orphan:
			c.problem(ProblemOrphan, ino, "inode %d is unlinked, and never removed", ino)
		case a.Nlink == 0 && names == 0:
		case names == 0:
			c.problem(ProblemLost, ino, "inode %d has %d links and no name", ino, a.Nlink)
		case a.Type != TypeDir && names != uint64(a.Nlink):
			c.wrong(ProblemLinks, ino, in, func(a *Attr) { a.Nlink = uint32(names) }, "inode %d has %d links and %d names", ino, a.Nlink, names)
		case a.Type == TypeDir:
			c.judgeReach(ino)
		}
	}
	if c.inodes[RootIno] == nil {
		c.problem(ProblemRecord, RootIno, "there is no root directory")
	}
}

func (c *checker) judgeDir(ino Ino, in *checkedInode) {
	a := &in.attr
	if a.Size != in.entries || in.cookie > a.Cookie {
		c.wrong(ProblemEntries, ino, in, func(a *Attr) { a.Size, a.Cookie = in.entries, max(a.Cookie, in.cookie) }, "directory %d says %d entries up to cookie %d, and has %d up to %d", ino, a.Size, a.Cookie, in.entries, in.cookie)
	}
	if want := in.subdirs + 2; a.Nlink != 0 && uint64(a.Nlink) != want {
		c.wrong(ProblemLinks, ino, in, func(a *Attr) { a.Nlink = uint32(want) }, "directory %d has %d links, not %d", ino, a.Nlink, want)
	}
}

// judgeReach reports a directory from which ".." never comes to the root.
func (c *checker) judgeReach(ino Ino) {
	var path []*checkedInode
	for at, steps := ino, 0; at != RootIno; steps++ {
		in := c.inodes[at]
		if in == nil || steps > len(c.inodes) {
			c.problem(ProblemLost, ino, "directory %d does not lie below the root", ino)
			return
		}
		if in.reached {
			break
		}
		path = append(path, in)
		if in.attr.Nlink == 0 {
			break // it was removed while somebody used it
		}
		at = in.attr.Parent
	}
	for _, in := range path {
		in.reached = true
	}
}

// judgeState looks at the volume's counters.
func (c *checker) judgeState() error {
	get := func(name string) ([]byte, error) {
		v, closer, err := c.snap.Get(appendStateKey(nil, name))
		if errors.Is(err, pebble.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("engine: check: state %q: %w", name, err)
		}
		return append([]byte(nil), v...), closer.Close()
	}
	v, err := get(stateNext)
	if err != nil {
		return err
	}
	if next, err := decodeUint64(v); err != nil && c.last > RootIno || err == nil && Ino(next) <= c.last {
		c.problem(ProblemNext, 0, "the next inode is %d, there is %d", next, c.last)
	}
	if v, err = get(stateUsage); err != nil {
		return err
	}
	if u, err := decodeUsage(v); err != nil || u != c.used {
		c.problem(ProblemUsage, 0, "the volume says %d inodes and %d bytes, and has %d and %d", u.inodes, u.bytes, c.used.inodes, c.used.bytes)
	}
	return nil
}
