package ninep

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"sync"

	"zerofs/engine"
	"zerofs/journal"
)

// fake is a file system in memory that checks no permissions. It stands in for the engine where a
// test has to hold calls up, to count them, or to run in virtual time.
type fake struct {
	mu     sync.Mutex
	nodes  map[engine.Ino]*fakeNode
	next   engine.Ino
	clock  int64
	holds  map[engine.Ino]int
	cred   *engine.Cred // of the last call that had one
	synced journal.LSN
	lsn    journal.LSN

	// before is called at the start of each operation, with no lock held; an error fails it.
	before func(ctx context.Context, op string) error
	fast   bool // TryRead has everything
}

type fakeNode struct {
	attr   engine.Attr
	data   []byte
	target string
	names  map[string]engine.Ino
	order  []string // entries; the cookie is the index plus one
	xattrs map[string][]byte
}

func newFake() *fake {
	f := &fake{nodes: map[engine.Ino]*fakeNode{}, holds: map[engine.Ino]int{}, next: engine.RootIno}
	root := f.make(engine.Attr{Type: engine.TypeDir, Mode: 0o755, Nlink: 2})
	f.nodes[root].attr.Parent = root
	return f
}

func (f *fake) make(a engine.Attr) engine.Ino {
	ino := f.next
	f.next++
	f.clock++
	a.Generation, a.Atime, a.Mtime, a.Ctime, a.Btime = 1, f.clock*1e9, f.clock*1e9, f.clock*1e9, f.clock*1e9
	f.nodes[ino] = &fakeNode{attr: a, names: map[string]engine.Ino{}, xattrs: map[string][]byte{}}
	return ino
}

// begin starts an operation: it returns with f.mu held unless there is an error.
func (f *fake) begin(ctx context.Context, op string, c *engine.Cred) error {
	if f.before != nil {
		if err := f.before(ctx, op); err != nil {
			return err
		}
	}
	f.mu.Lock()
	if c != nil {
		f.cred = c
	}
	f.lsn++
	return nil
}

func (f *fake) node(ino engine.Ino) (*fakeNode, error) {
	n := f.nodes[ino]
	if n == nil || n.attr.Nlink == 0 && f.holds[ino] == 0 {
		return nil, fmt.Errorf("no inode %d: %w", ino, fs.ErrNotExist)
	}
	return n, nil
}

func (f *fake) directory(ino engine.Ino) (*fakeNode, error) {
	n, err := f.node(ino)
	if err == nil && n.attr.Type != engine.TypeDir {
		err = errNotDir
	}
	return n, err
}

func (n *fakeNode) add(name string, ino engine.Ino) {
	n.names[name] = ino
	n.order = append(n.order, name)
}

func (n *fakeNode) drop(name string) {
	delete(n.names, name)
	n.order[slices.Index(n.order, name)] = ""
}

func (f *fake) Lookup(ctx context.Context, c *engine.Cred, dir engine.Ino, name string) (engine.Ino, engine.Attr, error) {
	if err := f.begin(ctx, "lookup", c); err != nil {
		return 0, engine.Attr{}, err
	}
	defer f.mu.Unlock()
	d, err := f.directory(dir)
	if err != nil {
		return 0, engine.Attr{}, err
	}
	ino, ok := d.names[name]
	switch {
	case name == ".":
		ino = dir
	case name == "..":
		ino = d.attr.Parent
	case !ok:
		return 0, engine.Attr{}, fs.ErrNotExist
	}
	return ino, f.nodes[ino].attr, nil
}

func (f *fake) GetAttr(ctx context.Context, ino engine.Ino) (engine.Attr, error) {
	if err := f.begin(ctx, "getattr", nil); err != nil {
		return engine.Attr{}, err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return engine.Attr{}, err
	}
	return n.attr, nil
}

func (f *fake) SetAttr(ctx context.Context, c *engine.Cred, ino engine.Ino, set engine.SetAttr) (ch engine.Change, lsn journal.LSN, err error) {
	if err := f.begin(ctx, "setattr", c); err != nil {
		return ch, 0, err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return ch, 0, err
	}
	f.clock++
	a := &n.attr
	a.Ctime = f.clock * 1e9
	if set.Mode != nil {
		a.Mode = *set.Mode
	}
	if set.UID != nil {
		a.UID = *set.UID
	}
	if set.GID != nil {
		a.GID = *set.GID
	}
	if set.Size != nil {
		n.resize(*set.Size)
	}
	if set.Atime != nil {
		a.Atime = *set.Atime
	}
	if set.Mtime != nil {
		a.Mtime = *set.Mtime
	}
	if set.AtimeNow {
		a.Atime = f.clock * 1e9
	}
	if set.MtimeNow {
		a.Mtime = f.clock * 1e9
	}
	return ch, f.lsn, nil
}

func (n *fakeNode) resize(size uint64) {
	data := make([]byte, size)
	copy(data, n.data)
	n.data, n.attr.Size, n.attr.Blocks = data, size, size
}

func (f *fake) Create(ctx context.Context, c *engine.Cred, dir engine.Ino, name string, nf engine.NewFile) (engine.Created, error) {
	if err := f.begin(ctx, "create", c); err != nil {
		return engine.Created{}, err
	}
	defer f.mu.Unlock()
	d, err := f.directory(dir)
	if err != nil {
		return engine.Created{}, err
	}
	if ino, ok := d.names[name]; ok {
		if nf.Exclusive || nf.Type != engine.TypeRegular || f.nodes[ino].attr.Type != engine.TypeRegular {
			return engine.Created{}, fs.ErrExist
		}
		return engine.Created{Ino: ino, Attr: f.nodes[ino].attr, Existed: true}, nil
	}
	a := engine.Attr{Type: nf.Type, Mode: nf.Mode, UID: c.UID, GID: c.GID, Nlink: 1, Rdev: nf.Rdev, Size: uint64(len(nf.Target))}
	if nf.Type == engine.TypeDir {
		a.Nlink, a.Parent = 2, dir
	}
	ino := f.make(a)
	f.nodes[ino].target = nf.Target
	d.add(name, ino)
	return engine.Created{Ino: ino, Attr: f.nodes[ino].attr, LSN: f.lsn}, nil
}

func (f *fake) Link(ctx context.Context, c *engine.Cred, ino, dir engine.Ino, name string) (a engine.Attr, ch engine.Change, lsn journal.LSN, err error) {
	if err := f.begin(ctx, "link", c); err != nil {
		return a, ch, 0, err
	}
	defer f.mu.Unlock()
	d, err := f.directory(dir)
	if err != nil {
		return a, ch, 0, err
	}
	n, err := f.node(ino)
	if err != nil {
		return a, ch, 0, err
	}
	if _, ok := d.names[name]; ok {
		return a, ch, 0, fs.ErrExist
	}
	n.attr.Nlink++
	d.add(name, ino)
	return n.attr, ch, f.lsn, nil
}

func (f *fake) Unlink(ctx context.Context, c *engine.Cred, dir engine.Ino, name string) (engine.Change, journal.LSN, error) {
	return f.remove(ctx, "unlink", c, dir, name, false)
}

func (f *fake) Rmdir(ctx context.Context, c *engine.Cred, dir engine.Ino, name string) (engine.Change, journal.LSN, error) {
	return f.remove(ctx, "rmdir", c, dir, name, true)
}

func (f *fake) remove(ctx context.Context, op string, c *engine.Cred, dir engine.Ino, name string, isDir bool) (ch engine.Change, lsn journal.LSN, err error) {
	if err := f.begin(ctx, op, c); err != nil {
		return ch, 0, err
	}
	defer f.mu.Unlock()
	d, err := f.directory(dir)
	if err != nil {
		return ch, 0, err
	}
	ino, ok := d.names[name]
	if !ok {
		return ch, 0, fs.ErrNotExist
	}
	n := f.nodes[ino]
	switch {
	case isDir && n.attr.Type != engine.TypeDir:
		return ch, 0, errNotDir
	case !isDir && n.attr.Type == engine.TypeDir:
		return ch, 0, errIsDir
	case isDir && len(n.names) > 0:
		return ch, 0, fs.ErrExist
	case isDir:
		n.attr.Nlink = 0
	default:
		n.attr.Nlink--
	}
	d.drop(name)
	return ch, f.lsn, nil
}

func (f *fake) Rename(ctx context.Context, c *engine.Cred, from engine.Ino, name string, to engine.Ino, newName string, _ engine.RenameFlags) (fd, td engine.Change, lsn journal.LSN, err error) {
	if err := f.begin(ctx, "rename", c); err != nil {
		return fd, td, 0, err
	}
	defer f.mu.Unlock()
	a, err := f.directory(from)
	if err != nil {
		return fd, td, 0, err
	}
	b, err := f.directory(to)
	if err != nil {
		return fd, td, 0, err
	}
	ino, ok := a.names[name]
	if !ok {
		return fd, td, 0, fs.ErrNotExist
	}
	if old, ok := b.names[newName]; ok {
		f.nodes[old].attr.Nlink--
		b.drop(newName)
	}
	a.drop(name)
	b.add(newName, ino)
	if n := f.nodes[ino]; n.attr.Type == engine.TypeDir {
		n.attr.Parent = to
	}
	return fd, td, f.lsn, nil
}

func (f *fake) Readlink(ctx context.Context, c *engine.Cred, ino engine.Ino) (string, error) {
	if err := f.begin(ctx, "readlink", c); err != nil {
		return "", err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return "", err
	}
	if n.attr.Type != engine.TypeSymlink {
		return "", errInvalid
	}
	return n.target, nil
}

func (f *fake) ReadDir(ctx context.Context, c *engine.Cred, dir engine.Ino, after uint64, _ bool, fn func(*engine.Entry) bool) error {
	if err := f.begin(ctx, "readdir", c); err != nil {
		return err
	}
	d, err := f.directory(dir)
	if err != nil {
		f.mu.Unlock()
		return err
	}
	order := slices.Clone(d.order)
	f.mu.Unlock()
	for i := after; i < uint64(len(order)); i++ {
		if order[i] == "" {
			continue
		}
		f.mu.Lock()
		ino := d.names[order[i]]
		typ := f.nodes[ino].attr.Type
		f.mu.Unlock()
		if !fn(&engine.Entry{Name: order[i], Ino: ino, Type: typ, Cookie: i + 1}) {
			break
		}
	}
	return nil
}

func (f *fake) Hold(ctx context.Context, ino engine.Ino) (engine.Attr, error) {
	if err := f.begin(ctx, "hold", nil); err != nil {
		return engine.Attr{}, err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return engine.Attr{}, err
	}
	f.holds[ino]++
	return n.attr, nil
}

func (f *fake) Release(ino engine.Ino) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds[ino]--
	switch n := f.holds[ino]; {
	case n < 0:
		panic("released more often than held")
	case n == 0:
		delete(f.holds, ino)
	}
}

func (f *fake) Open(ctx context.Context, c *engine.Cred, ino engine.Ino, access uint32, trunc bool) (engine.Attr, journal.LSN, error) {
	if err := f.begin(ctx, "open", c); err != nil {
		return engine.Attr{}, 0, err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return engine.Attr{}, 0, err
	}
	if c.UID != 0 && n.attr.Mode&access != access {
		return engine.Attr{}, 0, engine.ErrAccess
	}
	if trunc {
		n.resize(0)
	}
	f.holds[ino]++
	return n.attr, f.lsn, nil
}

func (f *fake) Read(ctx context.Context, ino engine.Ino, p []byte, off int64) (int, error) {
	if err := f.begin(ctx, "read", nil); err != nil {
		return 0, err
	}
	defer f.mu.Unlock()
	return f.readAt(ino, p, off)
}

func (f *fake) readAt(ino engine.Ino, p []byte, off int64) (int, error) {
	n, err := f.node(ino)
	if err != nil {
		return 0, err
	}
	return copy(p, n.data[min(off, int64(len(n.data))):]), nil
}

func (f *fake) TryRead(ino engine.Ino, p []byte, off int64) (int, bool) {
	if !f.fast {
		return 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.readAt(ino, p, off)
	return n, err == nil
}

func (f *fake) Write(ctx context.Context, c *engine.Cred, ino engine.Ino, p []byte, off int64) (ch engine.Change, lsn journal.LSN, err error) {
	if err := f.begin(ctx, "write", c); err != nil {
		return ch, 0, err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return ch, 0, err
	}
	if off > math.MaxInt32 {
		return ch, 0, errTooBig
	}
	if end := uint64(off) + uint64(len(p)); end > n.attr.Size {
		n.resize(end)
	}
	copy(n.data[off:], p)
	f.clock++
	n.attr.Mtime, n.attr.Ctime = f.clock*1e9, f.clock*1e9
	return ch, f.lsn, nil
}

func (f *fake) Append(ctx context.Context, c *engine.Cred, ino engine.Ino, p []byte) (off int64, ch engine.Change, lsn journal.LSN, err error) {
	a, err := f.GetAttr(ctx, ino)
	if err != nil {
		return 0, ch, 0, err
	}
	ch, lsn, err = f.Write(ctx, c, ino, p, int64(a.Size))
	return int64(a.Size), ch, lsn, err
}

func (f *fake) GetXattr(ctx context.Context, c *engine.Cred, ino engine.Ino, name string) ([]byte, error) {
	if err := f.begin(ctx, "getxattr", c); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return nil, err
	}
	v, ok := n.xattrs[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return v, nil
}

func (f *fake) SetXattr(ctx context.Context, c *engine.Cred, ino engine.Ino, name string, value []byte, flags int) (journal.LSN, error) {
	if err := f.begin(ctx, "setxattr", c); err != nil {
		return 0, err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return 0, err
	}
	if _, ok := n.xattrs[name]; ok && flags&xattrCreate != 0 {
		return 0, fs.ErrExist
	}
	n.xattrs[name] = slices.Clone(value)
	return f.lsn, nil
}

func (f *fake) ListXattr(ctx context.Context, c *engine.Cred, ino engine.Ino) ([]string, error) {
	if err := f.begin(ctx, "listxattr", c); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for name := range n.xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (f *fake) RemoveXattr(ctx context.Context, c *engine.Cred, ino engine.Ino, name string) (journal.LSN, error) {
	if err := f.begin(ctx, "removexattr", c); err != nil {
		return 0, err
	}
	defer f.mu.Unlock()
	n, err := f.node(ino)
	if err != nil {
		return 0, err
	}
	delete(n.xattrs, name)
	return f.lsn, nil
}

func (f *fake) StatFS(ctx context.Context) (engine.StatFS, error) {
	if err := f.begin(ctx, "statfs", nil); err != nil {
		return engine.StatFS{}, err
	}
	defer f.mu.Unlock()
	return engine.StatFS{Total: 1 << 40, Free: 1 << 39, Avail: 1 << 38, Files: 1000, FreeFiles: 900, BlockSize: 4096, NameMax: 255, ID: 7}, nil
}

func (f *fake) Sync(ctx context.Context, lsn journal.LSN) error {
	if err := f.begin(ctx, "sync", nil); err != nil {
		return err
	}
	defer f.mu.Unlock()
	f.synced = max(f.synced, lsn)
	return nil
}

func (f *fake) SyncInode(ctx context.Context, ino engine.Ino) error {
	return f.Sync(ctx, journal.LSN(math.MaxInt64))
}

// held returns how many references the connections have to inodes.
func (f *fake) held() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.holds {
		n += k
	}
	return n
}
