package engine

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestKeysGolden(t *testing.T) {
	var out strings.Builder
	for _, k := range []struct {
		what string
		key  []byte
	}{
		{"chunk 0x0102 of inode 5", appendChunkKey(nil, 5, 0x0102)},
		{"inode 5", appendInodeKey(nil, 5)},
		{"dentry \"name\" in 5", appendDentryKey(nil, 5, "name")},
		{"readdir cookie 3 in 5", appendReaddirKey(nil, 5, 3)},
		{"xattr \"user.a\" of 5", appendXattrKey(nil, 5, "user.a")},
		{"allocation group 3 of 5", appendGroupKey(nil, 5, 3)},
		{"value of a group", appendGroup(nil, &group{0x0102, 1 << 63})},
		{"symlink 5", appendSymlinkKey(nil, 5)},
		{"orphan 5", appendOrphanKey(nil, 5)},
		{"state lsn", appendStateKey(nil, stateLSN)},
		{"state next", appendStateKey(nil, stateNext)},
		{"state chunk", appendStateKey(nil, stateChunk)},
		{"value of a dentry", appendDentry(nil, dentry{ino: 9, typ: TypeRegular, cookie: 3})},
		{"value of a readdir key", appendReaddir(nil, dentry{ino: 9, typ: TypeRegular, cookie: 3}, "name")},
		{"value of an inode", appendAttr(nil, &testAttr)},
	} {
		fmt.Fprintf(&out, "%-24s %x\n", k.what, k.key)
	}
	golden(t, "keys", out.String())
	var put [chunkKeyLen]byte
	putChunkKey(put[:], 5, 0x0102)
	if want := appendChunkKey(nil, 5, 0x0102); !bytes.Equal(put[:], want) {
		t.Errorf("putChunkKey %x, appendChunkKey %x", put, want)
	}
}

var testAttr = Attr{
	Type: TypeRegular, Mode: 0o4755, UID: 1000, GID: 100, Nlink: 2, Rdev: 0x0801, Size: 1 << 40,
	Atime: -1, Mtime: 1_700_000_000_123_456_789, Ctime: 3, Btime: 4, Generation: 1, Flags: 5, Parent: 6, Cookie: 7, Blocks: 8, dense: 9, Verifier: 10,
}

func FuzzAttr(f *testing.F) {
	f.Add(appendAttr(nil, &testAttr))
	f.Add([]byte{attrVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAttr(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if got := appendAttr(nil, &a); !bytes.Equal(got, b) {
			t.Fatalf("%x became %x", b, got)
		}
	})
}

func FuzzDentry(f *testing.F) {
	f.Add(appendDentry(nil, dentry{ino: 9, typ: TypeDir, cookie: 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeDentry(b)
		if err == nil && !bytes.Equal(appendDentry(nil, d), b) {
			t.Fatalf("%x became %x", b, appendDentry(nil, d))
		}
	})
}

// FuzzRecord feeds records to the check that stands before replay.
func FuzzRecord(f *testing.F) {
	good := testRecord(f)
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := checkRecord(1, b, minChunkSize); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

func TestStripeMask(t *testing.T) {
	for _, tt := range []struct {
		first, last ChunkIndex
		want        uint64
	}{
		{0, 0, 1},
		{15, 16, 3},
		{1000, 1000, 1 << (1000 / 16)},
		{63 * 16, 64 * 16, 1<<63 | 1},
		{0, 63 * 16, ^uint64(0)},
		{1, 1 << 40, ^uint64(0)},
		{62 * 16, 65*16 + 5, 1<<63 | 1<<62 | 3},
	} {
		if got := stripeMask(tt.first, tt.last); got != tt.want {
			t.Errorf("chunks %d to %d: %x, want %x", tt.first, tt.last, got, tt.want)
		}
	}
}
