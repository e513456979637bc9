package tiers_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tree is Pebble on a host, written by operations that follow from a seed.
type tree struct {
	h    *host
	db   *pebble.DB
	seed uint64
	lsn  uint64 // of the last operation
}

// fataler makes Fatalf an error that ends the goroutine, as far as a test can.
type fataler struct{ fail func(string) }

func (fataler) Infof(string, ...any)  {}
func (fataler) Errorf(string, ...any) {}
func (l fataler) Fatalf(f string, a ...any) {
	l.fail(fmt.Sprintf(f, a...))
	select {} // never returns; the goroutine is lost with the test
}

func pebbleOptions(fs vfs.FS) *pebble.Options {
	o := &pebble.Options{
		FS:                    fs,
		DisableWAL:            true,
		FormatMajorVersion:    pebble.FormatValueSeparation,
		MemTableSize:          64 << 10,
		L0CompactionThreshold: 2,
		L0StopWritesThreshold: 1000,
		MaxManifestFileSize:   4 << 10,
		BytesPerSync:          1 << 40,
		NoSyncOnClose:         true,
		LBaseMaxBytes:         256 << 10,
		Logger:                fataler{func(string) {}},
	}
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = 128 << 10
	}
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 256, MaxBlobReferenceDepth: 4, TargetGarbageRatio: 0.3}
	}
	return o
}

func openTree(h *host, seed uint64) (*tree, error) {
	db, err := pebble.Open("", pebbleOptions(h.fs))
	if err != nil {
		return nil, err
	}
	t := &tree{h: h, db: db, seed: seed}
	if t.lsn, err = readLSN(db, nil); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return t, nil
}

func mustTree(t *testing.T, h *host, seed uint64) *tree {
	t.Helper()
	tr, err := openTree(h, seed)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

var lsnKey = []byte("!lsn")

func readLSN(db *pebble.DB, o *pebble.IterOptions) (uint64, error) {
	it, err := db.NewIter(o)
	if err != nil {
		return 0, err
	}
	defer it.Close()
	if !it.SeekGE(lsnKey) || !bytes.Equal(it.Key(), lsnKey) {
		return 0, it.Error()
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// durableLSN is what a write-back round is told.
func (t *tree) durableLSN() (uint64, error) {
	return readLSN(t.db, &pebble.IterOptions{OnlyReadGuaranteedDurable: true})
}

// operation returns what the operation lsn of a seed does: it sets some keys and deletes one.
func operation(seed, lsn uint64) (sets map[string][]byte, del string) {
	rng := rand.New(rand.NewPCG(seed, lsn))
	sets = map[string][]byte{}
	for range 1 + rng.IntN(4) {
		value := make([]byte, 1+rng.IntN(3000))
		fill(value, rng)
		sets[fmt.Sprintf("k%04d", rng.IntN(400))] = value
	}
	return sets, fmt.Sprintf("k%04d", rng.IntN(400))
}

func fill(p []byte, rng *rand.Rand) {
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, rng.Uint64())
		p = p[8:]
	}
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
}

// step applies the next operation.
func (t *tree) step() error {
	sets, del := operation(t.seed, t.lsn+1)
	b := t.db.NewBatch()
	defer b.Close()
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], t.lsn+1)
	err := errors.Join(b.Delete([]byte(del), nil), b.Set(lsnKey, at[:], nil))
	for k, v := range sets {
		err = errors.Join(err, b.Set([]byte(k), v, nil))
	}
	if err = errors.Join(err, b.Commit(pebble.NoSync)); err == nil {
		t.lsn++
	}
	return err
}

func (t *tree) steps(tb testing.TB, n int) {
	tb.Helper()
	for range n {
		if err := t.step(); err != nil {
			tb.Fatal(err)
		}
	}
}

// check compares the whole tree with the operations up to its LSN and returns that.
func (t *tree) check() (uint64, error) {
	lsn, err := readLSN(t.db, nil)
	if err != nil {
		return 0, err
	}
	want := map[string][]byte{}
	for n := uint64(1); n <= lsn; n++ {
		sets, del := operation(t.seed, n)
		delete(want, del)
		for k, v := range sets {
			want[k] = v
		}
	}
	it, err := t.db.NewIter(nil)
	if err != nil {
		return 0, err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		if bytes.Equal(it.Key(), lsnKey) {
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return 0, err
		}
		if w, ok := want[string(it.Key())]; !ok || !bytes.Equal(v, w) {
			return 0, fmt.Errorf("at lsn %d: key %s is wrong", lsn, it.Key())
		}
		delete(want, string(it.Key()))
	}
	if err := it.Error(); err != nil {
		return 0, err
	}
	if len(want) > 0 {
		return 0, fmt.Errorf("at lsn %d: %d keys are missing", lsn, len(want))
	}
	return lsn, nil
}

func (t *tree) mustCheck(tb testing.TB, least uint64) {
	tb.Helper()
	lsn, err := t.check()
	if err != nil {
		tb.Fatal(err)
	}
	if lsn < least {
		tb.Fatalf("the tree is at lsn %d, want at least %d", lsn, least)
	}
}

func (t *tree) mustWriteBack(tb testing.TB) {
	tb.Helper()
	if err := t.h.fs.WriteBack(context.Background(), t.durableLSN); err != nil {
		tb.Fatal(err)
	}
}

func (t *tree) mustFlush(tb testing.TB) {
	tb.Helper()
	if err := t.db.Flush(); err != nil {
		tb.Fatal(err)
	}
}

func (t *tree) mustClose(tb testing.TB) {
	tb.Helper()
	if err := t.db.Close(); err != nil {
		tb.Fatal(err)
	}
	if err := t.h.close(); err != nil {
		tb.Fatal(err)
	}
}
