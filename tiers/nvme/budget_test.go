//go:build unix

package nvme

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
)

// blocksOf sums what the files and directories below dir take on the disk, in bytes.
func blocksOf(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // evicted meanwhile
		}
		if err != nil {
			return err
		}
		total += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// Files are written, read, marked clean, removed, and parts offered, five times the budget in all:
// the directory stays within it. Dirty files and files that are read stay whole.
func TestBudgetIsKept(t *testing.T) {
	const size, fileSize = 12 << 20, 400_000
	dir := t.TempDir()
	tier := open(t, disk.OS(), dir, size)
	r := rand.New(rand.NewPCG(3, 3))
	var dirty []int
	var most int64
	part := testData(0, PartSize)
	for i := range 160 {
		data := testData(i, fileSize-r.IntN(1000))
		write(t, tier, testID(i), data)
		dirty = append(dirty, i)
		if len(dirty) > 6 {
			tier.MarkClean(testID(dirty[0]))
			dirty = dirty[1:]
		}
		for p := range uint64(4) {
			tier.PutPart(testID(1_000_000+i), p, part)
		}
		if i%9 == 0 {
			waitParts(tier)
		}
		if i%20 == 0 {
			tier.Remove(testID(i - 10))
			tier.Remove(testID(1_000_000 + i - 10))
		}
		if used := blocksOf(t, dir); used > size {
			t.Fatalf("file %d: %d bytes on disk, budget %d: %+v", i, used, size, tier.Usage())
		} else {
			most = max(most, used)
		}
	}
	u := tier.Usage()
	t.Logf("most on disk %d of %d; %+v", most, size, u)
	if u.Evicted == 0 || u.Clean == 0 || u.Parts == 0 || most < size*8/10 {
		t.Errorf("the budget is not used: %+v", u)
	}
	for _, i := range dirty {
		r := tier.Local()[testID(i)]
		if r == 0 {
			t.Errorf("dirty file %d is gone", i)
		}
	}
	if err := tier.Close(); err != nil {
		t.Fatal(err)
	}
	if used := blocksOf(t, dir); used > size {
		t.Errorf("%d bytes on disk after Close", used)
	}
	tier = open(t, disk.OS(), dir, size/2) // a smaller budget: parts go, what may be dirty stays
	if len(tier.Local()) == 0 {
		t.Error("local copies were evicted before anybody called them clean")
	}
	for id := range tier.Local() {
		tier.MarkClean(id)
	}
	if used := blocksOf(t, dir); used > size/2 {
		t.Errorf("%d bytes on disk with half the budget: %+v", used, tier.Usage())
	}
}

// Dirty files take all: parts and clean copies go first, dirty ones stay and are never refused.
func TestDirtyBeyondBudget(t *testing.T) {
	dir := t.TempDir()
	const size = 8 << 20
	tier := open(t, disk.OS(), dir, size)
	for p := range uint64(40) {
		tier.PutPart(testID(99), p, testData(1, PartSize))
	}
	waitParts(tier)
	write(t, tier, testID(98), testData(1, 1<<20))
	tier.MarkClean(testID(98))
	if u := tier.Usage(); u.Parts == 0 || u.Clean == 0 {
		t.Fatalf("%+v", u)
	}
	for i := range 12 {
		write(t, tier, testID(i), testData(i, 1<<20))
	}
	u := tier.Usage()
	if u.Parts != 0 || u.Clean != 0 || u.Dirty < 12<<20 {
		t.Fatalf("%+v", u)
	}
	tier.PutPart(testID(99), 0, []byte("x"))
	waitParts(tier)
	if u := tier.Usage(); u.Parts != 0 {
		t.Fatalf("a part was kept beyond the budget: %+v", u)
	}
	for i := range 12 {
		if got, err := read(tier, testID(i), 1<<20, 100_000); err != nil || !bytes.Equal(got, testData(i, 1<<20)) {
			t.Fatalf("file %d: %v", i, err)
		}
		tier.Remove(testID(i))
	}
	if u := tier.Usage(); u.Dirty != 0 {
		t.Fatalf("%+v", u)
	}
}

// The copy that was not read for longest is evicted first.
func TestEvictsLeastRecentlyRead(t *testing.T) {
	tier := open(t, disk.OS(), t.TempDir(), 8<<20)
	for i := range 6 {
		write(t, tier, testID(i), testData(i, 1<<20))
		tier.MarkClean(testID(i))
	}
	for _, i := range []int{0, 1, 2} {
		r, err := tier.OpenFile(testID(i), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	for i := range 3 {
		write(t, tier, testID(10+i), testData(i, 1<<20))
	}
	local := tier.Local()
	for i := range 3 {
		_, read := local[testID(i)]
		_, unread := local[testID(3+i)]
		if !read && unread {
			t.Errorf("file %d, which was read, went before file %d, which was not", i, 3+i)
		}
	}
	if u := tier.Usage(); u.Evicted == 0 {
		t.Errorf("%+v", u)
	}
}

// Reserved blocks come back when the ballast is released, and it comes back with the next start.
func TestBallast(t *testing.T) {
	dir := t.TempDir()
	tier := open(t, disk.OS(), dir, 64<<20)
	held := tier.Usage().Ballast
	if held != 4<<20 {
		t.Fatalf("ballast of %d bytes", held)
	}
	before := blocksOf(t, dir)
	if err := tier.ReleaseBallast(); err != nil {
		t.Fatal(err)
	}
	if err := tier.ReleaseBallast(); err != nil {
		t.Fatalf("second release: %v", err)
	}
	if freed := before - blocksOf(t, dir); freed < held && freed != 0 {
		t.Errorf("%d bytes freed, want %d", freed, held)
	} else if freed == 0 {
		t.Log("this file system does not reserve space")
	}
	tier.Close()
	tier = open(t, disk.OS(), dir, 64<<20)
	if got := tier.Usage().Ballast; got != held {
		t.Errorf("ballast of %d bytes after the next start", got)
	}
	tier.Close()
	tier = open(t, fullDisk{disk.OS()}, dir, 64<<20) // that of a former process can be released too
	if got := tier.Usage().Ballast; got != held {
		t.Errorf("ballast of %d bytes adopted", got)
	}
	before = blocksOf(t, dir)
	if err := tier.ReleaseBallast(); err != nil {
		t.Fatal(err)
	}
	if freed := before - blocksOf(t, dir); freed < held && freed != 0 {
		t.Errorf("%d bytes freed of an adopted ballast, want %d", freed, held)
	}
}

// More files than may stay open: each is readable, and few are open.
func TestOpenFilesAreBounded(t *testing.T) {
	tier := open(t, disktest.New(disktest.Options{}), "/nvme", 64<<20)
	const n = openMax + 40
	for i := range n {
		write(t, tier, testID(i), []byte{byte(i), byte(i >> 8)})
	}
	for range 2 {
		for i := range n {
			got, err := read(tier, testID(i), 2, 2)
			if err != nil || !bytes.Equal(got, []byte{byte(i), byte(i >> 8)}) {
				t.Fatalf("file %d: %v %v", i, got, err)
			}
		}
	}
	open := int64(0)
	for _, tb := range tier.local {
		if tb.file.Load() != nil {
			open++
		}
	}
	if got := tier.opened.Load(); got != open || open > openMax {
		t.Errorf("%d files open, %d counted, %d allowed", open, got, openMax)
	}
}

// fullDisk says that nothing is available.
type fullDisk struct{ disk.FS }

func (fullDisk) GetDiskUsage(string) (vfs.DiskUsage, error) { return vfs.DiskUsage{}, nil }
