package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/disk/disktest"
)

// sealLog returns a sealed log and the offsets of its records, its end included.
func sealLog(t testing.TB, k *Key, id FileID, payloads ...[]byte) (stored []byte, offsets []int) {
	t.Helper()
	l, err := k.NewLog(id)
	if err != nil {
		t.Fatal(err)
	}
	stored = l.Header()
	offsets = []int{len(stored)}
	for _, p := range payloads {
		stored = l.Seal(stored, p)
		offsets = append(offsets, len(stored))
	}
	return stored, offsets
}

func readLog(k *Key, stored []byte, captured int) ([]byte, int64, *Log, error) {
	return k.ReadLog("MANIFEST-000007", bytes.NewReader(stored), int64(len(stored)), int64(captured))
}

var logPayloads = [][]byte{
	[]byte("first"), {}, pattern(200, 1), []byte("eightby."), pattern(3, 9), []byte("the last record"),
}

func TestLogRoundTrip(t *testing.T) {
	for _, c := range ciphers {
		k := testKey(c)
		stored, offsets := sealLog(t, k, FileID{1}, logPayloads...)
		for i := range offsets {
			want := bytes.Join(logPayloads[:i], nil)
			got, n, l, err := readLog(k, stored[:offsets[i]], len(want))
			if err != nil || !bytes.Equal(got, want) || n != int64(offsets[i]) {
				t.Fatalf("%v: %d records: %d bytes to %d, %v", c, i, len(got), n, err)
			}
			// What goes on where it ended is one log.
			longer := l.Seal(bytes.Clone(stored[:n]), []byte("more"))
			got, _, _, err = readLog(k, longer, 0)
			if err != nil || !bytes.Equal(got, append(want, "more"...)) {
				t.Fatalf("%v: %d records and one more: %q, %v", c, i, got, err)
			}
		}
	}
}

func TestLogGolden(t *testing.T) {
	for _, c := range ciphers {
		stored, _ := sealLog(t, testKey(c), FileID{0x10, 0x60}, []byte("one"), nil, pattern(50, 0))
		golden(t, fmt.Sprintf("log-%v.golden", c), stored)
	}
}

// Every byte counts: with all captured each flip is an error that names the log; with nothing
// captured it is one unless it may have been a torn tail.
func TestLogFlips(t *testing.T) {
	for _, c := range ciphers {
		k := testKey(c)
		stored, offsets := sealLog(t, k, FileID{1}, logPayloads...)
		all := bytes.Join(logPayloads, nil)
		lastAt := offsets[len(offsets)-2]
		most := bytes.Join(logPayloads[:len(logPayloads)-1], nil)
		for at := range stored {
			for _, mask := range []byte{0x01, 0x80} {
				bad := bytes.Clone(stored)
				bad[at] ^= mask
				if _, _, _, err := readLog(k, bytes.Clone(bad), len(all)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "MANIFEST-000007") {
					t.Fatalf("%v: byte %d, all captured: %v", c, at, err)
				}
				got, n, _, err := readLog(k, bad, 0)
				if at < lastAt && !errors.Is(err, ErrCorrupt) || at >= lastAt && (err != nil || !bytes.Equal(got, most)) {
					t.Fatalf("%v: byte %d, the last record begins at %d: %d bytes to %d, %v", c, at, lastAt, len(got), n, err)
				}
			}
		}
	}
}

// The last record cannot be told from a torn tail: it goes, and nothing else.
func TestLogTornTail(t *testing.T) {
	for _, c := range ciphers {
		k := testKey(c)
		stored, offsets := sealLog(t, k, FileID{1}, logPayloads...)
		for n := range stored {
			for _, tail := range [][]byte{nil, make([]byte, 100), pattern(100, 7), []byte(strings.Repeat(recMagic, 30))} {
				cut := append(bytes.Clone(stored[:n]), tail...)
				whole := 0
				for whole+1 < len(offsets) && bytes.HasPrefix(cut, stored[:offsets[whole+1]]) {
					whole++ // a tail of zeros may complete padding
				}
				want := bytes.Join(logPayloads[:whole], nil)
				header := bytes.HasPrefix(cut, stored[:logHeaderSize])
				got, end, l, err := readLog(k, cut, 0)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%v: cut at %d, tail of %d: %d bytes, %v", c, n, len(tail), len(got), err)
				}
				if header && end != int64(offsets[whole]) || !header && (end != 0 || l != nil) {
					t.Fatalf("%v: cut at %d: end %d, want %d", c, n, end, offsets[whole])
				}
				if _, _, _, err := readLog(k, append(bytes.Clone(stored[:n]), tail...), len(want)+1); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%v: cut at %d below captured: %v", c, n, err)
				}
			}
		}
	}
}

// A damaged length must not hide what follows, nor cost more than one pass.
func TestLogLengths(t *testing.T) {
	k := testKey(ChaCha20Poly1305)
	stored, offsets := sealLog(t, k, FileID{1}, logPayloads...)
	for i, at := range offsets[:len(offsets)-1] {
		for _, length := range []uint32{0, 1, 7, 100, 1 << 20, MaxRecord - 1, MaxRecord, 1<<32 - 1} {
			bad := bytes.Clone(stored)
			was := bytes.Clone(bad[at+recLength:][:4])
			bad[at+4], bad[at+5], bad[at+6], bad[at+7] = byte(length>>24), byte(length>>16), byte(length>>8), byte(length)
			if bytes.Equal(was, bad[at+recLength:][:4]) {
				continue
			}
			got, _, _, err := readLog(k, bad, 0)
			last := i == len(logPayloads)-1
			if last && (err != nil || !bytes.Equal(got, bytes.Join(logPayloads[:i], nil))) || !last && !errors.Is(err, ErrCorrupt) {
				t.Errorf("record %d, length %d: %d bytes, %v", i, length, len(got), err)
			}
		}
	}
}

// Records of other places and other logs are none.
func TestLogMoves(t *testing.T) {
	k := testKey(AES256GCM)
	a, at := sealLog(t, k, FileID{1}, []byte("record 0"), []byte("record 1"), []byte("record 2"))
	b, _ := sealLog(t, k, FileID{2}, []byte("RECORD 0"), []byte("RECORD 1"), []byte("RECORD 2"))
	rec := func(s []byte, i int) []byte { return s[at[i]:at[i+1]] }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	head := a[:at[0]]
	cases := []struct {
		name   string
		stored []byte
		want   string // or an error, if "!"
	}{
		{"swapped", join(head, rec(a, 1), rec(a, 0), rec(a, 2)), "!"},
		{"twice", join(head, rec(a, 0), rec(a, 0)), "record 0"},
		{"left out", join(head, rec(a, 0), rec(a, 2)), "record 0"}, // not in its place, so none
		{"of another log", join(head, rec(a, 0), rec(b, 1)), "record 0"},
		{"of another log, ours behind it", join(head, rec(a, 0), rec(b, 1), rec(a, 2)), "!"},
		{"another log's header", join(b[:at[0]], a[at[0]:]), ""}, // a valid one: none of the records is its
	}
	for _, tc := range cases {
		got, _, _, err := readLog(k, tc.stored, 0)
		if tc.want == "!" && !errors.Is(err, ErrCorrupt) || tc.want != "!" && (err != nil || string(got) != tc.want) {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
}

// A log that is reopened and seals another record in a torn one's place repeats no nonce.
func TestLogNonces(t *testing.T) {
	k := testKey(ChaCha20Poly1305)
	stored, at := sealLog(t, k, FileID{1}, []byte("kept"), []byte("torn, never acknowledged"))
	_, n, l, err := readLog(k, bytes.Clone(stored[:len(stored)-8]), 0)
	if err != nil || n != int64(at[1]) {
		t.Fatal(n, err)
	}
	second := l.Seal(nil, []byte("what came in its place.."))
	if bytes.Equal(second[recNonce:recCheck], stored[at[1]:][recNonce:recCheck]) {
		t.Error("one nonce for two records")
	}
}

func TestLogReadErrors(t *testing.T) {
	k := testKey(ChaCha20Poly1305)
	stored, _ := sealLog(t, k, FileID{1}, []byte("x"))
	if _, _, _, err := k.ReadLog("m", bytes.NewReader(stored), int64(len(stored))+1, 0); !errors.Is(err, io.EOF) {
		t.Errorf("a file shorter than said: %v", err)
	}
	if _, _, _, err := k.ReadLog("m", bytes.NewReader(stored), -1, 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("negative size: %v", err)
	}
}

// TestLogCrash writes a log as its users do, and cuts the power at every operation.
func TestLogCrash(t *testing.T) {
	k := testKey(ChaCha20Poly1305)
	for cut := int64(1); ; cut++ {
		disk := disktest.New(disktest.Options{OnOp: disktest.CrashAt(cut)})
		acked, named := writeLog(t, disk, k)
		for seed := range uint64(30) {
			after := disk.CrashClone(seed, 50)
			stored, err := after.ReadFile("log")
			if err != nil {
				if named {
					t.Fatalf("crash at %d, seed %d: %v", cut, seed, err)
				}
				continue
			}
			got, _, _, err := readLog(k, stored, acked)
			whole := bytes.Join(logPayloads, nil)
			if err != nil || !bytes.HasPrefix(whole, got) {
				t.Fatalf("crash at %d, seed %d: %d bytes, %d acknowledged: %v", cut, seed, len(got), acked, err)
			}
		}
		if !disk.Crashed() {
			return
		}
	}
}

// writeLog returns the bytes of plaintext that were synced, and whether the name was.
func writeLog(t *testing.T, disk *disktest.FS, k *Key) (acked int, named bool) {
	l, err := k.NewLog(FileID{3})
	if err != nil {
		t.Fatal(err)
	}
	f, err := disk.Create("log", vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, false
	}
	buf := l.Header()
	if disk.SyncDir("") != nil {
		return 0, false
	}
	for _, p := range logPayloads {
		buf = l.Seal(buf, p)
		if _, err := f.Write(buf); err != nil {
			return acked, true
		}
		if err := f.Sync(); err != nil {
			return acked, true
		}
		acked += len(p)
		buf = buf[:0]
	}
	return acked, true
}

func FuzzReadLog(f *testing.F) {
	k := testKey(ChaCha20Poly1305)
	stored, _ := sealLog(f, k, FileID{1}, logPayloads...)
	f.Add(stored, 0)
	f.Add(stored[:len(stored)-9], 5)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, stored []byte, captured int) {
		given := bytes.Clone(stored)
		plain, n, l, err := k.ReadLog("f", bytes.NewReader(stored), int64(len(stored)), int64(captured))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if n > int64(len(given)) || len(plain) < captured || (l == nil) != (n == 0) {
			t.Fatalf("%d bytes, stored %d of %d", len(plain), n, len(given))
		}
		again, _, _, err := k.ReadLog("f", bytes.NewReader(given[:n]), n, 0)
		if err != nil || !bytes.Equal(again, plain) {
			t.Fatalf("read again: %v", err)
		}
	})
}

// A bad record at the start of a large log: one pass finds what follows.
func BenchmarkLogResync(b *testing.B) {
	k := testKey(ChaCha20Poly1305)
	stored, _ := sealLog(b, k, FileID{1}, make([]byte, 64<<20), []byte("after"))
	stored[logHeaderSize+4] ^= 1
	b.SetBytes(int64(len(stored)))
	for b.Loop() {
		if _, _, _, err := readLog(k, stored, 0); !errors.Is(err, ErrCorrupt) {
			b.Fatal(err)
		}
	}
}
