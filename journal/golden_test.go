package journal

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zerofs/tiers/disk"
	"zerofs/tiers/disk/disktest"
)

var update = flag.Bool("update", false, "rewrite testdata")

// golden compares b with a file of testdata.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Fatalf("%s: %d bytes that differ from the %d of the format", path, len(b), len(want))
	}
}

func goldenPayload(lsn LSN) []byte {
	if lsn == 2 {
		return []byte(strings.Repeat("compresses well. ", 600))
	}
	return payload(lsn, 7, 100)
}

// goldenSegment returns the segment that a fixed key, salt and workload give.
func goldenSegment(t *testing.T) []byte {
	t.Helper()
	fs := disktest.New(disktest.Options{})
	j := openJournal(t, testOptions(fs, smallRing, 42))
	if err := j.Start(7, 0); err != nil {
		t.Fatal(err)
	}
	for lsn := range LSN(3) {
		mustSync(t, j, mustPut(t, j, goldenPayload(lsn+1)))
	}
	mustClose(t, j)
	f, err := fs.OpenDirect(segmentFiles(t, fs)[0], false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := disk.Alloc(5 * disk.Align)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGoldenSegment pins the format: a header, three runs, one of them compressed, and the mark.
func TestGoldenSegment(t *testing.T) {
	golden(t, "segment.golden", goldenSegment(t))
	stored, err := os.ReadFile(filepath.Join("testdata", "segment.golden"))
	if err != nil {
		t.Fatal(err)
	}
	fs := disktest.New(disktest.Options{})
	writeSegment(t, fs, 0, stored)
	recs, err := openAndReplay(fs, 1)
	if err != nil || len(recs) != 3 {
		t.Fatalf("%d records: %v", len(recs), err)
	}
	checkRecords(t, recs, 1, goldenPayload)
}

// writeSegment puts a segment's bytes on a disk, filled up with zeros to whole blocks.
func writeSegment(t testing.TB, fs *disktest.FS, index int, content []byte) {
	t.Helper()
	if err := fs.MkdirAll(testDir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := fs.OpenDirect(fs.PathJoin(testDir, segmentName(index)), true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := disk.Alloc(int(alignUp(int64(len(content)))))
	copy(b, content)
	if len(b) == 0 {
		return
	}
	if _, err := f.WriteAtSync(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
}

// TestGoldenBatches pins the format of a Ship's body, plain and compressed.
func TestGoldenBatches(t *testing.T) {
	fs := disktest.New(disktest.Options{})
	j := startJournal(t, testOptions(fs, smallRing, 42), 7)
	for lsn := range LSN(3) {
		mustSync(t, j, mustPut(t, j, goldenPayload(lsn+1)))
	}
	for _, c := range []struct {
		name string
		from LSN
	}{{"batches.golden", 3}, {"batches-s2.golden", 1}} {
		body, last, err := j.Batches(context.Background(), c.from, 1<<20)
		if err != nil || last != 3 {
			t.Fatalf("to %d: %v", last, err)
		}
		golden(t, c.name, body)
		next := c.from
		err = DecodeBatches(body, func(lsn LSN, p []byte) error {
			if lsn != next || !bytes.Equal(p, goldenPayload(lsn)) {
				t.Errorf("lsn %d, %d bytes", lsn, len(p))
			}
			next++
			return nil
		})
		if err != nil || next != 4 {
			t.Errorf("decoded to %d: %v", next, err)
		}
	}
	mustClose(t, j)
}
