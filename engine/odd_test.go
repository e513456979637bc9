package engine

import (
	"bytes"
	"context"
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func testEngine(t *testing.T) *Engine {
	log := newFakeLog()
	return openEngine(t, testOptions(vfs.NewMem(), log), log)
}

// Only devices lie in the directory of devices: a file there that is counted as others are would lose writes to
// parts of chunks.
func TestDeviceDirIsNotRenamed(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	create(t, e, RootIno, "d", NewFile{Type: TypeDir})
	if _, _, _, err := e.Rename(ctx, nil, RootIno, "d", RootIno, deviceDir, 0); !errors.Is(err, ErrBusy) {
		t.Errorf("rename a directory to %s: %v", deviceDir, err)
	}
	d := openDevice(t, e, "x", 1<<20)
	p := bytes.Repeat([]byte{7}, 8192)
	if err := d.WriteAt(ctx, p, 0, false); err != nil {
		t.Fatal(err)
	}
	if err := d.Trim(ctx, 512, 1024, false); err != nil {
		t.Fatal(err)
	}
	if err := d.ReadAt(ctx, p, 0); err != nil {
		t.Fatal(err)
	}
	if p[600] != 0 {
		t.Error("trimmed bytes are still there")
	}
	if a, _ := e.GetAttr(ctx, d.n.ino); !a.Device() {
		t.Error("a device that is none")
	}
}

// Somebody may look at a new inode before Create tells its node of the LSN.
func TestNewInodeKnowsItsLSN(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	n, err := e.acquire(ctx, ino)
	if err != nil {
		t.Fatal(err)
	}
	defer e.release(n)
	made := n.lsn.Load()
	n.lsn.Store(made - 1) // read between the record's coming into the tree and Applied
	a := *n.attr.Load()
	e.nodes.insert(ino, &a, 2)
	if got := n.lsn.Load(); got != made {
		t.Errorf("the node says lsn %d, the inode was made with %d", got, made)
	}
}

// A number that somebody guessed gets an inode while the guess is still held.
func TestGuessedNumber(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	guess := Ino(e.next.Load())
	n, first, _ := e.nodes.get(guess)
	if !first {
		t.Fatal("not first")
	}
	e.load(n)
	if ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular}); ino != guess {
		t.Fatal(ino)
	}
	if _, _, err := e.Lookup(ctx, nil, RootIno, "f"); err != nil {
		t.Error(err)
	}
	e.release(n)
}

// The part of a sparse file that goes may be as long as files get.
func TestSparseTruncateEnds(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	size := func(n uint64) {
		if _, _, err := e.SetAttr(ctx, nil, ino, SetAttr{Size: &n}); err != nil {
			t.Fatal(err)
		}
	}
	for _, off := range []int64{100 << 20, 1 << 50, maxFileSize - 5000} {
		if _, _, err := e.Write(ctx, nil, ino, []byte("abc"), off); err != nil {
			t.Fatal(err)
		}
	}
	size(maxFileSize)
	size(5000)
	if a, _ := e.GetAttr(ctx, ino); a.Blocks != 0 {
		t.Error(a.Blocks)
	}
}

func TestSparsePunchEnds(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	for _, off := range []int64{100 << 20, 1 << 50, maxFileSize - 5000} {
		if _, _, err := e.Write(ctx, nil, ino, []byte("abc"), off); err != nil {
			t.Fatal(err)
		}
	}
	before := e.Applied()
	if _, err := e.Fallocate(ctx, nil, ino, FallocPunchHole|FallocKeepSize, 0, maxFileSize); err != nil {
		t.Fatal(err)
	}
	if n := e.Applied() - before; n > 10 {
		t.Errorf("%d records", n)
	}
	if a, _ := e.GetAttr(ctx, ino); a.Blocks > uint64(e.opts.ChunkSize) { // the end lies within a chunk, which stays
		t.Error(a.Blocks)
	}
}

func TestWriteBeforeBeginning(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	for _, off := range []int64{-1, -2, math.MinInt64} {
		if _, _, err := e.Write(ctx, nil, ino, []byte("abc"), off); !errors.Is(err, ErrTooLarge) {
			t.Errorf("write at %d: %v", off, err)
		}
	}
}

func TestCopyToEnd(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	if _, _, err := e.Write(ctx, nil, ino, []byte("0123456789"), 0); err != nil {
		t.Fatal(err)
	}
	if n, _, err := e.CopyRange(ctx, nil, ino, 0, ino, 10, math.MaxInt64); n != 10 || err != nil {
		t.Errorf("copy to the end: %d, %v", n, err)
	}
	if n, _, err := e.CopyRange(ctx, nil, ino, 0, ino, 10, math.MaxInt64); !errors.Is(err, errInvalid) {
		t.Errorf("copy onto itself: %d, %v", n, err)
	}
}

func TestParentOfRemoved(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	a := create(t, e, RootIno, "a", NewFile{Type: TypeDir})
	b := create(t, e, a, "b", NewFile{Type: TypeDir})
	create(t, e, RootIno, "d", NewFile{Type: TypeDir})
	if _, err := e.Hold(ctx, b); err != nil {
		t.Fatal(err)
	}
	defer e.Release(b)
	if _, _, err := e.Rmdir(ctx, nil, a, "b"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Rmdir(ctx, nil, RootIno, "a"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Lookup(ctx, nil, b, ".."); !errors.Is(err, ErrStale) {
		t.Errorf("..: %v", err)
	}
	if _, _, _, err := e.Rename(ctx, nil, RootIno, "d", b, "d", 0); !errors.Is(err, errNotExist) || errors.Is(err, ErrStale) {
		t.Errorf("rename: %v", err)
	}
}

// A file that is truncated while fallocate waits for room stays so.
func TestAllocateBesideTruncate(t *testing.T) {
	for mode, want := range map[FallocMode]uint64{0: 100, FallocKeepSize: 5} {
		e, ctx := testEngine(t), context.Background()
		ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
		size := func(n uint64) {
			if _, _, err := e.SetAttr(ctx, nil, ino, SetAttr{Size: &n}); err != nil {
				t.Fatal(err)
			}
		}
		size(1 << 20)
		gate := e.opts.Gate
		e.opts.Gate = func(context.Context, int) error {
			e.opts.Gate = gate
			size(5)
			return nil
		}
		if _, err := e.Fallocate(ctx, nil, ino, mode, 0, 100); err != nil {
			t.Fatal(err)
		}
		if a, _ := e.GetAttr(ctx, ino); a.Size != want {
			t.Errorf("mode %d: size %d, not %d", mode, a.Size, want)
		}
	}
}

// Data that is there is found, whatever becomes of the account meanwhile.
func TestSeekBesideWrites(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	chunk := int64(e.opts.ChunkSize)
	p := bytes.Repeat([]byte{1}, int(chunk*(groupChunks-1)))
	if _, _, err := e.Write(ctx, nil, ino, p, chunk); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, _, _ = e.Write(ctx, nil, ino, p[:chunk], 0)
			_, _ = e.Fallocate(ctx, nil, ino, FallocPunchHole|FallocKeepSize, 0, chunk)
		}
	})
	for range 3000 {
		if at, err := e.Seek(ctx, ino, 10*chunk, false); err != nil || at != 10*chunk {
			t.Errorf("data at %d, %v", at, err)
			break
		}
	}
	close(stop)
	wg.Wait()
}

// While one group of a file changes all the time others can be read.
func TestGroupReadBesideWriter(t *testing.T) {
	e, ctx := testEngine(t), context.Background()
	ino := create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	span := groupChunks * int64(e.opts.ChunkSize)
	write := func(off int64) {
		if _, _, err := e.Write(ctx, nil, ino, []byte("abc"), off); err != nil {
			t.Fatal(err)
		}
	}
	write(span + 5000)
	write(3*span + 5000)
	n, err := e.acquire(ctx, ino)
	if err != nil {
		t.Fatal(err)
	}
	defer e.release(n)
	n.allocs.groups = nil
	r := n.allocs.read(n, 1, 3)
	write(2*span + 9000) // a group within, which had no record, and one that did
	write(3*span + 9000)
	write(7*span + 9000)
	v := &groupView{groups: map[uint64]*group{}}
	if !n.allocs.learn(r, v, true) {
		t.Fatal("to be read again")
	}
	if v.groups[2].count() != 1 || v.groups[3].count() != 2 || v.groups[7] != nil || len(n.allocs.reads) != 0 {
		t.Errorf("%v", v.groups)
	}
	if !n.allocs.known(2, 3) {
		t.Error("it is not remembered")
	}
}
