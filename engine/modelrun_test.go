package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"zerofs/journal"
)

// errnoOf is what a server tells of err.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return ok
	}
	for _, x := range []struct {
		err   error
		errno syscall.Errno
	}{
		{ErrStale, syscall.ESTALE}, {ErrPerm, syscall.EPERM}, {ErrAccess, syscall.EACCES}, {ErrNotDir, syscall.ENOTDIR},
		{ErrIsDir, syscall.EISDIR}, {ErrNotEmpty, syscall.ENOTEMPTY}, {ErrNameTooLong, syscall.ENAMETOOLONG}, {ErrTooLarge, syscall.EFBIG},
		{ErrBusy, syscall.EBUSY}, {ErrNoData, syscall.ENODATA}, {ErrRange, syscall.ERANGE}, {ErrTooBig, syscall.E2BIG}, {ErrLoop, syscall.ELOOP},
		{ErrLinks, syscall.EMLINK}, {ErrCrossDevice, syscall.EXDEV}, {ErrNoSpace, syscall.ENOSPC}, {ErrNoAddress, syscall.ENXIO},
		{ErrChanged, syscall.EAGAIN}, {fs.ErrInvalid, syscall.EINVAL}, {fs.ErrNotExist, syscall.ENOENT}, {fs.ErrExist, syscall.EEXIST},
		{errors.ErrUnsupported, syscall.EOPNOTSUPP},
	} {
		if errors.Is(err, x.err) {
			return x.errno
		}
	}
	return syscall.EIO
}

// world is an engine and the model beside it.
type world struct {
	t     *rapid.T
	ctx   context.Context
	mem   *vfs.MemFS
	log   *fakeLog
	e     *Engine
	m     *modelFS
	now   int64
	known []Ino // inode numbers to try, those that are gone too
	past  map[journal.LSN]*modelFS
	small bool // no caches
}

var modelCreds = []*Cred{
	{UID: 0, GID: 0},
	{UID: 1000, GID: 100, Groups: []uint32{200}},
	{UID: 1001, GID: 100},
	{UID: 1002, GID: 101, Groups: []uint32{100, 102}},
}

// TestModel runs random calls by several users on the engine and on the model, with crashes in between, and
// compares every answer; after each crash and at the end the trees too.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, ctx: context.Background(), mem: vfs.NewCrashableMem(), log: newFakeLog(), now: testTime.UnixNano(), known: []Ino{RootIno}, past: map[journal.LSN]*modelFS{}}
		w.small = rapid.Bool().Draw(t, "no caches")
		w.open()
		w.m = newModel(w.now)
		mode := uint32(0o777)
		w.do("chmod /", ok, w.setattr(0, RootIno, SetAttr{Mode: &mode}))
		w.keep()
		t.Repeat(map[string]func(*rapid.T){
			"create":   func(*rapid.T) { w.create() },
			"create2":  func(*rapid.T) { w.create() },
			"lookup":   func(*rapid.T) { w.lookup() },
			"link":     func(*rapid.T) { w.link() },
			"remove":   func(*rapid.T) { w.remove() },
			"rename":   func(*rapid.T) { w.rename() },
			"rename2":  func(*rapid.T) { w.rename() },
			"setattr":  func(*rapid.T) { w.setattrs() },
			"truncate": func(*rapid.T) { w.truncate() },
			"write":    func(*rapid.T) { w.write() },
			"write2":   func(*rapid.T) { w.write() },
			"read":     func(*rapid.T) { w.read() },
			"punch":    func(*rapid.T) { w.punch() },
			"hold":     func(*rapid.T) { w.hold() },
			"release":  func(*rapid.T) { w.release() },
			"xattr":    func(*rapid.T) { w.xattr() },
			"acl":      func(*rapid.T) { w.acl() },
			"access":   func(*rapid.T) { w.access() },
			"readdir":  func(*rapid.T) { w.readdir() },
			"sync":     func(*rapid.T) { w.sync() },
			"crash":    func(*rapid.T) { w.crash() },
		})
		w.compare()
		if err := w.e.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func (w *world) open() {
	opts := testOptions(w.mem, w.log)
	opts.MemTableSize = 256 << 10
	opts.TidyAfter = -1
	opts.Now = func() time.Time { return time.Unix(0, w.now) }
	if w.small {
		opts.MetadataCache = -1
	}
	e, err := openStarted(opts, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	if !w.small {
		e.cache = newMapCache(nil)
	}
	w.e = e
}

// keep remembers the model as of the last record.
func (w *world) keep() { w.past[w.log.Last()] = w.m.clone() }

// do compares what the engine answered with what the model did.
func (w *world) do(what string, want syscall.Errno, err error) bool {
	w.t.Helper()
	w.t.Logf("%s: %v", what, want)
	if got := errnoOf(err); got != want {
		w.t.Fatalf("%s: engine says %d (%v), model %d (%v)", what, got, err, want, want)
	}
	w.keep()
	return want == ok
}

func (w *world) tick() int64 {
	w.now += 1000
	return w.now
}

func (w *world) cred() *Cred { return rapid.SampledFrom(modelCreds).Draw(w.t, "cred") }
func (w *world) name() string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(w.t, "name")
}
func (w *world) mode() uint32 {
	return rapid.SampledFrom([]uint32{0o777, 0o755, 0o700, 0o770, 0o750, 0o4755, 0o2775, 0o1777, 0o6711, 0o644, 0o020, 0o2070}).Draw(w.t, "mode")
}
func (w *world) any() Ino   { return rapid.SampledFrom(w.known).Draw(w.t, "inode") }
func (w *world) coin() bool { return rapid.Bool().Draw(w.t, "coin") }

// of draws an inode of a type if there is one, and mostly one that has a name.
func (w *world) of(types ...FileType) Ino {
	var some []Ino
	for _, ino := range w.known {
		if n := w.m.inodes[ino]; n != nil && slices.Contains(types, n.typ) {
			some = append(some, ino)
		}
	}
	if len(some) == 0 || rapid.IntRange(0, 19).Draw(w.t, "any inode") == 0 {
		return w.any()
	}
	return rapid.SampledFrom(some).Draw(w.t, "inode")
}

func (w *world) create() {
	c, dir, name := w.cred(), w.of(TypeDir), w.name()
	f := NewFile{Type: rapid.SampledFrom([]FileType{TypeRegular, TypeRegular, TypeDir, TypeDir, TypeSymlink, TypeFIFO, TypeChar}).Draw(w.t, "type"),
		Mode: w.mode(), Umask: rapid.SampledFrom([]uint32{0, 0o022, 0o077}).Draw(w.t, "umask"), Rdev: 0x103, Target: "to", Exclusive: w.coin()}
	now := w.tick()
	existing, n, want := w.m.create(c, dir, name, &f)
	made, err := w.e.Create(w.ctx, c, dir, name, f)
	if err == nil && want == ok && n != nil {
		w.m.entered(dir, name, made.Ino, n, now)
		w.known = append(w.known, made.Ino)
		if made.Existed || made.Dir.After.Ctime != now || made.Dir.Before.Size+1 != made.Dir.After.Size {
			w.t.Fatalf("create: %+v", made)
		}
	} else if want == ok && (made.Ino != existing || !made.Existed) {
		w.t.Fatalf("create: %+v, exists as %d", made, existing)
	}
	if w.do(fmt.Sprintf("create %d/%s type %d mode %o by %d", dir, name, f.Type, f.Mode, c.UID), want, err) {
		w.same(made.Ino, made.Attr)
		w.attrs(dir)
	}
}

func (w *world) lookup() {
	c, dir := w.cred(), w.of(TypeDir)
	name := rapid.SampledFrom([]string{"a", "b", "c", "d", ".", ".."}).Draw(w.t, "name")
	want, errno := w.m.lookup(c, dir, name)
	got, a, err := w.e.Lookup(w.ctx, c, dir, name)
	if w.do(fmt.Sprintf("lookup %d/%s by %d", dir, name, c.UID), errno, err) {
		if got != want {
			w.t.Fatalf("lookup: inode %d, want %d", got, want)
		}
		w.same(got, a)
	}
}

func (w *world) link() {
	c, ino, dir, name := w.cred(), w.of(TypeRegular, TypeSymlink, TypeFIFO), w.of(TypeDir), w.name()
	want := w.m.link(c, ino, dir, name, w.tick())
	a, ch, _, err := w.e.Link(w.ctx, c, ino, dir, name)
	if w.do(fmt.Sprintf("link %d to %d/%s by %d", ino, dir, name, c.UID), want, err) {
		w.same(ino, a)
		w.same(dir, ch.After)
	}
}

func (w *world) remove() {
	c, dir, name, isDir := w.cred(), w.of(TypeDir), w.name(), w.coin()
	want := w.m.remove(c, dir, name, isDir, w.tick())
	call := w.e.Unlink
	if isDir {
		call = w.e.Rmdir
	}
	ch, _, err := call(w.ctx, c, dir, name)
	if w.do(fmt.Sprintf("remove %d/%s dir %v by %d", dir, name, isDir, c.UID), want, err) {
		w.same(dir, ch.After)
	}
}

func (w *world) rename() {
	c, from, name, to, newName := w.cred(), w.of(TypeDir), w.name(), w.of(TypeDir), w.name()
	flags := rapid.SampledFrom([]RenameFlags{0, 0, RenameNoReplace, RenameExchange}).Draw(w.t, "flags")
	want := w.m.rename(c, from, name, to, newName, flags, w.tick())
	a, b, _, err := w.e.Rename(w.ctx, c, from, name, to, newName, flags)
	if w.do(fmt.Sprintf("rename %d/%s to %d/%s flags %d by %d", from, name, to, newName, flags, c.UID), want, err) {
		w.same(from, a.After)
		w.same(to, b.After)
	}
}

// setattr does it on both sides and returns the engine's error if they agree.
func (w *world) setattr(who int, ino Ino, s SetAttr) error {
	c := modelCreds[who]
	want := w.m.setattr(c, ino, &s, w.tick())
	ch, _, err := w.e.SetAttr(w.ctx, c, ino, s)
	if got := errnoOf(err); got != want {
		w.t.Fatalf("setattr %d %+v by %d: engine says %v (%v), model %v", ino, s, c.UID, got, err, want)
	}
	if err == nil {
		w.same(ino, ch.After)
		return nil
	}
	return nil
}

func (w *world) setattrs() {
	ino, who := w.any(), rapid.IntRange(0, len(modelCreds)-1).Draw(w.t, "cred")
	var s SetAttr
	id := func() *uint32 {
		v := rapid.SampledFrom([]uint32{0, 100, 101, 200, 1000, 1001}).Draw(w.t, "id")
		return &v
	}
	at := func() *int64 { v := rapid.Int64Range(-1, 2).Draw(w.t, "time") * 1e18; return &v }
	what := rapid.IntRange(0, 6).Draw(w.t, "what")
	if what == 0 || what == 6 {
		v := w.mode()
		s.Mode = &v
	}
	switch what {
	case 1:
		s.UID = id()
	case 2:
		s.GID = id()
	case 3:
		s.UID, s.GID = id(), id()
	case 4:
		s.Atime, s.Mtime = at(), at()
	case 5:
		s.AtimeNow, s.MtimeNow = w.coin(), w.coin()
	}
	w.do(fmt.Sprintf("setattr %d what %d by %d", ino, what, modelCreds[who].UID), ok, w.setattr(who, ino, s))
}

// offset draws one near the beginning of a file, or where one allocation record ends and the next begins.
func (w *world) offset() int64 {
	base := rapid.SampledFrom([]int64{0, 0, 0, groupChunks*4096 - 8192}).Draw(w.t, "base")
	return base + rapid.OneOf(rapid.Int64Range(0, 20_000), rapid.Map(rapid.Int64Range(0, 4), func(k int64) int64 { return k * 4096 })).Draw(w.t, "offset")
}

func (w *world) truncate() {
	size := uint64(w.offset())
	ino, who := w.of(TypeRegular), rapid.IntRange(0, len(modelCreds)-1).Draw(w.t, "cred")
	w.do(fmt.Sprintf("truncate %d to %d", ino, size), ok, w.setattr(who, ino, SetAttr{Size: &size, Opened: w.coin()}))
}

// file returns the model's file, or the errno that its type gives.
func (w *world) file(ino Ino) (*modelInode, syscall.Errno) {
	n := w.m.inodes[ino]
	switch {
	case n == nil:
		return nil, syscall.ESTALE
	case n.typ == TypeDir:
		return nil, syscall.EISDIR
	case n.typ != TypeRegular:
		return nil, syscall.EINVAL
	}
	return n, ok
}

func (w *world) write() {
	c, ino, off := w.cred(), w.of(TypeRegular), w.offset()
	p := make([]byte, rapid.SampledFrom([]int{1, 100, 4096, 5000, 12288}).Draw(w.t, "length"))
	if rapid.IntRange(0, 3).Draw(w.t, "zeros") > 0 {
		fillRandom(p, uint64(w.now))
	}
	n, want := w.file(ino)
	atEnd := w.coin() && want == ok && n.size < 64<<20
	now := w.tick()
	var err error
	if atEnd {
		off = n.size
		var at int64
		if at, _, _, err = w.e.Append(w.ctx, c, ino, p); at != off {
			w.t.Fatalf("appended at %d, not %d", at, off)
		}
	} else {
		_, _, err = w.e.Write(w.ctx, c, ino, p, off)
	}
	if want == ok {
		n.write(p, off)
		n.mtime, n.ctime = now, now
		n.unprivileged(c)
	}
	if w.do(fmt.Sprintf("write %d bytes at %d of %d, end %v, by %d", len(p), off, ino, atEnd, c.UID), want, err) {
		w.attrs(ino)
	}
}

func (w *world) read() {
	ino, off := w.of(TypeRegular), w.offset()
	n, want := w.file(ino)
	p := make([]byte, 30_000)
	now := w.tick()
	k, err := w.e.Read(w.ctx, ino, p, off)
	if !w.do(fmt.Sprintf("read %d at %d", ino, off), want, err) {
		return
	}
	if should := n.read(off, int64(len(p))); !bytes.Equal(p[:k], should) {
		w.t.Fatalf("read %d bytes, should be %d, first difference at %d", k, len(should), diff(p[:min(k, len(should))], should[:min(k, len(should))]))
	}
	n.read1(now)
	w.attrs(ino)
	q := make([]byte, 30_000)
	if k2, ok := w.e.TryRead(ino, q, off); ok && !bytes.Equal(q[:k2], p[:k]) {
		w.t.Fatalf("another answer from memory")
	}
	if n.size > 0 {
		w.seek(ino, n, off)
	}
}

// read1 sets the access time as relatime does.
func (n *modelInode) read1(now int64) {
	if n.atime <= n.mtime || n.atime <= n.ctime || now-n.atime >= int64(24*time.Hour) {
		n.atime = max(n.atime, now)
	}
}

// seek checks that what Seek calls a hole is zeros.
func (w *world) seek(ino Ino, n *modelInode, off int64) {
	data, err := w.e.Seek(w.ctx, ino, off, false)
	if off >= n.size {
		if !errors.Is(err, ErrNoAddress) {
			w.t.Fatalf("seek beyond the end: %v", err)
		}
		return
	}
	if errors.Is(err, ErrNoAddress) {
		data = n.size
	} else if err != nil {
		w.t.Fatal(err)
	}
	if data < off || data > n.size {
		w.t.Fatalf("data at %d from %d of %d on", data, off, n.size)
	}
	if at := slices.IndexFunc(n.read(off, min(data-off, 1<<20)), func(b byte) bool { return b != 0 }); at >= 0 {
		w.t.Fatalf("data at %d, and Seek says %d from %d on", off+int64(at), data, off)
	}
	hole, err := w.e.Seek(w.ctx, ino, off, true)
	if err != nil || hole < off || hole > n.size || data > off && hole != off {
		w.t.Fatalf("hole at %d, data at %d from %d of %d on: %v", hole, data, off, n.size, err)
	}
}

func (w *world) punch() {
	c, ino, off := w.cred(), w.of(TypeRegular), w.offset()
	length := rapid.SampledFrom([]int64{1, 100, 4096, 10_000, 300_000, 20 << 20}).Draw(w.t, "length")
	mode := rapid.SampledFrom([]FallocMode{0, FallocKeepSize, FallocKeepSize | FallocPunchHole, FallocZeroRange | FallocKeepSize}).Draw(w.t, "mode")
	n, want := w.file(ino)
	now := w.tick()
	_, err := w.e.Fallocate(w.ctx, c, ino, mode, off, length)
	if want == ok {
		if mode&(FallocPunchHole|FallocZeroRange) != 0 {
			n.zero(off, min(off+length, n.size))
		} else if mode == 0 {
			n.size = max(n.size, off+length)
		}
		n.mtime, n.ctime = now, now
		n.unprivileged(c)
	}
	if w.do(fmt.Sprintf("fallocate %d mode %d: %d at %d", ino, mode, length, off), want, err) {
		w.attrs(ino)
	}
}

func (w *world) hold() {
	ino := w.any()
	n, want := w.m.inodes[ino], ok
	if n == nil {
		want = syscall.ESTALE
	}
	a, err := w.e.Hold(w.ctx, ino)
	if w.do(fmt.Sprintf("hold %d", ino), want, err) {
		n.holds++
		w.same(ino, a)
		w.keep()
	}
}

func (w *world) release() {
	var held []Ino
	for _, ino := range w.known {
		if n := w.m.inodes[ino]; n != nil && n.holds > 0 {
			held = append(held, ino)
		}
	}
	if len(held) == 0 {
		return
	}
	ino := rapid.SampledFrom(held).Draw(w.t, "inode")
	w.e.Release(ino)
	w.m.inodes[ino].holds--
	w.m.collect(ino)
	w.do(fmt.Sprintf("release %d", ino), ok, nil)
}

func (w *world) xattr() {
	c, ino := w.cred(), w.any()
	name := rapid.SampledFrom([]string{"user.u", "trusted.t", "security.s"}).Draw(w.t, "attribute")
	value := rapid.SampledFrom([]string{"", "v", "another"}).Draw(w.t, "value")
	flags := rapid.SampledFrom([]int{0, XattrCreate, XattrReplace}).Draw(w.t, "flags")
	remove := w.coin()
	if remove {
		flags = 0
	}
	want := w.m.setxattr(c, ino, name, value, flags, remove, w.tick())
	var err error
	if remove {
		_, err = w.e.RemoveXattr(w.ctx, c, ino, name)
	} else {
		_, err = w.e.SetXattr(w.ctx, c, ino, name, []byte(value), flags)
	}
	w.do(fmt.Sprintf("xattr %d %s remove %v flags %d by %d", ino, name, remove, flags, c.UID), want, err)
	w.xattrs(ino)
}

// xattrs compares an inode's attributes as everybody sees them.
func (w *world) xattrs(ino Ino) {
	n := w.m.inodes[ino]
	if n == nil {
		return
	}
	for _, c := range modelCreds {
		got, err := w.e.ListXattr(w.ctx, c, ino)
		if want := n.attrNames(c); err != nil || !slices.Equal(got, want) {
			w.t.Fatalf("inode %d has attributes %q for %d, not %q, %v", ino, got, c.UID, want, err)
		}
		for name, value := range n.xattrs {
			got, err := w.e.GetXattr(w.ctx, c, ino, name)
			if want := w.m.xattrAllowed(c, n, name, false); errnoOf(err) != want || want == ok && string(got) != value {
				w.t.Fatalf("inode %d: %s is %q for %d, %v; want %q, %v", ino, name, got, c.UID, err, value, want)
			}
		}
	}
	for name, l := range map[string]*modelACL{xattrAccessACL: n.access, xattrDefaultACL: n.preset} {
		got, err := w.e.GetXattr(w.ctx, nil, ino, name)
		if l == nil && n.typ != TypeSymlink && !errors.Is(err, ErrNoData) || l != nil && !bytes.Equal(got, l.encode()) {
			w.t.Fatalf("inode %d: %s is %x, %v; want %+v", ino, name, got, err, l)
		}
	}
}

func (w *world) acl() {
	c, ino, preset := w.cred(), w.any(), w.coin()
	name := xattrAccessACL
	if preset {
		name = xattrDefaultACL
	}
	var l *modelACL
	bits := func() uint32 { return rapid.Uint32Range(0, 7).Draw(w.t, "bits") }
	if rapid.IntRange(0, 3).Draw(w.t, "remove") > 0 {
		l = &modelACL{bits(), bits(), bits(), bits(), bits(), bits()}
	}
	want := w.m.setACL(c, ino, preset, l, w.tick())
	var err error
	if l == nil {
		_, err = w.e.RemoveXattr(w.ctx, c, ino, name)
	} else {
		_, err = w.e.SetXattr(w.ctx, c, ino, name, l.encode(), 0)
	}
	if w.do(fmt.Sprintf("acl %d %s %+v by %d", ino, name, l, c.UID), want, err) {
		w.attrs(ino)
		w.xattrs(ino)
	}
}

func (w *world) access() {
	c, ino := w.cred(), w.any()
	n, want := w.m.inodes[ino], ok
	if n == nil {
		want = syscall.ESTALE
	}
	var bits uint32
	for b := uint32(1); b <= 4 && n != nil; b *= 2 {
		if n.may(c, b) {
			bits |= b
		}
	}
	got, err := w.e.Access(w.ctx, c, ino, 7)
	if w.do(fmt.Sprintf("access %d by %d", ino, c.UID), want, err) && got != bits {
		w.t.Fatalf("access %o, want %o", got, bits)
	}
	if n == nil {
		return
	}
	access := rapid.Uint32Range(0, 7).Draw(w.t, "open for")
	switch {
	case n.typ == TypeSymlink:
		want = syscall.ELOOP
	case n.typ == TypeDir && access&2 != 0:
		want = syscall.EISDIR
	case !n.may(c, access):
		want = syscall.EACCES
	}
	_, _, err = w.e.Open(w.ctx, c, ino, access, false)
	if w.do(fmt.Sprintf("open %d for %o by %d", ino, access, c.UID), want, err) {
		w.e.Release(ino)
	}
}

func (w *world) readdir() {
	c, ino := w.cred(), w.of(TypeDir)
	d, want := w.m.dir(ino)
	if want == ok && !d.may(c, 4) {
		want = syscall.EACCES
	}
	now := w.tick()
	got := map[string]Ino{}
	err := w.e.ReadDir(w.ctx, c, ino, 0, true, func(x *Entry) bool {
		got[x.Name] = x.Ino
		w.same(x.Ino, x.Attr)
		return true
	})
	if !w.do(fmt.Sprintf("readdir %d by %d", ino, c.UID), want, err) {
		return
	}
	if !maps.Equal(got, d.names) {
		w.t.Fatalf("directory %d has %v, not %v", ino, got, d.names)
	}
	d.read1(now)
}

func (w *world) sync() {
	if err := w.e.SyncAll(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	if w.coin() {
		done, err := w.e.Flush()
		if err != nil {
			w.t.Fatal(err)
		}
		<-done
	}
}

// same compares an inode's attributes with the model's.
func (w *world) same(ino Ino, a Attr) {
	w.t.Helper()
	n := w.m.inodes[ino]
	if n == nil {
		w.t.Fatalf("inode %d is not in the model", ino)
	}
	size, parent := uint64(n.size), n.parent
	if n.typ == TypeDir {
		size = uint64(len(n.names))
	}
	want := Attr{Type: n.typ, Mode: n.mode, UID: n.uid, GID: n.gid, Nlink: n.nlink, Rdev: n.rdev, Size: size, Mtime: n.mtime, Ctime: n.ctime, Parent: parent, Generation: 1}
	got := a
	got.Atime, got.Btime, got.Flags, got.Cookie, got.Blocks, got.dense, got.acl = 0, 0, 0, 0, 0, 0, nil
	if w.small { // a read is forgotten with its node
		a.Atime = n.atime
	}
	if got != want || max(a.Atime, n.atime) != n.atime {
		w.t.Fatalf("inode %d is\n%+v, should be\n%+v; atime %d, %d", ino, got, want, a.Atime, n.atime)
	}
}

func (w *world) attrs(ino Ino) {
	w.t.Helper()
	a, err := w.e.GetAttr(w.ctx, ino)
	if err != nil {
		w.t.Fatalf("inode %d: %v", ino, err)
	}
	if n := w.m.inodes[ino]; !w.small && n != nil && a.Atime != n.atime {
		w.t.Fatalf("inode %d was read at %d, not %d", ino, a.Atime, n.atime)
	}
	w.same(ino, a)
}

// crash cuts the power, and finds what some record since the last sync left.
func (w *world) crash() {
	lsns := slices.Sorted(maps.Keys(w.past))
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(w.t, "seed"), 1))
	crashed := w.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	least := max(w.log.durable, flushedLSN2(w.t, crashed))
	lsns = slices.DeleteFunc(lsns, func(l journal.LSN) bool { return l < least })
	if len(lsns) == 0 { // what a flush took is not of a known state
		return
	}
	keep := rapid.SampledFrom(lsns).Draw(w.t, "lsn")
	log := w.log.cut(keep)
	if err := w.e.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("crash at lsn %d", keep)
	w.mem, w.log, w.m = crashed, log, w.past[keep].clone()
	w.m.crashed()
	w.past = map[journal.LSN]*modelFS{}
	w.open()
	w.adoptAtimes()
	w.log.durable = w.log.Last()
	w.keep()
	w.compare()
}

// adoptAtimes forgets reads that were not stored.
func (w *world) adoptAtimes() {
	for ino, n := range w.m.inodes {
		a, err := w.e.GetAttr(w.ctx, ino)
		if err != nil {
			w.t.Fatalf("inode %d after a crash: %v", ino, err)
		}
		n.atime = min(n.atime, a.Atime)
	}
}

func flushedLSN2(t *rapid.T, mem *vfs.MemFS) journal.LSN {
	clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
	e, err := Open(context.Background(), testOptions(clone, newFakeLog()))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.Applied()
}

// compare looks at all there is.
func (w *world) compare() {
	for ino, n := range w.m.inodes {
		w.attrs(ino)
		w.xattrs(ino)
		switch n.typ {
		case TypeDir:
			got := map[string]Ino{}
			err := w.e.ReadDir(w.ctx, nil, ino, 0, false, func(x *Entry) bool { got[x.Name] = x.Ino; return true })
			if err != nil || !maps.Equal(got, n.names) {
				w.t.Fatalf("directory %d has %v, not %v, %v", ino, got, n.names, err)
			}
			n.read1(w.now)
		case TypeSymlink:
			if target, err := w.e.Readlink(w.ctx, nil, ino); err != nil || target != n.target {
				w.t.Fatalf("link %d to %q, %v", ino, target, err)
			}
			n.read1(w.now)
		case TypeRegular:
			for off := int64(0); off < n.size; off += groupChunks*4096 - 16384 {
				p := make([]byte, 60_000)
				k, err := w.e.Read(w.ctx, ino, p, off)
				if err != nil || !bytes.Equal(p[:k], n.read(off, int64(len(p)))) {
					w.t.Fatalf("file %d differs near %d, %v", ino, off, err)
				}
				n.read1(w.now)
			}
		}
	}
	if err := w.e.reclaim(w.ctx, w.e.reaper.take()); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.e.Check(w.ctx, true, func(p Problem) { w.t.Errorf("check: %s", p) }); err != nil {
		w.t.Fatal(err)
	}
}
