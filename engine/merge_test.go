package engine

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", name, got)
	}
}

const foldSize = 256 // a small chunk finds more overlaps

// randomValue draws an operand or, at times, a full value, and applies it to model. known says
// which bytes of model are known without a base.
func randomValue(rng *rand.Rand, model, known []byte) []byte {
	mark := func(s span) {
		for i := s.start; i < s.end; i++ {
			known[i] = 1
		}
	}
	if rng.IntN(8) == 0 {
		n := rng.IntN(foldSize + 1)
		v := make([]byte, n, n+1)
		fillSparse(rng, v)
		clear(model[copy(model, v):])
		mark(span{0, foldSize})
		return append(v, kindFull)
	}
	var e runsEncoder
	for pos := rng.IntN(foldSize); pos < foldSize; {
		n := 1 + rng.IntN(min(90, foldSize-pos))
		if rng.IntN(3) == 0 {
			e.zeros(pos, n)
			clear(model[pos : pos+n])
		} else {
			data := make([]byte, n)
			fillSparse(rng, data)
			e.bytes(pos, data)
			copy(model[pos:], data)
		}
		mark(span{pos, pos + n})
		pos += n + 1 + rng.IntN(120)
	}
	return e.finish()
}

// fillSparse writes bytes and stretches of zeros.
func fillSparse(rng *rand.Rand, p []byte) {
	for i := 0; i < len(p); {
		k := min(len(p)-i, 1+rng.IntN(40))
		if rng.IntN(2) == 0 {
			for j := range k {
				p[i+j] = byte(rng.Uint32() | 1)
			}
		}
		i += k
	}
}

var foldKey = appendChunkKey(nil, 7, 3)

// mergeValues folds values, oldest first, in one of the ways in which Pebble does.
func mergeValues(t *testing.T, m *pebble.Merger, values [][]byte, newest, base bool) []byte {
	t.Helper()
	first, rest := values[0], values[1:]
	if newest {
		first, rest = values[len(values)-1], values[:len(values)-1]
	}
	f, err := m.Merge(foldKey, first)
	for i := 0; err == nil && i < len(rest); i++ {
		if newest {
			err = f.MergeOlder(rest[len(rest)-1-i])
		} else {
			err = f.MergeNewer(rest[i])
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	v, closer, err := f.Finish(base)
	if err != nil {
		t.Fatal(err)
	}
	v = bytes.Clone(v)
	if closer != nil {
		closer.Close()
	}
	return v
}

// TestMergeModel merges random values in any grouping and direction: what comes out is always the
// same bytes, and they say what a plain slice says.
func TestMergeModel(t *testing.T) {
	m := newMerger(foldSize)
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		model, known := make([]byte, foldSize), make([]byte, foldSize)
		values := make([][]byte, 1+rng.IntN(7))
		for i := range values {
			values[i] = randomValue(rng, model, known)
		}
		base := rng.IntN(2) == 0
		want := mergeValues(t, m, values, false, base)
		for len(values) > 1 { // fold neighbours until one is left
			i := rng.IntN(len(values) - 1)
			k := 2 + rng.IntN(len(values)-1-i)
			one := mergeValues(t, m, values[i:i+k], rng.IntN(2) == 0, false)
			values = append(values[:i:i], append([][]byte{one}, values[i+k:]...)...)
		}
		if got := mergeValues(t, m, values, true, base); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: grouping changed the result:\n%x\n%x", seed, got, want)
		}
		checkFolded(t, m, seed, want, model, known, base)
	}
}

// checkFolded applies a result to a chunk of 0xee and compares it with the model.
func checkFolded(t *testing.T, m *pebble.Merger, seed uint64, v, model, known []byte, base bool) {
	t.Helper()
	under := append(bytes.Repeat([]byte{0xee}, foldSize), kindFull)
	data, err := decodeFull(mergeValues(t, m, [][]byte{under, v}, true, true), foldSize)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, foldSize)
	copy(got, data)
	for i := range got {
		want := model[i]
		if known[i] == 0 && !base {
			want = 0xee
		}
		if got[i] != want {
			t.Fatalf("seed %d: byte %d is %#x, want %#x", seed, i, got[i], want)
		}
	}
}

// TestMergeDoesNotRevive folds a chunk to zeros above an older value in a lower level. A merger that
// dropped the all-zero result would bring the older value back.
func TestMergeDoesNotRevive(t *testing.T) {
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	ctx := context.Background()
	d := openDevice(t, e, "d", 1<<20)
	old := bytes.Repeat([]byte{1}, 4096)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(d.WriteAt(ctx, old, 0, false))
	flush(t, e)
	must(e.db.Compact(ctx, []byte{0}, []byte{0xff}, false)) // to the bottom
	must(d.WriteAt(ctx, bytes.Repeat([]byte{2}, 4096), 0, false))
	must(d.Zero(ctx, 0, 100, false, false))
	must(d.Zero(ctx, 100, 3996, false, false))
	flush(t, e)
	read := func() []byte {
		p := make([]byte, 4096)
		must(d.ReadAt(ctx, p, 0))
		return p
	}
	if p := read(); trimZeros(p) != 0 {
		t.Fatalf("chunk begins with %x after a flush", p[:8])
	}
	must(e.db.Compact(ctx, []byte{0}, []byte{0xff}, false))
	if p := read(); trimZeros(p) != 0 {
		t.Fatalf("chunk begins with %x after a compaction", p[:8])
	}
	must(d.Extents(ctx, 0, 1<<20, func(n int64, hole bool) bool {
		if !hole || n != 1<<20 {
			t.Errorf("extent of %d bytes, hole %t", n, hole)
		}
		return true
	}))
}

func TestValueGolden(t *testing.T) {
	var out strings.Builder
	show := func(what string, v []byte) { fmt.Fprintf(&out, "%-34s %x\n", what, v) }
	full := func(b ...byte) []byte { return append(b, kindFull) }
	runs := func(fn func(*runsEncoder)) []byte {
		var e runsEncoder
		fn(&e)
		return e.finish()
	}
	show("full, 3 bytes", full(1, 2, 3))
	show("full, zeros", full())
	show("bytes at 0", runs(func(e *runsEncoder) { e.bytes(0, []byte("abc")) }))
	show("bytes at 300", runs(func(e *runsEncoder) { e.bytes(300, []byte("abc")) }))
	show("zeros at 5, 4091 of them", runs(func(e *runsEncoder) { e.zeros(5, 4091) }))
	show("15 zeros within bytes stay", runs(func(e *runsEncoder) { e.bytes(1, append(append([]byte{7}, make([]byte, 15)...), 8)) }))
	show("16 zeros within bytes are a run", runs(func(e *runsEncoder) { e.bytes(1, append(append([]byte{7}, make([]byte, 16)...), 8)) }))
	show("two runs of bytes", runs(func(e *runsEncoder) { e.bytes(10, []byte("x")); e.bytes(12, []byte("y")) }))
	golden(t, "values", out.String())
}

func TestValueRefused(t *testing.T) {
	m := newMerger(foldSize)
	for name, v := range map[string][]byte{
		"empty":                     {},
		"unknown kind":              {1, 3},
		"full, too long":            append(make([]byte, foldSize+1), kindFull),
		"gap beyond the chunk":      {0x81, 0x02, 2, 'a', kindRuns},
		"run beyond the chunk":      {0xff, 0x01, 5, kindRuns},
		"empty run":                 {0, 0, kindRuns},
		"bytes missing":             {0, 6, 'a', kindRuns},
		"half a varint":             {0x80, kindRuns},
		"no length":                 {1, kindRuns},
		"long form of a number":     {0x80, 0x00, 2, 'a', kindRuns},
		"zeros that touch":          {0, 3, 0, 3, kindRuns},
		"bytes that touch":          {0, 2, 'a', 0, 2, 'b', kindRuns},
		"length of 64 bits":         {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, kindRuns},
		"number of more than 64":    {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, kindRuns},
		"a gap that is 2^63 and up": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 'a', kindRuns},
	} {
		if _, err := m.Merge(foldKey, v); err == nil {
			t.Errorf("%s: %x was taken", name, v)
		}
	}
	if _, err := m.Merge([]byte("i1234567"), []byte{kindFull}); err == nil {
		t.Error("operand under an inode's key was taken")
	}
}

// FuzzMerge feeds two values to the merger. What it takes, it gives back in a form that it takes
// again and that does not change any more.
func FuzzMerge(f *testing.F) {
	m := newMerger(foldSize)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p := make([]byte, 2*foldSize)
		f.Add(randomValue(rng, p, bytes.Clone(p)), randomValue(rng, p, bytes.Clone(p)), seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, a, b []byte, base bool) {
		fold, err := m.Merge(foldKey, a)
		if err != nil || fold.MergeNewer(b) != nil {
			return
		}
		v, _, err := fold.Finish(base)
		if err != nil {
			t.Fatal(err)
		}
		again := mergeValues(t, m, [][]byte{v}, false, base)
		if !bytes.Equal(again, v) {
			t.Fatalf("%x became %x", v, again)
		}
	})
}
