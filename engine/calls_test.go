package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// refused runs calls that must fail, each with its kind of error.
func refused(t *testing.T, calls map[string]struct {
	err  error
	want error
}) {
	t.Helper()
	for name, c := range calls {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
}

type call = struct{ err, want error }

func TestDevicesAreFiles(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	plain := create(t, e, RootIno, "plain", NewFile{Type: TypeDir})
	_, file := e.Create(ctx, nil, RootIno, deviceDir, NewFile{Type: TypeRegular})
	_, _, _, to := e.Rename(ctx, nil, RootIno, "plain", RootIno, deviceDir, 0)
	refused(t, map[string]call{"a file of that name": {file, ErrPerm}, "a directory renamed to it": {to, ErrBusy}})
	if _, err := e.Create(ctx, nil, plain, deviceDir, NewFile{Type: TypeRegular}); err != nil {
		t.Errorf("elsewhere: %v", err)
	}
	dir := create(t, e, RootIno, deviceDir, NewFile{Type: TypeDir})
	ino := create(t, e, dir, "disk", NewFile{Type: TypeRegular, Mode: 0o600})
	resize := func(size uint64) error { _, _, err := e.SetAttr(ctx, nil, ino, SetAttr{Size: &size}); return err }
	unlink := func(name string) error { _, _, err := e.Unlink(ctx, nil, dir, name); return err }
	rename := func(from Ino, name string, to Ino, newName string) error {
		_, _, _, err := e.Rename(ctx, nil, from, name, to, newName, 0)
		return err
	}
	_, mkdir := e.Create(ctx, nil, dir, "sub", NewFile{Type: TypeDir})
	_, _, _, link := e.Link(ctx, nil, ino, RootIno, "other")
	_, _, odd := e.Write(ctx, nil, ino, []byte("x"), 0)
	create(t, e, RootIno, "file", NewFile{Type: TypeRegular})
	refused(t, map[string]call{
		"mkdir": {mkdir, ErrPerm}, "link": {link, ErrPerm}, "write of an odd size": {odd, errInvalid},
		"odd size": {resize(1000), errInvalid}, "out": {rename(dir, "disk", RootIno, "disk"), ErrCrossDevice},
		"in": {rename(RootIno, "file", dir, "file"), ErrCrossDevice}, "the directory": {rename(RootIno, deviceDir, RootIno, "x"), ErrBusy},
	})
	for _, size := range []uint64{1 << 20, 2 << 20, 1 << 20} {
		if err := resize(size); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
	d, err := e.Device(ctx, "disk")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.WriteAt(ctx, bytes.Repeat([]byte{1}, 64<<10), 0, false); err != nil {
		t.Fatal(err)
	}
	refused(t, map[string]call{"unlink attached": {unlink("disk"), ErrBusy}, "shrink attached": {resize(512 << 10), ErrBusy}, "rename attached": {rename(dir, "disk", dir, "d2"), ErrBusy}})
	if err := resize(4 << 20); err != nil || d.Size() != 4<<20 {
		t.Errorf("grow attached: %v, %d bytes", err, d.Size())
	}
	p := make([]byte, 10)
	if n, err := e.Read(ctx, ino, p, 65530); err != nil || n != 10 || !bytes.Equal(p, []byte{1, 1, 1, 1, 1, 1, 0, 0, 0, 0}) {
		t.Errorf("read through the file: %x, %v", p, err)
	}
	if err := e.countDevice(ctx, ino); err != nil {
		t.Error(err)
	}
	a, err := e.GetAttr(ctx, ino)
	if s, serr := e.StatFS(ctx); err != nil || serr != nil || a.Blocks != 64<<10 || s.Total-s.Free != 64<<10 {
		t.Errorf("device of %d bytes, volume of %d", a.Blocks, s.Total-s.Free)
	}
	d.Close()
	if err := errors.Join(rename(dir, "disk", dir, "d2"), resizeOf(e, ino, 512<<10), unlink("d2")); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // the count after Close may be its last user
		s, err := e.StatFS(ctx)
		if err == nil && s.Free == s.Total {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	if err := e.EnsureDevice(ctx, "d2", 1<<20); err != nil {
		t.Errorf("again with another size: %v", err)
	}
}

func resizeOf(e *Engine, ino Ino, size uint64) error {
	_, _, err := e.SetAttr(context.Background(), nil, ino, SetAttr{Size: &size})
	return err
}

func TestQuota(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	opts := testOptions(vfs.NewMem(), log)
	opts.MaxSize = 1 << 20
	e := openEngine(t, opts, log)
	ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	p := bytes.Repeat([]byte{7}, 256<<10)
	write := func(off int64) error { _, _, err := e.Write(ctx, nil, ino, p, off); return err }
	if err := errors.Join(write(0), write(512<<10), resizeOf(e, ino, 1<<30)); err != nil {
		t.Fatal(err)
	}
	stat := func(used uint64) {
		t.Helper()
		s, err := e.StatFS(ctx)
		a, aerr := e.GetAttr(ctx, ino)
		if err != nil || aerr != nil || s.Total != 1<<20 || s.Total-s.Free != used || s.Avail != s.Free || a.Blocks != used {
			t.Errorf("%+v, file of %d, want %d used, %v", s, a.Blocks, used, err)
		}
	}
	stat(512 << 10)
	_, falloc := e.Fallocate(ctx, nil, ino, 0, 1<<30, 2<<20)
	if err := errors.Join(write(256<<10), write(1<<30)); err != nil {
		t.Fatal(err)
	}
	refused(t, map[string]call{"write": {write(900 << 20), ErrNoSpace}, "fallocate": {falloc, ErrNoSpace}})
	if err := write(0); err != nil {
		t.Errorf("overwrite in a full volume: %v", err)
	}
	create(t, e, RootIno, "empty", NewFile{Type: TypeRegular})
	stat(1 << 20)
	if _, err := e.Fallocate(ctx, nil, ino, FallocPunchHole|FallocKeepSize, 0, 100<<10); err != nil {
		t.Error(err)
	}
	stat(924 << 10)
	if err := resizeOf(e, ino, 256<<10); err != nil {
		t.Error(err)
	}
	stat(156 << 10)
	if _, _, err := e.Unlink(ctx, nil, RootIno, "f"); err != nil {
		t.Error(err)
	}
	if s, err := e.StatFS(ctx); err != nil || s.Free != s.Total {
		t.Errorf("after the unlink: %+v, %v", s, err)
	}
	log2 := log.cut(log.last)
	opts.FS, opts.Log, opts.Durable = vfs.NewMem(), log2, log2.sync
	e2 := openEngine(t, opts, log2)
	if e2.used != e.used {
		t.Errorf("%+v after a restart, %+v before", e2.used, e.used)
	}
}

// TestLargeUnlink removes 8 GiB of chunks, held and not, without writing a tombstone for each.
func TestLargeUnlink(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	for _, held := range []bool{false, true} {
		ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
		for off := int64(0); off < 8<<30; off += 16 << 20 {
			if _, _, err := e.Write(ctx, nil, ino, []byte("data"), off); err != nil {
				t.Fatal(err)
			}
		}
		if held {
			if _, err := e.Hold(ctx, ino); err != nil {
				t.Fatal(err)
			}
		}
		first := len(log.records)
		start := time.Now()
		if _, _, err := e.Unlink(ctx, nil, RootIno, "f"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > time.Second { // 10 ms, but for a busy machine
			t.Errorf("unlink took %v", d)
		}
		if held {
			e.Release(ino)
			settle(t, e)
		}
		size := 0
		for _, r := range log.records[first:] {
			size += len(r)
		}
		if size > 2000 {
			t.Errorf("held %v: %d bytes of log for an unlink", held, size)
		}
	}
}

func TestLimits(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	name := func(n int) error {
		_, err := e.Create(ctx, nil, RootIno, strings.Repeat("n", n), NewFile{Type: TypeRegular})
		return err
	}
	target := func(n int) error {
		_, err := e.Create(ctx, nil, RootIno, fmt.Sprint("l", n), NewFile{Type: TypeSymlink, Target: strings.Repeat("t", n)})
		return err
	}
	ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	_, _, far := e.Write(ctx, nil, ino, []byte("xx"), maxFileSize-1)
	xattr := func(name string, n int) error {
		_, err := e.SetXattr(ctx, nil, ino, name, make([]byte, n), 0)
		return err
	}
	refused(t, map[string]call{
		"name of 255": {name(255), nil}, "name of 256": {name(256), ErrNameTooLong},
		"target of 4095": {target(4095), nil}, "target of 4096": {target(4096), ErrNameTooLong}, "no target": {target(0), fs.ErrNotExist},
		"write far out": {far, ErrTooLarge}, "size far out": {resizeOf(e, ino, maxFileSize+1), ErrTooLarge}, "last byte": {resizeOf(e, ino, maxFileSize), nil},
		"attribute of 64 KiB": {xattr("user.a", 64<<10), nil}, "and a byte": {xattr("user.a", 64<<10+1), ErrTooBig},
		"attribute's name": {xattr("user."+strings.Repeat("n", 250), 1), nil}, "longer name": {xattr("user."+strings.Repeat("n", 251), 1), ErrRange},
		"no name": {xattr("user.", 1), errInvalid}, "other space": {xattr("other.a", 1), ErrUnsupported},
	})
	// So many links nobody makes in a test.
	n, err := e.acquire(ctx, ino)
	if err != nil {
		t.Fatal(err)
	}
	a := *n.attr.Load()
	many := a
	many.Nlink = LinkMax
	n.attr.Store(&many)
	if _, _, _, err := e.Link(ctx, nil, ino, RootIno, "one more"); !errors.Is(err, ErrLinks) {
		t.Errorf("link: %v", err)
	}
	n.attr.Store(&a)
	e.release(n)
}

// TestTimes lists which times each call sets.
func TestTimes(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	opts := testOptions(vfs.NewMem(), log)
	now := testTime
	opts.Now = func() time.Time { return now }
	e := openEngine(t, opts, log)
	dir := create(t, e, RootIno, "dir", NewFile{Type: TypeDir})
	other := create(t, e, RootIno, "other", NewFile{Type: TypeDir})
	f := create(t, e, dir, "f", NewFile{Type: TypeRegular})
	link := create(t, e, dir, "link", NewFile{Type: TypeSymlink, Target: "f"})
	mode, size := uint32(0o600), uint64(7)
	for _, c := range []struct {
		name string
		do   func() error
		want string
	}{
		{"lookup", func() error { _, _, err := e.Lookup(ctx, nil, dir, "f"); return err }, ""},
		{"write", func() error { _, _, err := e.Write(ctx, nil, f, []byte("data"), 0); return err }, "f:mc"},
		{"write nothing", func() error { _, _, err := e.Write(ctx, nil, f, nil, 0); return err }, ""},
		{"read", func() error { _, err := e.Read(ctx, f, make([]byte, 9), 0); return err }, "f:a"},
		{"read again", func() error { _, err := e.Read(ctx, f, make([]byte, 9), 0); return err }, ""},
		{"chmod", func() error { _, _, err := e.SetAttr(ctx, nil, f, SetAttr{Mode: &mode}); return err }, "f:c"},
		{"truncate", func() error { _, _, err := e.SetAttr(ctx, nil, f, SetAttr{Size: &size}); return err }, "f:mc"},
		{"the same size", func() error { _, _, err := e.SetAttr(ctx, nil, f, SetAttr{Size: &size}); return err }, "f:mc"},
		{"open with O_TRUNC", func() error { _, _, err := e.Open(ctx, nil, f, 2, true); e.Release(f); return err }, "f:mc"},
		{"setxattr", func() error { _, err := e.SetXattr(ctx, nil, f, "user.a", nil, 0); return err }, "f:c"},
		{"touch", func() error { _, _, err := e.SetAttr(ctx, nil, f, SetAttr{AtimeNow: true, MtimeNow: true}); return err }, "f:amc"},
		{"nothing", func() error { _, _, err := e.SetAttr(ctx, nil, f, SetAttr{}); return err }, ""},
		{"fallocate", func() error { _, err := e.Fallocate(ctx, nil, f, 0, 0, 9000); return err }, "f:mc"},
		{"punch", func() error { _, err := e.Fallocate(ctx, nil, f, 3, 0, 9000); return err }, "f:mc"},
		{"link", func() error { _, _, _, err := e.Link(ctx, nil, f, dir, "g"); return err }, "dir:mc f:c"},
		{"unlink", func() error { _, _, err := e.Unlink(ctx, nil, dir, "g"); return err }, "dir:mc f:c"},
		{"rename", func() error { _, _, _, err := e.Rename(ctx, nil, dir, "f", other, "f", 0); return err }, "dir:mc f:c other:mc"},
		{"rename back", func() error { _, _, _, err := e.Rename(ctx, nil, other, "f", dir, "f", 0); return err }, "dir:mc f:c other:mc"},
		{"create", func() error { _, err := e.Create(ctx, nil, dir, "n", NewFile{Type: TypeRegular}); return err }, "dir:mc"},
		{"open what exists", func() error { _, err := e.Create(ctx, nil, dir, "n", NewFile{Type: TypeRegular}); return err }, ""},
		{"readdir", func() error { return e.ReadDir(ctx, nil, dir, 0, true, func(*Entry) bool { return true }) }, "dir:a"},
		{"readlink", func() error { _, err := e.Readlink(ctx, nil, link); return err }, "link:a"},
		{"a day later", func() error { now = now.Add(25 * time.Hour); _, err := e.Readlink(ctx, nil, link); return err }, "link:a"},
		{"rmdir", func() error { _, _, err := e.Rmdir(ctx, nil, RootIno, "other"); return err }, "root:mc"},
	} {
		files := []struct {
			name string
			ino  Ino
		}{{"dir", dir}, {"f", f}, {"link", link}, {"other", other}, {"root", RootIno}}
		before := map[string]Attr{}
		for _, x := range files {
			before[x.name], _ = e.GetAttr(ctx, x.ino) // what is gone has changed no time
		}
		now = now.Add(time.Second)
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got []string
		for _, x := range files {
			a, err := e.GetAttr(ctx, x.ino)
			if err != nil {
				continue
			}
			b, s := before[x.name], ""
			for _, at := range []struct {
				name     string
				old, new int64
			}{{"a", b.Atime, a.Atime}, {"m", b.Mtime, a.Mtime}, {"c", b.Ctime, a.Ctime}} {
				if at.old != at.new {
					s += at.name
					if at.new != now.UnixNano() {
						t.Errorf("%s: %s of %s is %d, now is %d", c.name, at.name, x.name, at.new, now.UnixNano())
					}
				}
			}
			if s != "" {
				got = append(got, x.name+":"+s)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s sets %q, want %q", c.name, s, c.want)
		}
	}
}

// TestExclusive is what NFS asks of an exclusive create that is sent twice, and of a guarded change.
func TestExclusive(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	make := func(verifier uint64) (Created, error) {
		return e.Create(ctx, nil, RootIno, "f", NewFile{Type: TypeRegular, Exclusive: true, Verifier: verifier})
	}
	a, err := make(5)
	if err != nil || a.Existed {
		t.Fatalf("%+v, %v", a, err)
	}
	if b, err := make(5); err != nil || !b.Existed || b.Ino != a.Ino {
		t.Errorf("again: %+v, %v", b, err)
	}
	for _, v := range []uint64{0, 6} {
		if _, err := make(v); !errors.Is(err, errExist) {
			t.Errorf("verifier %d: %v", v, err)
		}
	}
	mode, guard := uint32(0o600), a.Attr.Ctime
	ch, _, err := e.SetAttr(ctx, nil, a.Ino, SetAttr{Mode: &mode, Ctime: &guard})
	if err != nil || ch.Before.Ctime != guard || ch.After.Ctime <= guard {
		t.Errorf("guarded: %+v, %v", ch, err)
	}
	if _, _, err := e.SetAttr(ctx, nil, a.Ino, SetAttr{Mode: &mode, Ctime: &guard}); !errors.Is(err, ErrChanged) {
		t.Errorf("guarded again: %v", err)
	}
}

// TestRemovedDirectory holds a directory that is removed: it is empty and stays so, and its inode goes in the end.
func TestRemovedDirectory(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	dir := create(t, e, RootIno, "dir", NewFile{Type: TypeDir})
	f := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	if _, err := e.Hold(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Rmdir(ctx, nil, RootIno, "dir"); err != nil {
		t.Fatal(err)
	}
	_, mk := e.Create(ctx, nil, dir, "x", NewFile{Type: TypeRegular})
	_, _, _, ln := e.Link(ctx, nil, f, dir, "x")
	_, _, _, mv := e.Rename(ctx, nil, RootIno, "f", dir, "x", 0)
	_, _, up := e.Lookup(ctx, nil, dir, "..")
	a, err := e.GetAttr(ctx, dir)
	refused(t, map[string]call{"create": {mk, errNotExist}, "link": {ln, errNotExist}, "rename": {mv, errNotExist}, "..": {up, nil}, "getattr": {err, nil}})
	if a.Nlink != 0 {
		t.Errorf("%d links", a.Nlink)
	}
	e.Release(dir)
	settle(t, e)
	if _, err := e.GetAttr(ctx, dir); !errors.Is(err, ErrStale) {
		t.Errorf("after its last user: %v", err)
	}
}

// TestReadDirPages reads a large directory in pages while names come and go: each that stays is seen once.
func TestReadDirPages(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	const names = 3 * readdirMax
	for i := range names {
		create(t, e, RootIno, fmt.Sprint("stays", i), NewFile{Type: TypeRegular})
	}
	seen, after := map[string]int{}, uint64(0)
	for page := 0; ; page++ {
		n := 0
		err := e.ReadDir(ctx, nil, RootIno, after, page%2 == 0, func(d *Entry) bool {
			if n == 100 {
				return false
			}
			n, after = n+1, d.Cookie
			seen[d.Name]++
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		if page < 4 {
			create(t, e, RootIno, fmt.Sprint("comes", page), NewFile{Type: TypeRegular})
			if _, _, _, err := e.Rename(ctx, nil, RootIno, fmt.Sprint("comes", page), RootIno, fmt.Sprint("came", page), 0); err != nil {
				t.Fatal(err)
			}
			if _, _, err := e.Unlink(ctx, nil, RootIno, fmt.Sprint("came", page)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range names {
		if got := seen[fmt.Sprint("stays", i)]; got != 1 {
			t.Errorf("name %d was seen %d times", i, got)
		}
	}
}

// TestCopyRange copies with holes, within a file and over its end.
func TestCopyRange(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	src, dst := create(t, e, RootIno, "src", NewFile{Type: TypeRegular}), create(t, e, RootIno, "dst", NewFile{Type: TypeRegular})
	data := make([]byte, 700_001)
	fillRandom(data, 1)
	clear(data[100_000:500_000])
	if _, _, err := e.Write(ctx, nil, src, data, 0); err != nil {
		t.Fatal(err)
	}
	n, lsn, err := e.CopyRange(ctx, nil, src, 1, dst, 10_000, 1<<40)
	if err != nil || n != 700_000 || lsn == 0 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	got := make([]byte, 800_000)
	k, err := e.Read(ctx, dst, got, 10_000)
	if err != nil || !bytes.Equal(got[:k], data[1:]) {
		t.Errorf("%d bytes, differ at %d, %v", k, diff(got[:k], data[1:]), err)
	}
	a, _ := e.GetAttr(ctx, src)
	if a.Blocks > 350<<10 {
		t.Errorf("%d bytes allocated", a.Blocks)
	}
	if n, _, err := e.CopyRange(ctx, nil, src, 0, src, 300_000, 200_000); err != nil || n != 200_000 {
		t.Errorf("within: %d, %v", n, err)
	}
	_, _, over := e.CopyRange(ctx, nil, src, 0, src, 100_000, 200_000)
	refused(t, map[string]call{"overlapping": {over, errInvalid}})
	if n, _, err := e.CopyRange(ctx, nil, src, 1<<30, dst, 0, 10); err != nil || n != 0 {
		t.Errorf("beyond the end: %d, %v", n, err)
	}
}

// TestCapability: who writes to a program or gives it away takes its capabilities.
func TestCapability(t *testing.T) {
	ctx := t.Context()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	uid := uint32(7)
	for name, change := range map[string]func(ino Ino) error{
		"write":    func(ino Ino) error { _, _, err := e.Write(ctx, nil, ino, []byte("x"), 0); return err },
		"truncate": func(ino Ino) error { return resizeOf(e, ino, 3) },
		"chown":    func(ino Ino) error { _, _, err := e.SetAttr(ctx, nil, ino, SetAttr{UID: &uid}); return err },
		"punch":    func(ino Ino) error { _, err := e.Fallocate(ctx, nil, ino, 3, 0, 10); return err },
	} {
		ino := create(t, e, RootIno, name, NewFile{Type: TypeRegular})
		if _, err := e.SetXattr(ctx, nil, ino, xattrCapability, []byte("all"), 0); err != nil {
			t.Fatal(err)
		}
		if err := change(ino); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v, err := e.GetXattr(ctx, nil, ino, xattrCapability); !errors.Is(err, ErrNoData) {
			t.Errorf("after %s: %q, %v", name, v, err)
		}
	}
}
