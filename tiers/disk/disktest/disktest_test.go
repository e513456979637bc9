package disktest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open makes a durable name for direct I/O.
func open(t testing.TB, d *disktest.FS, name string) disk.File {
	t.Helper()
	f, err := d.OpenDirect(name, true)
	must(t, err)
	must(t, d.SyncDir(""))
	return f
}

// block is a page of one byte, aligned.
func block(b byte) []byte {
	p := disk.Alloc(disk.Align)
	for i := range p {
		p[i] = b
	}
	return p
}

func write(t testing.TB, f disk.File, b byte, page int64, sync bool) {
	t.Helper()
	var err error
	if sync {
		_, err = f.WriteAtSync(block(b), page*disk.Align)
	} else {
		_, err = f.WriteAt(block(b), page*disk.Align)
	}
	must(t, err)
}

func read(t testing.TB, d *disktest.FS, name string) []byte {
	t.Helper()
	b, err := d.ReadFile(name)
	must(t, err)
	return b
}

// pages returns the first byte of each page.
func pages(b []byte) string {
	var out []byte
	for i := 0; i < len(b); i += disk.Align {
		out = append(out, max(b[i], '.'))
	}
	return string(out)
}

func TestOnlySyncedSurvives(t *testing.T) {
	d := disktest.New(disktest.Options{})
	f := open(t, d, "f")
	write(t, f, 'a', 0, true)
	write(t, f, 'b', 1, false)
	write(t, f, 'c', 2, true)
	write(t, f, 'x', 0, false)
	if got := pages(read(t, d, "f")); got != "xbc" {
		t.Errorf("running: %s", got)
	}
	for percent, want := range map[int]string{0: "a.c", 100: "xbc"} {
		if got := pages(read(t, d.CrashClone(1, percent), "f")); got != want {
			t.Errorf("%d%%: %s, want %s", percent, got, want)
		}
	}
	must(t, f.Sync())
	if got := pages(read(t, d.CrashClone(1, 0), "f")); got != "xbc" {
		t.Errorf("after a sync: %s", got)
	}
}

// Over the seeds everything that may happen does: each sector on its own, each name on its own.
func TestEverythingHappens(t *testing.T) {
	d := disktest.New(disktest.Options{})
	f := open(t, d, "f")
	write(t, f, 'o', 0, true)
	write(t, f, 'n', 0, false)
	_, err := d.OpenDirect("g", true)
	must(t, err)
	seen := map[string]bool{}
	for seed := range uint64(200) {
		c := d.CrashClone(seed, 50)
		b := read(t, c, "f")
		seen[fmt.Sprintf("g %d", len(c.Files("g")))] = true
		for i := 0; i < len(b); i += 512 {
			if n := bytes.Count(b[i:i+512], b[i:i+1]); n != 512 {
				t.Fatalf("seed %d: sector at %d is torn", seed, i)
			}
			seen[fmt.Sprintf("%d %c", i, b[i])] = true
		}
		if again := read(t, d.CrashClone(seed, 50), "f"); !bytes.Equal(again, b) {
			t.Fatalf("seed %d: not the same again", seed)
		}
	}
	if len(seen) != 2+2*disk.Align/512 {
		t.Errorf("only %v", seen)
	}
}

func TestRename(t *testing.T) {
	d := disktest.New(disktest.Options{})
	write(t, open(t, d, "old"), 'o', 0, true)
	write(t, open(t, d, "new"), 'n', 0, true)
	must(t, d.Rename("old", "new"))
	seen := map[string]int{}
	for seed := range uint64(100) {
		c := d.CrashClone(seed, 50)
		what := ""
		for _, name := range c.Files("") {
			what += name + "=" + pages(read(t, c, name)) + " "
		}
		seen[what]++
	}
	want := []string{"new=n old=o ", "new=o ", "new=o old=o "}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		t.Errorf("saw %q, want %q", got, want)
	}
	must(t, d.SyncDir(""))
	if got := d.CrashClone(0, 0).Files(""); !slices.Equal(got, []string{"new"}) {
		t.Errorf("synced: %q", got)
	}
}

func TestRenameAcrossDirectories(t *testing.T) {
	d := disktest.New(disktest.Options{})
	must(t, d.MkdirAll("a/b", 0o700))
	must(t, d.MkdirAll("c", 0o700))
	must(t, d.SyncDir(""))
	must(t, d.SyncDir("a"))
	_, err := d.OpenDirect("a/f", true)
	must(t, err)
	must(t, d.SyncDir("a"))
	must(t, d.Rename("a/f", "c/g"))
	for seed := range uint64(50) {
		if got := d.CrashClone(seed, 50).Files(""); len(got) == 0 {
			t.Fatalf("seed %d: lost", seed)
		}
	}
	must(t, d.SyncDir("a"))
	if got := d.CrashClone(0, 0).Files(""); !slices.Equal(got, []string{"c/g"}) {
		t.Errorf("synced: %q", got)
	}
}

func TestNames(t *testing.T) {
	d := disktest.New(disktest.Options{})
	_, err := d.Open("none")
	if !oserror.IsNotExist(err) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open of nothing: %v", err)
	}
	if _, err := d.OpenDirect("none", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("direct open of nothing: %v", err)
	}
	must(t, d.MkdirAll("/x/y", 0o700))
	if _, err := d.Create("x", vfs.WriteCategoryUnspecified); err == nil {
		t.Error("a file in place of a directory")
	}
	if err := d.Remove("x"); err == nil {
		t.Error("a directory that is not empty went")
	}
	f, err := d.Create("x/f", vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write([]byte("hello"))
	must(t, err)
	must(t, d.Link("x/f", "x/l"))
	must(t, d.Remove("x/f"))
	if got := string(read(t, d, "x/l")); got != "hello" {
		t.Errorf("link: %q", got)
	}
	l, err := d.Lock("x/LOCK")
	must(t, err)
	if _, err := d.Lock("/x/LOCK"); err == nil {
		t.Error("locked twice")
	}
	if _, err := d.KillClone().Lock("x/LOCK"); err != nil {
		t.Errorf("a dead process's lock: %v", err)
	}
	must(t, l.Close())
	l, err = d.Lock("x/LOCK")
	must(t, err)
	must(t, l.Close())
	names, err := d.List("x")
	must(t, err)
	if !slices.Equal(names, []string{"LOCK", "l", "y"}) {
		t.Errorf("names %q", names)
	}
	must(t, d.RemoveAll("x"))
	must(t, d.RemoveAll("x"))
	if got := d.Files(""); len(got) > 0 {
		t.Errorf("left %q", got)
	}
	if d.Used() != disk.Align { // f is still open
		t.Errorf("%d bytes used", d.Used())
	}
	must(t, f.Close())
	if d.Used() != 0 {
		t.Errorf("%d bytes used", d.Used())
	}
}

// A sync that fails loses what it was to make durable, whatever later syncs say.
func TestFailedSyncLosesPages(t *testing.T) {
	d := disktest.New(disktest.Options{})
	f := open(t, d, "f")
	write(t, f, 'a', 0, false)
	eio := errors.New("I/O error")
	d.SetOnOp(disktest.FailName("f", eio, disktest.OpSync))
	if err := f.Sync(); !errors.Is(err, eio) {
		t.Fatal(err)
	}
	d.SetOnOp(nil)
	write(t, f, 'b', 1, false)
	must(t, f.Sync())
	if got := pages(read(t, d.CrashClone(0, 0), "f")); got != ".b" {
		t.Errorf("durable: %s", got)
	}
	write(t, f, 'c', 0, false)
	must(t, f.Sync())
	if got := pages(read(t, d.CrashClone(0, 0), "f")); got != "cb" {
		t.Errorf("written and synced again: %s", got)
	}
}

// A process that is killed in a sync leaves its pages to the next one's.
func TestKillInSync(t *testing.T) {
	d := disktest.New(disktest.Options{})
	f := open(t, d, "f")
	must(t, d.SyncDir(""))
	write(t, f, 'a', 0, false)
	d.SetOnOp(disktest.FailName("f", disktest.ErrCrash, disktest.OpSync))
	if err := f.Sync(); !errors.Is(err, disktest.ErrCrash) {
		t.Fatal(err)
	}
	if got := pages(read(t, d.CrashClone(0, 0), "f")); got != "" {
		t.Errorf("after a power cut instead: %q", got)
	}
	next := d.KillClone()
	must(t, open(t, next, "f").Sync())
	if got := pages(read(t, next.CrashClone(0, 0), "f")); got != "a" {
		t.Errorf("durable: %q", got)
	}
}

func TestFailedWrites(t *testing.T) {
	d := disktest.New(disktest.Options{Capacity: 2 * disk.Align})
	f := open(t, d, "f")
	write(t, f, 'a', 0, true)
	write(t, f, 'a', 1, true)
	if _, err := f.WriteAt(block('b'), 2*disk.Align); !errors.Is(err, disk.ErrFull) {
		t.Errorf("full: %v", err)
	}
	write(t, f, 'b', 1, true) // in place: no space needed
	must(t, f.PunchHole(0, disk.Align))
	write(t, f, 'c', 2, true)
	if got := pages(read(t, d, "f")); got != ".bc" {
		t.Errorf("after a hole: %s", got)
	}
	eio := errors.New("I/O error")
	d.SetOnOp(disktest.FailAt(1, eio))
	if _, err := f.WriteAtSync(block('x'), disk.Align); !errors.Is(err, eio) {
		t.Error(err)
	}
	if now, after := pages(read(t, d, "f")), pages(read(t, d.CrashClone(0, 0), "f")); now != ".xc" || after != "abc" { // the hole was not synced
		t.Errorf("a failed write: now %s, after a crash %s", now, after)
	}
}

func TestAlignment(t *testing.T) {
	d := disktest.New(disktest.Options{})
	f := open(t, d, "f")
	b := disk.Alloc(3 * disk.Align)
	for _, bad := range []struct {
		p   []byte
		off int64
	}{{b[:100], 0}, {b[:disk.Align], 512}, {b[8 : 8+disk.Align], 0}, {b[:disk.Align], -disk.Align}} {
		_, werr := f.WriteAt(bad.p, bad.off)
		_, serr := f.WriteAtSync(bad.p, bad.off)
		_, rerr := f.ReadAt(bad.p, bad.off)
		if !errors.Is(werr, disk.ErrMisaligned) || !errors.Is(serr, disk.ErrMisaligned) || !errors.Is(rerr, disk.ErrMisaligned) {
			t.Errorf("%d bytes at %d: %v, %v, %v", len(bad.p), bad.off, werr, serr, rerr)
		}
	}
	must(t, f.Truncate(5000))
	if n, err := f.ReadAt(b, 0); n != 5000 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

func TestPowerCut(t *testing.T) {
	d := disktest.New(disktest.Options{})
	f := open(t, d, "f")
	write(t, f, 'a', 0, true)
	d.SetOnOp(disktest.CrashAt(2))
	write(t, f, 'b', 0, true)
	if _, err := f.WriteAtSync(block('c'), 0); !errors.Is(err, disktest.ErrCrash) || !d.Crashed() {
		t.Fatal(err)
	}
	if _, err := f.WriteAtSync(block('d'), 0); !errors.Is(err, disktest.ErrCrash) {
		t.Error(err)
	}
	if _, err := f.ReadAt(block(0), 0); !errors.Is(err, disktest.ErrCrash) {
		t.Error(err)
	}
	for percent, want := range map[int]string{0: "b", 100: "c"} { // c was under way
		if got := pages(read(t, d.CrashClone(1, percent), "f")); got != want {
			t.Errorf("%d%%: %s, want %s", percent, got, want)
		}
	}
}

// After the process alone died all is there, and a power cut before a sync still loses it.
func TestKillClone(t *testing.T) {
	d := disktest.New(disktest.Options{})
	f := open(t, d, "f")
	write(t, f, 'a', 0, true)
	write(t, f, 'b', 0, false)
	must(t, d.Rename("f", "g"))
	k := d.KillClone()
	write(t, f, 'z', 0, true) // the old one goes on by itself
	if got := pages(read(t, k, "g")); got != "b" {
		t.Fatalf("killed: %s", got)
	}
	if got := pages(read(t, k.CrashClone(0, 0), "f")); got != "a" {
		t.Errorf("killed, then a power cut: %s", got)
	}
	g, err := k.OpenDirect("g", false)
	must(t, err)
	must(t, g.Sync())
	must(t, k.SyncDir(""))
	if got := pages(read(t, k.CrashClone(0, 0), "g")); got != "b" {
		t.Errorf("killed, synced, then a power cut: %s", got)
	}
}

// TestModel compares random writes, truncations and syncs with a slice of bytes, and what a crash
// leaves with the values each sector had since it was last durable.
func TestModel(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d := disktest.New(disktest.Options{})
		f := open(t, d, "f")
		const size = 8
		must(t, f.Truncate(size*disk.Align))
		must(t, f.Sync())
		now, durable := [size]byte{}, [size]byte{}
		for range 40 {
			p := rng.IntN(size)
			b := byte('a' + rng.IntN(26))
			switch rng.IntN(6) {
			case 0:
				must(t, f.Sync())
				durable = now
			case 1:
				must(t, f.PunchHole(int64(p)*disk.Align, disk.Align))
				now[p] = 0
			case 2, 3:
				write(t, f, b, int64(p), true)
				now[p], durable[p] = b, b
			default:
				write(t, f, b, int64(p), false)
				now[p] = b
			}
			if rng.IntN(8) == 0 {
				d = d.KillClone()
				var err error
				f, err = d.OpenDirect("f", false)
				must(t, err)
			}
		}
		got, after := read(t, d, "f"), read(t, d.CrashClone(seed, 50), "f")
		for i := range now {
			page := got[i*disk.Align:][:disk.Align]
			if bytes.Count(page, now[i:i+1]) != disk.Align {
				t.Fatalf("seed %d: page %d is %q, want %q", seed, i, page[:1], now[i])
			}
			for _, c := range after[i*disk.Align:][:disk.Align] {
				if c != now[i] && c != durable[i] {
					t.Fatalf("seed %d: page %d has %q after a crash, not %q nor %q", seed, i, c, now[i], durable[i])
				}
			}
		}
	}
}

func TestConcurrent(t *testing.T) {
	d := disktest.New(disktest.Options{})
	f := open(t, d, "f")
	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Go(func() {
			g, err := d.OpenDirect("g", true) // one file, whoever is first
			if err == nil {
				_, err = g.WriteAtSync(block(byte('a'+i)), i*disk.Align)
			}
			if err != nil {
				t.Error(err)
			}
			buf := block(byte('a' + i))
			for range 50 {
				if _, err := f.WriteAtSync(buf, i*disk.Align); err != nil {
					t.Error(err)
				}
				d.CrashClone(uint64(i), 50)
			}
		})
	}
	wg.Wait()
	if got := pages(read(t, d.CrashClone(0, 0), "f")); got != "abcdefgh" {
		t.Error(got)
	}
	if got := pages(read(t, d, "g")); got != "abcdefgh" {
		t.Error(got)
	}
}

func TestDamage(t *testing.T) {
	d := disktest.New(disktest.Options{})
	f := open(t, d, "f")
	write(t, f, 'a', 0, true)
	must(t, d.Damage("f", 17, 1))
	for _, b := range [][]byte{read(t, d, "f"), read(t, d.CrashClone(0, 0), "f")} {
		if b[17] != 'a'^1 || b[16] != 'a' {
			t.Errorf("%q", b[16:18])
		}
	}
}

func BenchmarkCrashClone(b *testing.B) {
	d := disktest.New(disktest.Options{})
	f := open(b, d, "f")
	big := disk.Alloc(64 << 20)
	for i := range big {
		big[i] = byte(i)
	}
	_, err := f.WriteAtSync(big, 0)
	must(b, err)
	write(b, f, 'x', 3, false)
	for b.Loop() {
		d.CrashClone(1, 50)
	}
}
