//go:build unix

package disk

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func perm(t *testing.T, name string) os.FileMode {
	t.Helper()
	st, err := os.Stat(name)
	must(t, err)
	return st.Mode().Perm()
}

func TestPermissions(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	d, dir := OS(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, d.MkdirAll(at("a/b"), 0o777))
	c, err := d.Create(at("created"), vfs.WriteCategoryUnspecified)
	must(t, err)
	must(t, c.Close())
	o, err := d.OpenReadWrite(at("opened"), vfs.WriteCategoryUnspecified)
	must(t, err)
	must(t, o.Close())
	f, err := d.OpenDirect(at("direct"), true)
	must(t, err)
	must(t, f.Close())
	l, err := d.Lock(at("LOCK"))
	must(t, err)
	defer l.Close()
	for name, want := range map[string]os.FileMode{
		"a": 0o700, "a/b": 0o700, "created": 0o600, "opened": 0o600, "direct": 0o600, "LOCK": 0o600,
	} {
		if got := perm(t, at(name)); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
}

// Create gives a new inode; OpenReadWrite the same one, with its contents.
func TestCreateAndOpen(t *testing.T) {
	d := OS()
	name := filepath.Join(t.TempDir(), "f")
	f, err := d.Create(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write([]byte("one"))
	must(t, err)
	must(t, f.SyncData())
	_, ino, err := FileIdentity(name)
	must(t, err)
	g, err := d.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = g.WriteAt([]byte("O"), 0)
	must(t, err)
	b, err := os.ReadFile(name)
	must(t, err)
	if string(b) != "One" {
		t.Errorf("%q", b)
	}
	h, err := d.Create(name, vfs.WriteCategoryUnspecified) // f and g keep the old inode alive
	must(t, err)
	if _, now, err := FileIdentity(name); err != nil || now == ino {
		t.Errorf("inode %d again: %v", now, err)
	}
	for _, f := range []vfs.File{f, g, h} {
		must(t, f.Close())
	}
	must(t, d.SyncDir(filepath.Dir(name)))
	if err := d.SyncDir(name + "-none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	d := OS()
	name := filepath.Join(t.TempDir(), "LOCK")
	l, err := d.Lock(name)
	must(t, err)
	if _, err := d.Lock(name); err == nil {
		t.Error("locked twice")
	}
	must(t, l.Close())
	l, err = d.Lock(name)
	must(t, err)
	must(t, l.Close())
}

// fill returns aligned bytes that tell where they are from.
func fill(n int, salt byte) []byte {
	b := Alloc(n)
	for i := range b {
		b[i] = byte(i>>9) ^ salt
	}
	return b
}

// onBoth runs a test on the temporary directory's file system and, if there is one, in memory.
func onBoth(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("disk", func(t *testing.T) { test(t, t.TempDir()) })
	t.Run("shm", func(t *testing.T) {
		dir, err := os.MkdirTemp("/dev/shm", "zerofs-disk-*")
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		test(t, dir)
	})
}

func TestDirectFile(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		name := filepath.Join(dir, "f")
		if _, err := OS().OpenDirect(name, false); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("nothing there: %v", err)
		}
		f, err := OS().OpenDirect(name, true)
		must(t, err)
		t.Logf("direct: %t", f.Direct())
		want := fill(64<<10, 1)
		n, err := f.WriteAtSync(want[:32<<10], 0)
		if n != 32<<10 || err != nil {
			t.Fatal(n, err)
		}
		n, err = f.WriteAt(want[32<<10:], 32<<10)
		if n != 32<<10 || err != nil {
			t.Fatal(n, err)
		}
		must(t, f.Sync())
		got := Alloc(64 << 10)
		if n, err := f.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, want) {
			t.Fatal(n, err)
		}
		// The end of the file, inside of a block and past it.
		must(t, f.Truncate(40<<10+100))
		if size, err := f.Size(); size != 40<<10+100 || err != nil {
			t.Error(size, err)
		}
		clear(got)
		if n, err := f.ReadAt(got, 0); n != 40<<10+100 || err != io.EOF || !bytes.Equal(got[:n], want[:n]) {
			t.Error(n, err)
		}
		if n, err := f.ReadAt(got[:Align], 40<<10); n != 100 || err != io.EOF {
			t.Error(n, err)
		}
		for _, off := range []int64{44 << 10, 1 << 30} {
			if n, err := f.ReadAt(got[:Align], off); n != 0 || err != io.EOF {
				t.Error(n, err)
			}
		}
		punchAndClose(t, f, want, got)
	})
}

func punchAndClose(t *testing.T, f File, want, got []byte) {
	t.Helper()
	must(t, f.PunchHole(4<<10, 8<<10))
	clear(want[4<<10 : 12<<10])
	if n, err := f.ReadAt(got[:32<<10], 0); n != 32<<10 || err != nil || !bytes.Equal(got[:n], want[:n]) {
		t.Error("a hole:", n, err)
	}
	if err := f.PunchHole(100, Align); !errors.Is(err, ErrMisaligned) {
		t.Error(err)
	}
	must(t, f.PunchHole(0, 0))
	must(t, f.Close())
	_, rerr := f.ReadAt(got[:Align], 0)
	_, werr := f.WriteAtSync(got[:Align], 0)
	_, serr := f.Size()
	for _, err := range []error{rerr, werr, serr, f.Sync(), f.Truncate(0), f.PunchHole(0, Align), f.Close()} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// Where holes cannot be punched, zeros take their place and the size stays.
func TestWriteZeros(t *testing.T) {
	f, err := OS().OpenDirect(filepath.Join(t.TempDir(), "f"), true)
	must(t, err)
	defer f.Close()
	want := fill(16<<10, 3)
	_, err = f.WriteAt(want, 0)
	must(t, err)
	must(t, f.Truncate(14<<10))
	must(t, f.(*directFile).writeZeros(4<<10, 4<<10))
	must(t, f.(*directFile).writeZeros(12<<10, 1<<30))
	must(t, f.(*directFile).writeZeros(1<<20, 4<<10))
	clear(want[4<<10 : 8<<10])
	clear(want[12<<10:])
	got := Alloc(16 << 10)
	if n, err := f.ReadAt(got, 0); n != 14<<10 || err != io.EOF || !bytes.Equal(got[:n], want[:n]) {
		t.Error(n, err)
	}
}

func TestMisaligned(t *testing.T) {
	f, err := OS().OpenDirect(filepath.Join(t.TempDir(), "f"), true)
	must(t, err)
	defer f.Close()
	b := Alloc(2 * Align)
	for _, bad := range []struct {
		p   []byte
		off int64
	}{{b[:512], 0}, {b[:Align], 512}, {b[1 : 1+Align], 0}, {b[:Align], -Align}} {
		_, r := f.ReadAt(bad.p, bad.off)
		_, w := f.WriteAt(bad.p, bad.off)
		_, s := f.WriteAtSync(bad.p, bad.off)
		for _, err := range []error{r, w, s} {
			if !errors.Is(err, ErrMisaligned) {
				t.Errorf("%d bytes at %d: %v", len(bad.p), bad.off, err)
			}
		}
	}
	if n, err := f.WriteAtSync(nil, 0); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// Close waits for calls under way; those after it fail, and none reaches another file that got
// the descriptor's number.
func TestCloseWhileInUse(t *testing.T) {
	dir := t.TempDir()
	for range 20 {
		f, err := OS().OpenDirect(filepath.Join(dir, "f"), true)
		must(t, err)
		var wg sync.WaitGroup
		for i := range int64(4) {
			buf := fill(Align, byte(i))
			wg.Go(func() {
				for {
					if _, err := f.WriteAt(buf, i*Align); err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		runtime.Gosched()
		must(t, f.Close())
		victim, err := OS().OpenDirect(filepath.Join(dir, "victim"), true)
		must(t, err)
		wg.Wait()
		if size, err := victim.Size(); size != 0 || err != nil {
			t.Fatalf("another file was written: %d bytes, %v", size, err)
		}
		must(t, victim.Close())
	}
}

// /dev/full answers as a full disk does.
func TestFull(t *testing.T) {
	f, err := OS().OpenReadWrite("/dev/full", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("x")); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) || !vfs.IsNoSpaceError(err) {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		err := opError("write", "name", &os.PathError{Op: "pwrite", Path: "x", Err: errno})
		if !errors.Is(err, ErrFull) || !errors.Is(err, errno) {
			t.Errorf("%v", err)
		}
	}
	if err := opError("write", "name", syscall.EIO); errors.Is(err, ErrFull) || !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if opError("write", "name", nil) != nil || markFull(nil) != nil {
		t.Error("an error out of nothing")
	}
}

func TestPlace(t *testing.T) {
	for _, place := range []func(string) (bool, error){IsLocal, IsVolatile} {
		if _, err := place("/no/such/directory"); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
	if volatile, err := IsVolatile("/dev/shm"); err == nil && !volatile && runtime.GOOS == "linux" {
		t.Error("/dev/shm is not volatile")
	}
	if local, err := IsLocal("/proc"); err != nil || local && runtime.GOOS == "linux" {
		t.Error("/proc is a local disk:", err)
	}
	if _, _, err := FileIdentity(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestAllocations(t *testing.T) {
	f, err := OS().OpenDirect(filepath.Join(t.TempDir(), "f"), true)
	must(t, err)
	defer f.Close()
	b := fill(Align, 0)
	n := testing.AllocsPerRun(50, func() {
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAtSync(b, 0); err != nil {
			t.Fatal(err)
		}
	})
	if n >= 1 {
		t.Errorf("%v allocations per write, read and write-sync", n)
	}
}

// BenchmarkWriteAtSync overwrites blocks that were written before, as the journal does.
func BenchmarkWriteAtSync(b *testing.B) {
	f, err := OS().OpenDirect(filepath.Join(b.TempDir(), "f"), true)
	must(b, err)
	defer f.Close()
	const size = 16 << 20
	buf := fill(size, 0)
	_, err = f.WriteAtSync(buf, 0)
	must(b, err)
	for _, n := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(byteSize(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			off := int64(0)
			for b.Loop() {
				if _, err := f.WriteAtSync(buf[:n], off); err != nil {
					b.Fatal(err)
				}
				off = (off + int64(n)) % size
			}
		})
	}
	b.Run("read/4KiB", func(b *testing.B) {
		off := int64(0)
		for b.Loop() {
			if _, err := f.ReadAt(buf[:Align], off); err != nil {
				b.Fatal(err)
			}
			off = (off + 37*Align) % size
		}
	})
}

func byteSize(n int) string {
	if n >= 1<<20 {
		return "1MiB"
	}
	return map[int]string{4 << 10: "4KiB", 64 << 10: "64KiB"}[n]
}
