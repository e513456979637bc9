package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestFiles(t *testing.T) {
	ctx := context.Background()
	mem, log := vfs.NewMem(), newFakeLog()
	e := openEngine(t, testOptions(mem, log), log)
	create := func(dir Ino, name string, typ FileType) Ino {
		t.Helper()
		return create(t, e, dir, name, NewFile{Type: typ, Mode: 0o644})
	}
	dir := create(RootIno, "dir", TypeDir)
	f := create(dir, "f", TypeRegular)
	for name, want := range map[string]error{"f": fs.ErrExist, "": fs.ErrNotExist, "..": fs.ErrExist, "a/b": fs.ErrInvalid, strings.Repeat("x", 256): ErrNameTooLong} {
		if _, err := e.Create(ctx, nil, dir, name, NewFile{Type: TypeRegular, Exclusive: true}); !errors.Is(err, want) {
			t.Errorf("create %q: %v, want %v", name, err, want)
		}
	}
	if _, err := e.Create(ctx, nil, f, "x", NewFile{Type: TypeRegular}); !errors.Is(err, ErrNotDir) {
		t.Errorf("create in a file: %v", err)
	}
	if _, _, err := e.Write(ctx, nil, dir, []byte("x"), 0); !errors.Is(err, ErrIsDir) {
		t.Errorf("write to a directory: %v", err)
	}
	if _, _, err := e.Unlink(ctx, nil, RootIno, "dir"); !errors.Is(err, ErrIsDir) {
		t.Errorf("unlink of a directory: %v", err)
	}

	// A write extends; a smaller size and a larger one again leave zeros.
	if _, _, err := e.Write(ctx, nil, f, bytes.Repeat([]byte{7}, 10_000), 5_000); err != nil {
		t.Fatal(err)
	}
	for _, size := range []uint64{6_000, 20_000} {
		if ch, _, err := e.SetAttr(ctx, nil, f, SetAttr{Size: &size}); err != nil || ch.After.Size != size {
			t.Fatalf("size %d: %+v, %v", size, ch, err)
		}
	}
	p := make([]byte, 30_000)
	n, err := e.Read(ctx, f, p, 0)
	want := make([]byte, 20_000)
	copy(want[5_000:6_000], bytes.Repeat([]byte{7}, 1_000))
	if err != nil || n != len(want) || !bytes.Equal(p[:n], want) {
		t.Errorf("read %d bytes, %v, differs at %d", n, err, diff(p[:min(n, len(want))], want))
	}
	if a, err := e.GetAttr(ctx, f); err != nil || a.Size != 20_000 || a.Nlink != 1 || a.Mode != 0o644 || a.Btime != testTime.UnixNano() {
		t.Errorf("%+v, %v", a, err)
	}
	if _, _, err := e.Write(ctx, nil, f, []byte("x"), 1<<62); !errors.Is(err, ErrTooLarge) {
		t.Errorf("write far out: %v", err)
	}
	for i := range 5 {
		create(dir, fmt.Sprint("n", i), TypeRegular)
	}
	var names []string
	var after uint64
	for { // one at a time, while entries go
		more := false
		if err := e.ReadDir(ctx, nil, dir, after, false, func(d *Entry) bool {
			names, after, more = append(names, d.Name), d.Cookie, true
			return false
		}); err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		if len(names) == 2 {
			if _, _, err := e.Unlink(ctx, nil, dir, "n1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := fmt.Sprint(names); got != "[f n0 n2 n3 n4]" {
		t.Errorf("entries %s", got)
	}
	if a, err := e.GetAttr(ctx, dir); err != nil || a.Size != 5 || a.Nlink != 2 || a.Parent != RootIno {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestUnlinkWhileOpen holds a file that loses its name: it stays whole until it is let go, or until
// the next start when that did not happen.
func TestUnlinkWhileOpen(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%t", crash), func(t *testing.T) {
			ctx := context.Background()
			mem, log := vfs.NewMem(), newFakeLog()
			e := openEngine(t, testOptions(mem, log), log)
			one := bytes.Repeat([]byte{1}, 1<<20)
			ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
			if _, _, err := e.Open(ctx, nil, ino, AccessRead|AccessWrite, false); err != nil {
				t.Fatal(err)
			}
			if _, _, err := e.Write(ctx, nil, ino, one, 0); err != nil {
				t.Fatal(err)
			}
			if _, _, err := e.Unlink(ctx, nil, RootIno, "f"); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 1<<20)
			if n, err := e.Read(ctx, ino, p, 0); err != nil || n != len(p) || !bytes.Equal(p, one) {
				t.Errorf("read %d bytes after the unlink: %v", n, err)
			}
			if _, _, err := e.Write(ctx, nil, ino, one[:4096], 0); err != nil {
				t.Error(err)
			}
			if crash {
				log = log.cut(log.last)
				e = openEngine(t, testOptions(vfs.NewMem(), log), log)
			} else {
				e.Release(ino)
				settle(t, e)
			}
			for _, prefix := range []byte{prefixChunk, prefixOrphan} {
				if err := e.scan(ctx, []byte{prefix}, []byte{prefix + 1}, func(key, _ []byte) (bool, error) {
					t.Errorf("key %x is left", key)
					return false, nil
				}); err != nil {
					t.Error(err)
				}
			}
			if _, err := e.GetAttr(ctx, ino); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("attributes of what is gone: %v", err)
			}
			if got := create(t, e, RootIno, "new", NewFile{Type: TypeRegular}); got <= ino {
				t.Errorf("new inode %d after %d", got, ino)
			}
		})
	}
}

// TestNamesRace creates and removes the same names from many goroutines: each name is won once.
func TestNamesRace(t *testing.T) {
	ctx := context.Background()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	var wg sync.WaitGroup
	var mu sync.Mutex
	balance := map[string]int{}
	for g := range 6 {
		wg.Go(func() {
			for i := range 60 {
				name := fmt.Sprint((g + i) % 3)
				_, err := e.Create(ctx, nil, RootIno, name, NewFile{Type: TypeRegular, Exclusive: true})
				change := 1
				if errors.Is(err, fs.ErrExist) {
					_, _, err = e.Unlink(ctx, nil, RootIno, name)
					change = -1
				}
				switch {
				case err == nil:
					mu.Lock()
					balance[name] += change
					mu.Unlock()
				case !errors.Is(err, fs.ErrNotExist):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	left := uint64(0)
	for name, n := range balance {
		_, _, err := e.Lookup(ctx, nil, RootIno, name)
		if n != 0 && n != 1 || (n == 1) != (err == nil) {
			t.Errorf("name %q: %d more created than removed, lookup %v", name, n, err)
		}
		left += uint64(n)
	}
	if a, err := e.GetAttr(ctx, RootIno); err != nil || a.Size != left {
		t.Errorf("root of %d entries, %d expected, %v", a.Size, left, err)
	}
}

// TestCloseRace closes while others read and write: they end well or with ErrClosed, and none panics.
func TestCloseRace(t *testing.T) {
	ctx := context.Background()
	for range 5 {
		log := newFakeLog()
		e := openEngine(t, testOptions(vfs.NewMem(), log), log)
		d := openDevice(t, e, "d", 1<<20)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				p := make([]byte, 8<<10)
				for i := int64(0); ; i++ {
					err := d.WriteAt(ctx, p, i%100*4096, false)
					if err == nil {
						err = d.ReadAt(ctx, p, int64(g)*8192)
					}
					if err == nil {
						_, err = e.GetAttr(ctx, RootIno)
					}
					if err == nil {
						_, err = e.Devices(ctx)
					}
					if err == nil {
						err = d.Extents(ctx, 0, 1<<20, func(int64, bool) bool { return true })
					}
					if err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		for e.Applied() < 50 {
			if _, err := e.Flushed(); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}
