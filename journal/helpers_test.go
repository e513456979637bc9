package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"

	"zerofs/fence"
	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/seal"
)

const testDir = "/journal"

func testKey() *seal.Key { return seal.NewKey([32]byte{1, 2, 3}, seal.ChaCha20Poly1305) }

// seeded returns a source of random bytes that is the same for the same seed.
func seeded(seed uint64) io.Reader {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	return rand.NewChaCha8(s)
}

func testOptions(fs disk.FS, size int64, seed uint64) Options {
	return Options{Disk: fs, Dir: testDir, Size: size, Key: testKey(), Rand: seeded(seed), Logger: slog.New(slog.DiscardHandler)}
}

const smallRing = 4 * segmentMin

// payload returns the bytes of a record, which follow from its LSN and a salt.
func payload(lsn LSN, epoch fence.Epoch, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(lsn), uint64(epoch)))
	for i := 0; i < n; i += 8 {
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], rng.Uint64())
		copy(b[i:], w[:])
	}
	return b
}

// record is what a test appended or replayed.
type record struct {
	lsn     LSN
	payload []byte
}

func openJournal(t testing.TB, opts Options) *Journal {
	t.Helper()
	j, err := Open(context.Background(), opts)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return j
}

// startJournal opens and starts a journal after what it holds.
func startJournal(t testing.TB, opts Options, epoch fence.Epoch) *Journal {
	t.Helper()
	j := openJournal(t, opts)
	_, last := j.Held()
	if err := j.Start(epoch, last); err != nil {
		t.Fatalf("start: %v", err)
	}
	return j
}

func put(j *Journal, p []byte) (LSN, error) {
	if err := j.Reserve(context.Background(), len(p)); err != nil {
		return 0, err
	}
	return j.Append(p, len(p))
}

func mustPut(t testing.TB, j *Journal, p []byte) LSN {
	t.Helper()
	lsn, err := put(j, p)
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	return lsn
}

func mustSync(t testing.TB, j *Journal, upTo LSN) {
	t.Helper()
	if err := j.Sync(context.Background(), upTo); err != nil {
		t.Fatalf("sync %d: %v", upTo, err)
	}
}

func mustClose(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(context.Background()); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// replayAll returns what can be replayed from the given LSN on.
func replayAll(j *Journal, from, covered LSN) (recs []record, err error) {
	err = j.Replay(context.Background(), from, covered, func(lsn LSN, p []byte) error {
		recs = append(recs, record{lsn, bytes.Clone(p)})
		return nil
	})
	return recs, err
}

// checkRecords fails unless recs are the appended records from the given LSN on, as many as there are.
func checkRecords(t testing.TB, recs []record, from LSN, want func(LSN) []byte) {
	t.Helper()
	for i, r := range recs {
		if r.lsn != from+LSN(i) {
			t.Fatalf("record %d has lsn %d, want %d", i, r.lsn, from+LSN(i))
		}
		if w := want(r.lsn); !bytes.Equal(r.payload, w) {
			t.Fatalf("lsn %d: %d bytes that differ from the %d appended", r.lsn, len(r.payload), len(w))
		}
	}
}

// segmentFiles returns the paths of the segments on a disk.
func segmentFiles(t testing.TB, fs *disktest.FS) (paths []string) {
	t.Helper()
	names, err := fs.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, ok := parseSegmentName(name); ok {
			paths = append(paths, fs.PathJoin(testDir, name))
		}
	}
	return paths
}

var errDisk = errors.New("disk broke")
