package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/journal"
)

// testRecord returns the record of lsn 1 of a new volume.
func testRecord(t testing.TB) []byte {
	log := newFakeLog()
	openEngine(t, testOptions(vfs.NewMem(), log), log)
	return log.records[0]
}

func TestRecordGolden(t *testing.T) {
	golden(t, "record", fmt.Sprintf("%x\n", testRecord(t)))
}

func TestReplayRefuses(t *testing.T) {
	good := testRecord(t)
	bad := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(good)) }
	e, err := Open(context.Background(), testOptions(vfs.NewMem(), newFakeLog()))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, tt := range []struct {
		name   string
		lsn    journal.LSN
		record []byte
		want   error
	}{
		{"gap", 2, good, ErrGap},
		{"empty", 1, nil, ErrCorrupt},
		{"cut", 1, good[:len(good)-1], ErrCorrupt},
		{"longer", 1, append(bytes.Clone(good), 0), ErrCorrupt},
		{"other lsn", 1, bad(func(b []byte) []byte { b[lsnValueOffset+7] = 2; return b }), ErrCorrupt},
		{"other first key", 1, bad(func(b []byte) []byte { b[lsnKeyOffset]++; return b }), ErrCorrupt},
		{"count", 1, bad(func(b []byte) []byte { b[8]++; return b }), ErrCorrupt},
		{"kind", 1, bad(func(b []byte) []byte { b[lsnValueOffset+8] = 3; return b }), ErrCorrupt},
		{"good", 1, good, nil},
		{"again", 1, nil, nil},
	} {
		if err := e.Replay(tt.lsn, tt.record); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if got := e.Applied(); got != 1 {
		t.Errorf("applied %d", got)
	}
}

// TestCrash cuts the power at random points of a random workload. What is found again is the device
// as some record left it: no earlier than the last that was synced, and exactly so.
func TestCrash(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 15
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashOnce(t, seed) })
	}
}

const crashSize = 96 << 10

func crashOnce(t *testing.T, seed uint64) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(seed, 4))
	mem, log := vfs.NewCrashableMem(), newFakeLog()
	states := map[journal.LSN][]byte{} // the device after each record
	for round := range 4 {
		opts := testOptions(mem, log)
		opts.MemTableSize = 64 << 10 // many flushes
		e, err := openStarted(opts, log)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if rng.IntN(2) == 0 {
			e.cache = newMapCache(func() bool { return rng.IntN(3) == 0 })
		}
		d := openDevice(t, e, "d", crashSize)
		now := make([]byte, crashSize)
		if err := d.ReadAt(ctx, now, 0); err != nil {
			t.Fatal(err)
		}
		if want, ok := states[log.last]; ok && !bytes.Equal(now, want) {
			t.Fatalf("round %d: after a crash at lsn %d byte %d differs", round, log.last, diff(now, want))
		} else if !ok && round > 0 {
			t.Fatalf("round %d: recovered lsn %d, which was never written", round, log.last)
		}
		states[log.last] = bytes.Clone(now)
		for range 20 + rng.IntN(100) {
			crashStep(t, rng, e, d, now)
			states[e.Applied()] = bytes.Clone(now)
		}
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		keep := log.durable + journal.LSN(rng.Uint64N(uint64(log.last-log.durable)+1))
		next := log.cut(keep)
		d.Close()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		mem, log = crashed, next
		if flushed := flushedLSN(t, mem); flushed > keep { // the tree may be ahead of the journal's tail
			log = &fakeLog{first: flushed + 1, last: flushed, durable: flushed}
		}
	}
}

// flushedLSN opens the tree alone and returns its LSN.
func flushedLSN(t *testing.T, mem *vfs.MemFS) journal.LSN {
	t.Helper()
	clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
	e, err := Open(context.Background(), testOptions(clone, newFakeLog()))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.Applied()
}

func crashStep(t *testing.T, rng *rand.Rand, e *Engine, d *Device, now []byte) {
	t.Helper()
	ctx := context.Background()
	off := rng.Int64N(crashSize)
	n := min(1+rng.Int64N(12<<10), crashSize-off)
	if rng.IntN(2) == 0 {
		off, n = off&^4095, (n+4095)&^4095
		n = min(n, crashSize-off)
	}
	var err error
	switch k := rng.IntN(20); {
	case k < 13:
		p := make([]byte, n)
		fillRandom(p, rng.Uint64())
		copy(now[off:], p)
		err = d.WriteAt(ctx, p, off, false)
	case k < 16:
		clear(now[off : off+n])
		err = d.Trim(ctx, off, n, false)
	case k < 18:
		err = d.Flush(ctx)
	default:
		if _, err = e.Flush(); err == nil && k == 19 {
			flush(t, e)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCommitOrder writes from many goroutines and checks that the log holds the records in the order
// of their LSNs, that an LSN covers its own change, and that each prefix of the log is the tree then.
func TestCommitOrder(t *testing.T) {
	ctx := context.Background()
	mem, log := vfs.NewMem(), newFakeLog()
	e := openEngine(t, testOptions(mem, log), log)
	d := openDevice(t, e, "d", 64<<10)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				p := bytes.Repeat([]byte{byte(g*50 + i)}, 100) // within a chunk: operands that others overlap
				lsn, err := e.write(ctx, d.n, p, int64(g*20+i))
				if err != nil {
					t.Error(err)
					return
				}
				if e.Applied() < lsn || log.Last() < lsn {
					t.Errorf("write returned lsn %d before it was applied", lsn)
				}
			}
		})
	}
	wg.Wait()
	want := make([]byte, 64<<10)
	if err := d.ReadAt(ctx, want, 0); err != nil {
		t.Fatal(err)
	}
	log2 := log.cut(log.last)
	e2 := openEngine(t, testOptions(vfs.NewMem(), log2), log2)
	d2 := openDevice(t, e2, "d", 64<<10)
	got := make([]byte, 64<<10)
	if err := d2.ReadAt(ctx, got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the log alone gives another device, from byte %d on", diff(got, want))
	}
}

// TestAppendFails checks that a change which the log refuses is seen nowhere.
func TestAppendFails(t *testing.T) {
	ctx := context.Background()
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	e.cache = newMapCache(nil)
	d := openDevice(t, e, "d", 64<<10)
	one := bytes.Repeat([]byte{1}, 4096)
	if err := d.WriteAt(ctx, one, 0, false); err != nil {
		t.Fatal(err)
	}
	create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	applied := e.Applied()
	broken := errors.New("disk is gone")
	log.fail = broken
	for name, op := range map[string]func() error{
		"write":  func() error { return d.WriteAt(ctx, bytes.Repeat([]byte{2}, 4096), 0, false) },
		"part":   func() error { return d.WriteAt(ctx, []byte{2}, 7, false) },
		"trim":   func() error { return d.Trim(ctx, 0, 8192, false) },
		"resize": func() error { return e.EnsureDevice(ctx, "d", 128<<10) },
		"create": func() error { return e.EnsureDevice(ctx, "other", 512) },
		"rename": func() error {
			_, _, _, err := e.Rename(ctx, nil, RootIno, "f", RootIno, "g", 0)
			return err
		},
		"durable": func() error { return d.WriteAt(ctx, one, 4096, true) },
	} {
		if err := op(); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := make([]byte, 4096)
	if err := d.ReadAt(ctx, p, 0); err != nil || !bytes.Equal(p, one) {
		t.Errorf("read after the failures: %v, begins with %x", err, p[:4])
	}
	if e.Applied() != applied || d.Size() != 64<<10 || log.reserved != 0 {
		t.Errorf("applied %d, was %d; size %d; %d reserved", e.Applied(), applied, d.Size(), log.reserved)
	}
	if _, err := e.Device(ctx, "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("device of a failed creation: %v", err)
	}
	log.fail = nil
	if err := e.EnsureDevice(ctx, "other", 512); err != nil {
		t.Error(err)
	}
}

// TestFailure checks what happens when the log and the tree can no longer agree.
func TestFailure(t *testing.T) {
	ctx := context.Background()
	log := newFakeLog()
	opts := testOptions(vfs.NewMem(), log)
	var told []error
	opts.Fatal = func(err error) { told = append(told, err) }
	e := openEngine(t, opts, log)
	d := openDevice(t, e, "d", 64<<10)
	log.last++ // somebody else appended
	for range 2 {
		if err := d.WriteAt(ctx, make([]byte, 4096), 0, false); !errors.Is(err, ErrFailed) {
			t.Errorf("write: %v", err)
		}
	}
	if len(told) != 1 || !errors.Is(told[0], ErrFailed) {
		t.Errorf("the owner was told %v", told)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := d.ReadAt(ctx, make([]byte, 512), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func TestFlushedFollows(t *testing.T) {
	ctx := context.Background()
	log := newFakeLog()
	opts := testOptions(vfs.NewMem(), log)
	opts.MemTableSize = 16 << 20
	e := openEngine(t, opts, log)
	d := openDevice(t, e, "d", 16<<20)
	if lsn, err := e.Flushed(); err != nil || lsn != 0 {
		t.Fatalf("flushed %d, %v before any flush", lsn, err)
	}
	p := make([]byte, 4<<20)
	fillRandom(p, 1)
	if err := d.WriteAt(ctx, p, 0, false); err != nil {
		t.Fatal(err)
	}
	if got := e.MemTableBytes(); got < 4<<20 || got > 5<<20 {
		t.Errorf("memtable of %d bytes", got)
	}
	flush(t, e)
	if lsn, err := e.Flushed(); err != nil || lsn != e.Applied() {
		t.Errorf("flushed %d, %v, applied %d", lsn, err, e.Applied())
	}
	m, err := e.Metrics()
	if err != nil || m.LiveBytes < 4<<20 || m.Flushes < 1 {
		t.Errorf("%+v, %v", m, err)
	}
}
