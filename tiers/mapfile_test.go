package tiers

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"zerofs/tiers/seal"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func testID(b byte) (id seal.FileID) {
	for i := range id {
		id[i] = b + byte(i)
	}
	return id
}

// encode returns the operations that make d, in the order of names.
func (d *directory) encode() (ops []byte) {
	for _, name := range slices.Sorted(maps.Keys(d.tables)) {
		ops = appendTableOp(ops, name, d.tables[name])
	}
	for _, name := range slices.Sorted(maps.Keys(d.metas)) {
		ops = appendMetaOp(ops, name, d.metas[name])
		if n, ok := d.lengths[name]; ok {
			ops = appendLengthOp(ops, name, n)
		}
	}
	return ops
}

func goldenMap() []byte {
	ops := appendTableOp(nil, "000002.sst", tableEntry{testID(0x10), "files/0000000000000001-00112233445566778899aabbccddeeff.sst", 123456})
	ops = appendMetaOp(ops, "MANIFEST-000001", testID(0x20))
	ops = appendMetaOp(ops, "marker.manifest.000001.MANIFEST-000001", noID)
	plain := appendMapRecord(nil, 7, ops)
	ops = appendDeleteOp(nil, "000002.sst")
	ops = appendLengthOp(ops, "MANIFEST-000001", 300)
	return appendMapRecord(plain, 8, ops)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	text := []byte(hex.Dump(got))
	if *update {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("%s is not what is encoded:\n%s", path, text)
	}
}

func TestMapGolden(t *testing.T) {
	plain := goldenMap()
	golden(t, "map.golden", plain)
	d, err := decodeMap(plain)
	if err != nil {
		t.Fatal(err)
	}
	want := newDirectory()
	want.seq = 8
	want.metas["MANIFEST-000001"] = testID(0x20)
	want.metas["marker.manifest.000001.MANIFEST-000001"] = noID
	want.lengths["MANIFEST-000001"] = 300
	if d.seq != want.seq || !maps.Equal(d.tables, want.tables) || !maps.Equal(d.metas, want.metas) || !maps.Equal(d.lengths, want.lengths) {
		t.Errorf("decoded %+v, want %+v", d, want)
	}
}

func TestMetaGolden(t *testing.T) {
	plain := appendMetaRecord(appendMetaRecord(nil, 7, []byte("first edit")), 9, []byte(", second edit"))
	golden(t, "meta.golden", plain)
	data, seq, err := decodeMeta(plain)
	if err != nil || string(data) != "first edit, second edit" || seq != 9 {
		t.Errorf("decoded %q, %d, %v", data, seq, err)
	}
}

func TestMapRefusesNonsense(t *testing.T) {
	valid := appendTableOp(nil, "000002.sst", tableEntry{testID(1), "files/x", 5})
	for name, plain := range map[string][]byte{
		"cut length":      {1, 0},
		"cut record":      appendMapRecord(nil, 1, valid)[:20],
		"short record":    {1, 0, 0, 0, mapVersion},
		"unknown version": {9, 0, 0, 0, 99, 1, 0, 0, 0, 0, 0, 0, 0},
		"unknown op":      appendMapRecord(nil, 1, append([]byte{77}, valid[1:]...)),
		"cut op":          appendMapRecord(nil, 1, valid[:len(valid)-1]),
		"long name":       appendMapRecord(nil, 1, appendDeleteOp(nil, string(make([]byte, 256)))),
		"no name":         appendMapRecord(nil, 1, appendDeleteOp(nil, "")),
		"gap":             appendMapRecord(appendMapRecord(nil, 1, valid), 3, valid),
		"huge size":       appendMapRecord(nil, 1, appendTableOp(nil, "a.sst", tableEntry{testID(1), "o", sizeMax + 1})),
	} {
		if d, err := decodeMap(plain); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func FuzzDecodeMap(f *testing.F) {
	f.Add(goldenMap())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, plain []byte) {
		d, err := decodeMap(plain)
		if err != nil {
			return
		}
		again, err := decodeMap(appendMapRecord(nil, d.seq, d.encode()))
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(d.tables, again.tables) || !maps.Equal(d.metas, again.metas) || !maps.Equal(d.lengths, again.lengths) {
			t.Fatalf("%+v became %+v", d, again)
		}
	})
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(appendMetaRecord(nil, 7, []byte("edit")))
	f.Fuzz(func(t *testing.T, plain []byte) {
		data, seq, err := decodeMeta(plain)
		if err != nil {
			return
		}
		again, seqAgain, err := decodeMeta(appendMetaRecord(nil, seq, data))
		if err != nil || !bytes.Equal(data, again) || seq != seqAgain {
			t.Fatalf("%x, %d became %x, %d, %v", data, seq, again, seqAgain, err)
		}
	})
}

func TestNames(t *testing.T) {
	for name, want := range map[string]class{
		"000001.sst": classTable, "000001.blob": classTable, "MANIFEST-000001": classMeta,
		"OPTIONS-000002": classMeta, "marker.manifest.000001.MANIFEST-000001": classMarker,
		"temporary.000003.dbtmp": classTemp, "LOCK": classScratch, "000004.log": classScratch,
	} {
		if got := classify(name); got != want {
			t.Errorf("%s is of class %d, want %d", name, got, want)
		}
	}
	object := objectName(0x1f, [16]byte{1, 2}, "000001.blob")
	if object != "files/000000000000001f-01020000000000000000000000000000.blob" {
		t.Error(object)
	}
	if epoch, ok := tableEpoch(object); !ok || epoch != 0x1f {
		t.Error(epoch, ok)
	}
	for _, key := range []string{"files/x.sst", "files/000000000000001f.sst", "log/1", "files/000000000000001g-00.sst", "files/000000000000001f-00.ship"} {
		if _, ok := tableEpoch(key); ok {
			t.Errorf("%s passes for a table file's object", key)
		}
	}
}

func TestReadahead(t *testing.T) {
	type read struct{ off, n int64 }
	for _, c := range []struct {
		name   string
		stream bool
		reads  []read
		want   []read // from, to
	}{
		{"random", false, []read{{5 << 20, 4096}, {50 << 20, 4096}, {20 << 20, 4096}}, nil},
		{"again and again", false, []read{{0, 4096}, {0, 4096}, {0, 4096}, {0, 4096}}, nil},
		{"sequential", false, []read{{0, 65536}, {65536, 65536}, {131072, 65536}, {196608, 65536}, {262144, 65536}},
			[]read{{196608, 458752}, {458752, 1376256}}},
		{"stream", true, []read{{0, 65536}}, []read{{65536, 65536 + 2<<20}}},
		{"two readers", false, []read{{0, 1000}, {9 << 20, 1000}, {1000, 1000}, {9<<20 + 1000, 1000}, {2000, 1000}},
			[]read{{3000, 3000 + 256<<10}}},
	} {
		var r readahead
		var got []read
		for _, x := range c.reads {
			r.note(x.off, x.n, 100<<20, c.stream, func(from, to int64) int64 {
				got = append(got, read{from, to})
				return to
			})
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: fetched %v, want %v", c.name, got, c.want)
		}
	}
}
