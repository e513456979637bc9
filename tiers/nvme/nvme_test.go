package nvme

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/seal"
)

var testKey = seal.NewKey([32]byte{1, 2, 3}, seal.AES256GCM)

func testID(n int) (id seal.FileID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15+1)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// testData is n bytes that follow from the seed.
func testData(seed, n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(data)
	return data
}

func open(t testing.TB, fs disk.FS, dir string, size int64) *Tier {
	t.Helper()
	tier, err := tryOpen(fs, dir, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tier.Close() })
	return tier
}

func tryOpen(fs disk.FS, dir string, size int64) (*Tier, error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return Open(context.Background(), Options{
		Disk: fs, Dir: dir, Size: size, Key: testKey, Logger: slog.New(slog.DiscardHandler),
	})
}

// write makes a table file of data, in writes of uneven sizes.
func write(t testing.TB, tier *Tier, id seal.FileID, data []byte) {
	t.Helper()
	if err := tryWrite(tier, id, data); err != nil {
		t.Fatal(err)
	}
}

func tryWrite(tier *Tier, id seal.FileID, data []byte) error {
	w, err := tier.Create(id)
	if err != nil {
		return err
	}
	for step := 1; len(data) > 0; step = (step*3 + 1) % 100_003 {
		n := min(step, len(data))
		if _, err := w.Write(data[:n]); err != nil {
			w.Abort()
			return err
		}
		data = data[n:]
	}
	return w.Finish()
}

// sealedFile is what a file of data must look like on the disk and in the store.
func sealedFile(t testing.TB, id seal.FileID, data []byte) []byte {
	t.Helper()
	f, err := testKey.File(id)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(f.Header())
	frames := seal.Frames(int64(len(data)))
	for i := range frames {
		plain := data[i*seal.FrameData : min((i+1)*seal.FrameData, uint64(len(data)))]
		out = f.Seal(out, plain, i, i == frames-1)
	}
	return out
}

// read reads all of a table file in reads of the given size.
func read(tier *Tier, id seal.FileID, size, step int) ([]byte, error) {
	r, err := tier.OpenFile(id, int64(size))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	got := make([]byte, size)
	for off := 0; off < size; off += step {
		want := min(step, size-off)
		if n, err := r.ReadAt(got[off:off+want], int64(off)); err != nil || n != want {
			return nil, errors.Join(err, io.ErrShortBuffer)
		}
	}
	return got, nil
}

var sizes = []int{
	0, 1, 100, seal.FrameData - 1, seal.FrameData, seal.FrameData + 1, 2 * seal.FrameData,
	(blockFrames - 1) * seal.FrameData, (blockFrames-1)*seal.FrameData + 1, blockFrames * seal.FrameData,
	(2*blockFrames-1)*seal.FrameData - 1, 3*blockFrames*seal.FrameData + 12345,
}

func TestRoundTrip(t *testing.T) {
	for _, on := range []struct {
		name string
		fs   disk.FS
		dir  string
	}{
		{"memory", disktest.New(disktest.Options{}), "/nvme"},
		{"buffered", disktest.New(disktest.Options{Buffered: true}), "/nvme"},
		{"os", disk.OS(), t.TempDir()},
	} {
		t.Run(on.name, func(t *testing.T) {
			tier := open(t, on.fs, on.dir, 256<<20)
			for i, n := range sizes {
				id, data := testID(i), testData(i, n)
				write(t, tier, id, data)
				for _, step := range []int{n + 1, max(4096, n/40), 32768, seal.FrameData} {
					if got, err := read(tier, id, n, step); err != nil || !bytes.Equal(got, data) {
						t.Fatalf("size %d, step %d: %v", n, step, err)
					}
				}
				checkStored(t, tier, id, data)
			}
			if err := tier.Close(); err != nil {
				t.Fatal(err)
			}
			tier = open(t, on.fs, on.dir, 256<<20)
			if got := len(tier.Local()); got != len(sizes) {
				t.Fatalf("%d local copies after reopening, want %d", got, len(sizes))
			}
			for i, n := range sizes {
				if got, err := read(tier, testID(i), n, 50_000); err != nil || !bytes.Equal(got, testData(i, n)) {
					t.Fatalf("size %d after reopening: %v", n, err)
				}
			}
		})
	}
}

// checkStored reads the sealed bytes at odd places.
func checkStored(t *testing.T, tier *Tier, id seal.FileID, data []byte) {
	t.Helper()
	want := sealedFile(t, id, data)
	r, err := tier.OpenFile(id, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	body := r.Stored()
	if body.Size() != int64(len(want)) {
		t.Fatalf("%d bytes stored, want %d", body.Size(), len(want))
	}
	if got, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size())); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("stored bytes differ: %v", err)
	}
	aligned := disk.Alloc(len(want)/2/disk.Align*disk.Align + disk.Align)
	for _, p := range [][]byte{make([]byte, 777), make([]byte, 700_001), aligned, aligned[1:]} {
		for _, off := range []int64{0, 1, 4096, 12289, int64(len(want)) - 5, int64(len(want)), int64(len(want)) + 9} {
			rest := want[min(off, int64(len(want))):]
			n, err := body.ReadAt(p, off)
			if n != min(len(p), len(rest)) || !bytes.Equal(p[:n], rest[:n]) || (err != nil) != (n < len(p)) || err != nil && err != io.EOF {
				t.Fatalf("%d stored bytes at %d of %d: %d, %v", len(p), off, len(want), n, err)
			}
		}
	}
}

func TestReadAtBounds(t *testing.T) {
	tier := open(t, disktest.New(disktest.Options{}), "/nvme", 64<<20)
	id, data := testID(1), testData(1, 40_000)
	write(t, tier, id, data)
	r, err := tier.OpenFile(id, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		n    int
		off  int64
		want int
		err  error
	}{
		{0, 0, 0, nil}, {0, 40_000, 0, nil}, {10, 39_990, 10, nil}, {11, 39_990, 10, io.EOF},
		{1, 40_000, 0, io.EOF}, {1, 1 << 50, 0, io.EOF}, {100_000, 0, 40_000, io.EOF},
	} {
		p := make([]byte, tc.n)
		n, err := r.ReadAt(p, tc.off)
		if n != tc.want || err != tc.err || n > 0 && !bytes.Equal(p[:n], data[tc.off:][:n]) {
			t.Errorf("%d bytes at %d: %d, %v", tc.n, tc.off, n, err)
		}
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("negative offset works")
	}
	if _, err := r.Stored().ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("negative offset works on stored bytes")
	}
	r.Close()
	if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if r.Close() != nil {
		t.Error("second Close")
	}
	if _, err := tier.OpenFile(id, 39_999); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("other size: %v", err)
	}
	if _, err := tier.OpenFile(testID(2), 1); !errors.Is(err, ErrNotLocal) {
		t.Errorf("no such file: %v", err)
	}
}

// A removed file is readable by those who have it open, and gone with the last of them.
func TestRemoveWaitsForReaders(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 64<<20)
	id, data := testID(1), testData(1, 40_000)
	write(t, tier, id, data)
	a, _ := tier.OpenFile(id, int64(len(data)))
	b, _ := tier.OpenFile(id, int64(len(data)))
	if err := tier.Remove(id); err != nil {
		t.Fatal(err)
	}
	if _, err := tier.OpenFile(id, int64(len(data))); !errors.Is(err, ErrNotLocal) {
		t.Fatalf("open after Remove: %v", err)
	}
	if len(tier.Local()) != 0 {
		t.Fatal("a removed file is listed")
	}
	a.Close()
	got := make([]byte, len(data))
	if _, err := b.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read after Remove: %v", err)
	}
	if len(tableFiles(fs)) != 1 {
		t.Fatal("the file went while it was read")
	}
	b.Close()
	if left := tableFiles(fs); len(left) != 0 {
		t.Fatalf("%v left", left)
	}
	if u := tier.Usage(); u.Dirty != 0 || u.Clean != 0 {
		t.Fatalf("%+v", u)
	}
	if err := tier.Remove(id); err != nil {
		t.Fatalf("second Remove: %v", err)
	}
}

func tableFiles(fs *disktest.FS) (names []string) {
	for _, name := range fs.Files("/nvme/tables") {
		if !strings.HasSuffix(name, "/tables") {
			names = append(names, name)
		}
	}
	return names
}

func TestAbort(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	tier := open(t, fs, "/nvme", 64<<20)
	for i, n := range sizes {
		w, err := tier.Create(testID(i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tier.Create(testID(i)); err == nil {
			t.Fatal("two writers of one file")
		}
		w.Write(testData(i, n))
		w.Abort()
		w.Abort()
		if err := w.Finish(); !errors.Is(err, ErrClosed) {
			t.Fatalf("Finish after Abort: %v", err)
		}
		if _, err := w.Write([]byte{1}); !errors.Is(err, ErrClosed) {
			t.Fatalf("Write after Abort: %v", err)
		}
	}
	if left := tableFiles(fs); len(left) != 0 {
		t.Fatalf("%v left", left)
	}
	if u := tier.Usage(); u.Dirty != 0 {
		t.Fatalf("%+v", u)
	}
	write(t, tier, testID(0), nil) // the name is free again
}

func TestDropKeepsDirty(t *testing.T) {
	tier := open(t, disktest.New(disktest.Options{}), "/nvme", 64<<20)
	id := testID(1)
	write(t, tier, id, []byte("x"))
	if err := tier.Drop(id); !errors.Is(err, ErrDirty) {
		t.Fatalf("drop of a dirty copy: %v", err)
	}
	tier.MarkClean(id)
	tier.MarkDirty(id)
	if err := tier.Drop(id); !errors.Is(err, ErrDirty) {
		t.Fatalf("drop of a copy that is dirty again: %v", err)
	}
	tier.MarkClean(id)
	if err := tier.Drop(id); err != nil || len(tier.Local()) != 0 {
		t.Fatalf("drop: %v", err)
	}
	if u := tier.Usage(); u.Dirty != 0 || u.Clean != 0 {
		t.Fatalf("%+v", u)
	}
}
