package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/s2"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
)

// FuzzSegment opens and replays whatever bytes a segment holds.
func FuzzSegment(f *testing.F) {
	good, err := os.ReadFile(filepath.Join("testdata", "segment.golden"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, uint64(1))
	f.Add(good[:2*disk.Align], uint64(1))
	f.Add(bytes.Repeat([]byte(runMagic), 2000), uint64(0))
	f.Fuzz(func(t *testing.T, content []byte, from uint64) {
		if len(content) > 1<<18 {
			return
		}
		fs := disktest.New(disktest.Options{})
		writeSegment(t, fs, 3, content)
		j, err := Open(context.Background(), testOptions(fs, smallRing, 1))
		if err != nil {
			return
		}
		next := max(from, 1)
		_ = j.Replay(context.Background(), LSN(from), 0, func(lsn LSN, p []byte) error {
			if uint64(lsn) != next || !bytes.Equal(p, goldenPayload(lsn)) {
				t.Fatalf("replayed lsn %d of %d bytes", lsn, len(p))
			}
			next++
			return nil
		})
		if err := j.Start(9, LSN(from)); err == nil {
			mustSync(t, j, mustPut(t, j, content[:min(len(content), j.MaxRecord())]))
		}
		_ = j.Close(context.Background())
	})
}

// FuzzRun seals whatever header and records the fuzzer makes, so that they authenticate, and reads
// them: what a bug of ours, and not a disk, could leave.
func FuzzRun(f *testing.F) {
	f.Add([]byte{}, []byte{1, 0, 0, 0, 7})
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0}, s2.Encode(nil, bytes.Repeat([]byte{0}, 500)))
	f.Fuzz(func(t *testing.T, fields, records []byte) {
		if len(records) > 20000 {
			return
		}
		keys := newKeyring(testKey())
		h := runHeader{first: 1, count: 1, raw: uint32(len(records)), stored: uint32(len(records)), block: 1, durable: 1}
		if len(fields) >= 20 {
			h.flags = binary.LittleEndian.Uint16(fields)
			h.count = binary.LittleEndian.Uint32(fields[4:])
			h.raw = binary.LittleEndian.Uint32(fields[8:])
			h.first = LSN(binary.LittleEndian.Uint64(fields[12:]))
		}
		aead, err := keys.aead(h.salt)
		if err != nil {
			t.Fatal(err)
		}
		seg := make([]byte, disk.Align, disk.Align+h.size())
		(&segmentHeader{}).encode(seg, aead)
		run := make([]byte, h.size())
		h.encode(run)
		n := h.nonce()
		aead.Seal(run[runHdrSize:runHdrSize], n[:], records, run[:runHdrSize])

		fs := disktest.New(disktest.Options{})
		writeSegment(t, fs, 0, append(seg, run...))
		j, err := Open(context.Background(), testOptions(fs, smallRing, 1))
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close(context.Background())
		err = j.Replay(context.Background(), h.first, 0, func(LSN, []byte) error { return nil })
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// FuzzDecodeBatches: what decodes encodes to a body that decodes to the same.
func FuzzDecodeBatches(f *testing.F) {
	for _, name := range []string{"batches.golden", "batches-s2.golden"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) >= bodyHdrSize && binary.LittleEndian.Uint32(body[16:]) > 1<<24 {
			return // right, but slow
		}
		again := bodyBuilder{most: bodyRawMax}
		err := DecodeBatches(body, func(lsn LSN, p []byte) error {
			if again.count == 0 {
				again.first = lsn
			}
			return again.add(lsn, p)
		})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, errStop) {
				t.Fatal(err)
			}
			return
		}
		n := again.first
		err = DecodeBatches(again.body(), func(lsn LSN, p []byte) error {
			if lsn != n {
				t.Fatalf("lsn %d, want %d", lsn, n)
			}
			n++
			return nil
		})
		if err != nil || n != again.next() {
			t.Fatalf("to %d of %d: %v", n, again.next(), err)
		}
	})
}
