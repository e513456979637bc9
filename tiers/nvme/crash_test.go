package nvme

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"testing"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/seal"
)

const crashSize = 48 << 20

// crashWork uses everything that changes the disk, and tells what it was promised.
type crashWork struct {
	finished map[int]int  // file to size: its Finish returned
	removed  map[int]bool // its Remove or Drop began
}

func (w *crashWork) run(fs disk.FS) error {
	tier, err := tryOpen(fs, "/nvme", crashSize)
	if err != nil {
		return err
	}
	defer tier.Close()
	for i, n := range []int{100, 20_000, 540_000, 0} {
		if err := tryWrite(tier, testID(i), testData(i, n)); err != nil {
			return err
		}
		w.finished[i] = n
		tier.PutPart(testID(100), uint64(i), testData(i, PartSize))
	}
	if a, err := tier.Create(testID(50)); err == nil {
		_, err = a.Write(testData(50, 540_000))
		a.Abort()
		if err != nil {
			return err
		}
	}
	w.removed[1] = true
	if err := tier.Remove(testID(1)); err != nil {
		return err
	}
	tier.MarkClean(testID(0))
	w.removed[0] = true
	if err := tier.Drop(testID(0)); err != nil {
		return err
	}
	waitParts(tier)
	tier.making.Lock()
	tier.parts.shrink(1)
	tier.making.Unlock()
	return tier.Close()
}

// waitParts waits until no part waits for the disk.
func waitParts(t *Tier) {
	for {
		t.parts.mu.Lock()
		n := len(t.parts.pending)
		t.parts.mu.Unlock()
		if n == 0 {
			return
		}
		runtime.Gosched()
	}
}

// The power goes at each operation. What was finished is there, whole; what was not is there
// whole or not at all; parts are right or missing.
func TestCrashAtEachOperation(t *testing.T) {
	for k := int64(1); ; k++ {
		fs := disktest.New(disktest.Options{OnOp: disktest.CrashAt(k)})
		w := &crashWork{finished: map[int]int{}, removed: map[int]bool{}}
		err := w.run(fs)
		for seed, percent := range []int{0, 50, 50, 100} {
			if msg := w.check(fs.CrashClone(uint64(seed), percent)); msg != nil {
				t.Fatalf("crash at %d, seed %d: %v", k, seed, msg)
			}
		}
		if msg := w.check(fs.KillClone()); msg != nil {
			t.Fatalf("kill at %d: %v", k, msg)
		}
		if !fs.Crashed() {
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d operations", k-1)
			return
		}
	}
}

func (w *crashWork) check(fs *disktest.FS) error {
	tier, err := tryOpen(fs, "/nvme", crashSize)
	if err != nil {
		return err
	}
	defer tier.Close()
	local := tier.Local()
	for i, n := range w.finished {
		if w.removed[i] {
			continue
		}
		if _, ok := local[testID(i)]; !ok {
			return fmt.Errorf("file %d is lost", i)
		}
		if got, err := read(tier, testID(i), n, 20_000); err != nil || !bytes.Equal(got, testData(i, n)) {
			return fmt.Errorf("file %d: %w", i, err)
		}
	}
	for i, n := range []int{100, 20_000, 540_000, 0} { // also those that nobody promised
		if _, ok := local[testID(i)]; !ok {
			continue
		}
		if got, err := read(tier, testID(i), n, 20_000); err != nil || !bytes.Equal(got, testData(i, n)) {
			return fmt.Errorf("unfinished file %d: %w", i, err)
		}
	}
	if _, ok := local[testID(50)]; ok {
		return errors.New("an aborted file is there")
	}
	part := make([]byte, PartSize)
	for i := range 4 {
		if n := tier.GetPart(testID(100), uint64(i), part); n > 0 && !bytes.Equal(part[:n], testData(i, PartSize)) {
			return fmt.Errorf("part %d is wrong", i)
		}
	}
	for _, name := range tableFiles(fs) {
		if _, final, ok := parseName(fs.PathBase(name)); !ok || !final {
			return fmt.Errorf("%s is left", name)
		}
	}
	return tier.Close()
}

// After each error of the disk that is no crash, the tier can be opened and what was finished is there.
func TestErrorAtEachOperation(t *testing.T) {
	broken := errors.New("broken")
	for k := int64(1); ; k++ {
		hook, n := disktest.Count()
		fs := disktest.New(disktest.Options{OnOp: func(op, name string) error {
			if err := hook(op, name); err != nil {
				return err
			}
			if disktest.Changes(op) && n.Load() == k {
				return broken
			}
			return nil
		}})
		w := &crashWork{finished: map[int]int{}, removed: map[int]bool{}}
		err := w.run(fs)
		if err != nil && !errors.Is(err, broken) {
			t.Fatalf("error at %d: %v", k, err)
		}
		done := n.Load() < k
		fs.SetOnOp(nil)
		if msg := w.check(fs); msg != nil {
			t.Fatalf("error at %d: %v", k, msg)
		}
		if done {
			return
		}
	}
}

// Each byte of a dirty file, flipped: an error that names the file, never other bytes.
func TestFlippedByteIsAnError(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 64<<20)
	id, data := testID(1), testData(1, 2*seal.FrameData+500)
	write(t, tier, id, data)
	tier.Close()
	path := tableFiles(fs)[0]
	size := seal.StoredSize(int64(len(data)))
	for off := int64(0); off < size; off += 11 {
		if err := fs.Damage(path, off, 0x10); err != nil {
			t.Fatal(err)
		}
		tier := open(t, fs, "/nvme", 64<<20)
		got, err := read(tier, id, len(data), len(data))
		tier.Close()
		if !errors.Is(err, seal.ErrCorrupt) || !bytes.Contains([]byte(err.Error()), []byte(id.String())) {
			t.Fatalf("byte %d flipped: %d bytes, %v", off, len(got), err)
		}
		if err := fs.Damage(path, off, 0x10); err != nil {
			t.Fatal(err)
		}
	}
	tier = open(t, fs, "/nvme", 64<<20)
	if got, err := read(tier, id, len(data), len(data)); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("nothing flipped: %v", err)
	}
}

// A flipped byte in one frame leaves the others readable, and the error names the frame.
func TestFlippedFrame(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 64<<20)
	id, data := testID(1), testData(1, 5*seal.FrameData)
	write(t, tier, id, data)
	fs.Damage(tableFiles(fs)[0], seal.HeaderSize+3*seal.FrameSize+77, 1)
	r, err := tier.OpenFile(id, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, len(data))
	n, err := r.ReadAt(got, 0)
	if n != 3*seal.FrameData || !bytes.Equal(got[:n], data[:n]) || !errors.Is(err, seal.ErrCorrupt) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if n, err := r.ReadAt(got[:seal.FrameData], 4*seal.FrameData); err != nil || !bytes.Equal(got[:n], data[4*seal.FrameData:]) {
		t.Fatalf("frame behind it: %v", err)
	}
	t.Log(err)
}

// A file cut on the disk is an error, also at a frame boundary.
func TestCutFile(t *testing.T) {
	dfs := disktest.New(disktest.Options{})
	tier := open(t, dfs, "/nvme", 64<<20)
	id, data := testID(1), testData(1, 3*seal.FrameData)
	write(t, tier, id, data)
	tier.Close()
	f, err := dfs.OpenDirect(tableFiles(dfs)[0], false)
	if err != nil {
		t.Fatal(err)
	}
	f.Truncate(seal.HeaderSize + 2*seal.FrameSize)
	f.Close()
	tier = open(t, dfs, "/nvme", 64<<20)
	if _, err := tier.OpenFile(id, int64(len(data))); !errors.Is(err, seal.ErrCorrupt) {
		t.Fatalf("%v", err)
	}
	if _, err := read(tier, id, 2*seal.FrameData, 1000); !errors.Is(err, seal.ErrCorrupt) { // its last frame is not marked as last
		t.Fatalf("cut at a frame: %v", err)
	}
}

func TestUnknownNamesStay(t *testing.T) {
	dfs := disktest.New(disktest.Options{})
	dfs.MkdirAll("/nvme/tables", 0o700)
	id := testID(9).String()
	names := []string{"x", id, id + ".Table", id[1:] + ".table", "0" + id[1:] + "z.table", "A" + id[1:] + ".table"}
	for _, n := range names {
		f, err := dfs.Create("/nvme/tables/"+n, "")
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	tier := open(t, dfs, "/nvme", 64<<20)
	if len(tier.Local()) != 0 {
		t.Fatalf("%v", tier.Local())
	}
	for _, n := range names {
		if _, err := dfs.Stat("/nvme/tables/" + n); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is gone", n)
		}
	}
}
