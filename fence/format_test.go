package fence

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/seal"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func fill16(c byte) (a [16]byte) {
	for i := range a {
		a[i] = c + byte(i)
	}
	return a
}

func fill32(c byte) (a [32]byte) {
	for i := range a {
		a[i] = c + byte(i)
	}
	return a
}

func sampleClaim() claimInfo {
	return claimInfo{
		identity: Identity{Dir: fill16(0x10), Boot: fill16(0x20), Dev: 3, Ino: 4, Local: true},
		owner:    "host-a", lease: 60 * time.Second, durability: Object,
	}
}

// sampleRecords has one record of each kind and form.
func sampleRecords() map[string]*record {
	base := encodeBase(sampleBase())
	ref := bodyRef{object: "files/0000000000000005-00.ship", id: fill16(0x50), size: 300_000}
	out := map[string]*record{
		"claim":       {kind: kindClaim, claim: sampleClaim()},
		"renew":       {kind: kindRenew},
		"ship":        {kind: kindShip, first: 7, last: 9, body: bodyRef{inline: []byte("batches"), size: 7}},
		"ship-object": {kind: kindShip, first: 7, last: 9, body: ref},
		"commit": {kind: kindCommit, lsn: 9, body: bodyRef{inline: encodeCommit(sampleCommit()),
			size: int64(len(encodeCommit(sampleCommit())))}},
		"commit-object": {kind: kindCommit, lsn: 9, body: ref},
		"base":          {kind: kindBase, asOf: 6, body: bodyRef{inline: base, size: int64(len(base))}},
		"base-object":   {kind: kindBase, asOf: 6, body: ref},
		"pin":           {kind: kindPin, name: "monday"},
		"unpin":         {kind: kindUnpin, name: "monday"},
		"release":       {kind: kindRelease},
	}
	for _, r := range out {
		r.epoch, r.nonce, r.prev = 5, fill16(0x30), fill32(0x40)
	}
	return out
}

func sampleCommit() *Commit {
	return &Commit{
		LSN:     9,
		Meta:    []MetaDelta{{Name: "MANIFEST-000001", Offset: 3, Data: []byte("edit")}, {Name: "marker.manifest.1", Data: []byte{}}, {Name: "OPTIONS-1", Removed: true, Data: []byte{}}},
		Added:   []Table{{Name: "000004.sst", Object: "files/x.sst", Size: 77, ID: fill16(0x60)}},
		Dropped: []string{"000003.sst"},
	}
}

func sampleBase() *baseBody {
	return &baseBody{
		lsn: 6, claimSeq: 2, claim: sampleClaim(),
		tables: []Table{{Name: "1.sst", Object: "files/1", Size: 1, ID: fill16(1)}, {Name: "2.blob", Object: "files/2", Size: 2, ID: fill16(2)}},
		meta:   []metaFile{{"MANIFEST-1", []byte("manifest")}, {"marker.x", []byte{}}},
		ships: []ShipRef{
			{Seq: 4, First: 7, Last: 8, hash: fill32(9), body: bodyRef{size: 10}},
			{Seq: 5, First: 9, Last: 9, hash: fill32(8), body: bodyRef{object: "files/s.ship", id: fill16(7), size: 11}},
		},
		trash: []string{"files/old", "files/older"},
	}
}

func sampleMemory() memory {
	return memory{seen: 12, adopted: mark{11, fill32(0x70)}, pending: []intent{{12, fill16(0x80)}, {13, fill16(0x90)}}}
}

func testCodec(t testing.TB) *codec {
	key, volume := testKey()
	c, err := newCodec(key, volume)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestGolden pins the bytes of every format, sealed and plain.
func TestGolden(t *testing.T) {
	c := testCodec(t)
	for name, r := range sampleRecords() {
		golden(t, "record-"+name+".plain", encodeRecord(r))
		stored, err := c.seal(r, 8, bytes.Repeat([]byte{0xaa}, sealNonce))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "record-"+name+".sealed", stored)
		back, err := c.open(stored, 8)
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Fatalf("%s: %+v, %v, want %+v", name, back, err, r)
		}
	}
	plain := encodeLineage(sampleMemory(), 3)
	golden(t, "lineage.plain", bytes.TrimRight(plain, "\x00"))
	m, counter, err := decodeLineage(plain)
	if err != nil || counter != 3 || !reflect.DeepEqual(m, sampleMemory()) {
		t.Fatalf("lineage: %+v, %d, %v", m, counter, err)
	}
	golden(t, "hint", encodeHint(7))
	fs, slots := lineageFile(t)
	_ = fs
	golden(t, "lineage.sealed", slots)
	s := bodyStore(t)
	ref := bodyRef{object: "files/b", id: fill16(1), size: 20}
	sealed, err := s.sealBody(ref, []byte("twenty bytes of body"))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "body", sealed)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	text := hex.Dump(got)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s is\n%swant\n%s", name, text, want)
	}
}

func bodyStore(t testing.TB) *logStore {
	key, volume := testKey()
	s, err := newLogStore(nil, key, volume, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lineageFile writes a lineage twice and returns its disk and bytes.
func lineageFile(t testing.TB) (*disktest.FS, []byte) {
	t.Helper()
	fs := disktest.New(disktest.Options{})
	l := openLineage(t, fs)
	for seen := range Seq(2) {
		if err := l.update(func(memory) memory { m := sampleMemory(); m.seen += seen; return m }); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := fs.ReadFile("/lineage")
	if err != nil {
		t.Fatal(err)
	}
	return fs, b
}

func openLineage(t testing.TB, fs disk.FS) *Lineage {
	t.Helper()
	key, volume := testKey()
	l, err := OpenLineage(fs, "/lineage", key, volume, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestFlipRecord inverts bits of every byte of every kind of record: each is noticed and named.
func TestFlipRecord(t *testing.T) {
	c := testCodec(t)
	for name, r := range sampleRecords() {
		stored, err := c.seal(r, 8, bytes.Repeat([]byte{0xaa}, sealNonce))
		if err != nil {
			t.Fatal(err)
		}
		for i := range stored {
			stored[i] ^= 0x41
			if _, err := c.open(stored, 8); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), logKey(8)) {
				t.Fatalf("%s with byte %d changed: %v", name, i, err)
			}
			stored[i] ^= 0x41
		}
		for n := range stored {
			if _, err := c.open(stored[:n], 8); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			}
		}
		if _, err := c.open(stored, 9); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s in another place: %v", name, err)
		}
		c.volume[0] ^= 1
		if _, err := c.open(stored, 8); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s in another volume: %v", name, err)
		}
		c.volume[0] ^= 1
	}
}

// TestFlipBody does the same with a body in an object of its own.
func TestFlipBody(t *testing.T) {
	s := bodyStore(t)
	plain := bytes.Repeat([]byte("body"), 5000)
	ref := bodyRef{object: "files/b.ship", id: fill16(1), size: int64(len(plain))}
	sealed, err := s.sealBody(ref, plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.openBody(ref, bytes.Clone(sealed)); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for i := range sealed {
		if i > 200 && i < seal.HeaderSize-8 && i%61 != 0 || i > seal.HeaderSize+64 && i%251 != 0 {
			continue
		}
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x80
		if _, err := s.openBody(ref, bad); err == nil {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
	}
}

// TestFlipLineage inverts bits of every byte of the lineage file: each slot is there twice, so
// nothing is lost.
func TestFlipLineage(t *testing.T) {
	fs, stored := lineageFile(t)
	want := sampleMemory()
	want.seen++
	for i := 0; i < len(stored); i++ {
		if err := fs.Damage("/lineage", int64(i), 0x10); err != nil {
			t.Fatal(err)
		}
		l := openLineage(t, fs)
		if got := l.memory(); !reflect.DeepEqual(got, want) {
			t.Fatalf("byte %d changed: %+v, want %+v", i, got, want)
		}
		l.Close()
		if err := fs.Damage("/lineage", int64(i), 0x10); err != nil {
			t.Fatal(err)
		}
	}
	for _, off := range []int64{40, copySize + 40, slotSize + 40, slotSize + copySize + 40} {
		if err := fs.Damage("/lineage", off, 0x10); err != nil {
			t.Fatal(err)
		}
	}
	key, volume := testKey()
	_, err := OpenLineage(fs, "/lineage", key, volume, rand.NewChaCha8([32]byte{1}))
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "/lineage") {
		t.Fatalf("all copies damaged: %v", err)
	}
}

// TestLineageCrash cuts the power in each write: the file says what it said before or what was
// being written, and the former always if the write did not return.
func TestLineageCrash(t *testing.T) {
	for k := int64(1); ; k++ {
		fs := disktest.New(disktest.Options{})
		l := openLineage(t, fs)
		fs.SetOnOp(disktest.CrashAt(k))
		done := Seq(0)
		for seq := Seq(1); seq <= 4; seq++ {
			if err := l.update(func(m memory) memory { m.seen = seq; return m }); err != nil {
				break
			}
			done = seq
		}
		if !fs.Crashed() {
			return
		}
		for seed := range uint64(40) {
			after := openLineage(t, fs.CrashClone(seed, 50))
			if got := after.memory().seen; got != done && got != done+1 {
				t.Fatalf("crash at %d, seed %d: says %d, %d was written", k, seed, got, done)
			}
			if err := after.update(func(m memory) memory { m.seen = 9; return m }); err != nil {
				t.Fatal(err)
			}
			after.Close()
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range sampleRecords() {
		f.Add(encodeRecord(r))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		r, err := decodeRecord(plain)
		if err != nil {
			return
		}
		if got := encodeRecord(r); !bytes.Equal(got, plain) {
			t.Fatalf("decodes to what encodes to\n%x, not\n%x", got, plain)
		}
		if r.kind == kindCommit && r.body.object == "" {
			if c, err := decodeCommit(r.lsn, r.body.inline); err == nil && !bytes.Equal(encodeCommit(c), r.body.inline) {
				t.Fatal("commit does not encode to the same bytes")
			}
		}
	})
}

func FuzzCommit(f *testing.F) {
	f.Add(encodeCommit(sampleCommit()))
	f.Fuzz(func(t *testing.T, body []byte) {
		if c, err := decodeCommit(1, body); err == nil && !bytes.Equal(encodeCommit(c), body) {
			t.Fatal("does not encode to the same bytes")
		}
	})
}

func FuzzBase(f *testing.F) {
	f.Add(encodeBase(sampleBase()))
	f.Fuzz(func(t *testing.T, body []byte) {
		if b, err := decodeBase(body); err == nil && !bytes.Equal(encodeBase(b), body) {
			t.Fatal("does not encode to the same bytes")
		}
	})
}

func FuzzLineage(f *testing.F) {
	f.Add(encodeLineage(sampleMemory(), 3))
	f.Fuzz(func(t *testing.T, plain []byte) {
		m, counter, err := decodeLineage(plain)
		if err == nil && len(plain) == lineagePlain && !bytes.Equal(encodeLineage(m, counter), plain) {
			t.Fatal("does not encode to the same bytes")
		}
	})
}

// FuzzSealed gives the decoder of stored bytes what no owner wrote.
func FuzzSealed(f *testing.F) {
	c := testCodec(f)
	for _, r := range sampleRecords() {
		stored, err := c.seal(r, 8, bytes.Repeat([]byte{0xaa}, sealNonce))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(stored)
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		if _, err := c.open(stored, 7); err == nil {
			t.Fatal("opens in a place that it was not sealed for")
		}
	})
}
