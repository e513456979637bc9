package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"zerofs/test/versitygw"
)

// makeTree writes a tree of files of many sizes, all from a counter, and returns its sums.
func makeTree(t *testing.T, dir string, files int) map[string]string {
	t.Helper()
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprintf("d%02d", i%17))
		must(t, os.MkdirAll(sub, 0o755))
		seed := sha256.Sum256(fmt.Append(nil, i))
		data := bytes.Repeat(seed[:], 1+(i*i*37)%4000)
		must(t, os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%04d", i)), data[:len(data)-i%31], fs.FileMode(0o600|i%0o77)))
	}
	must(t, os.Symlink("d00/f0000", filepath.Join(dir, "link")))
	return sums(t, dir)
}

// storm writes and syncs files below dir until a write fails or stop is called, and tells how many
// files were synced.
func storm(dir string) (synced *atomic.Int64, stop func()) {
	synced = new(atomic.Int64)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := range int64(1 << 20) {
			select {
			case <-quit:
				return
			default:
			}
			if writeSynced(stormFile(dir, i), stormData(i)) != nil {
				return
			}
			synced.Store(i + 1)
		}
	}()
	return synced, func() { close(quit); <-done }
}

func stormFile(dir string, i int64) string { return filepath.Join(dir, fmt.Sprintf("synced-%d", i)) }

func stormData(i int64) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "file %d\n", i), 1+int(i*131)%3000)
}

// checkStorm checks that every file whose sync returned is there.
func checkStorm(t *testing.T, dir string, synced int64) {
	t.Helper()
	for i := range synced {
		got, err := os.ReadFile(stormFile(dir, i))
		if err != nil || !bytes.Equal(got, stormData(i)) {
			t.Errorf("synced file %d of %d: %v, %d bytes, want %d", i, synced, err, len(got), len(stormData(i)))
		}
	}
}

// TestFileSystems puts file systems on a volume in S3: a tree survives kill -9 in mid-write, an
// empty second host after a clean stop, and another after a takeover.
func TestFileSystems(t *testing.T) {
	needRoot(t, "mkfs.ext4", "e2fsck", "mkfs.xfs", "xfs_repair", "sync")
	gw := versitygw.Start(t)
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) { testFileSystem(t, kind, s3Store(gw, "", kind)) })
	}
}

func testFileSystem(t *testing.T, kind string, p place) {
	sized := settings{device: "512MiB", lease: "4s"}
	first := newHost(t, p, sized)
	s := first.start()
	d := first.attach()
	d.makeFS(kind)
	m := d.mountFS()
	tree := makeTree(t, m, 400)
	syncFS(t, m)

	// The server dies while files are written and synced.
	dir := filepath.Join(m, "storm")
	must(t, os.Mkdir(dir, 0o755))
	synced, stop := storm(dir)
	s.poll("synced files", func() bool { return synced.Load() >= 40 })
	s.kill()
	stop()
	d.drop()
	s = first.start()
	d = first.attach()
	m = d.mountFS()
	checkStorm(t, filepath.Join(m, "storm"), synced.Load())
	same(t, "after kill -9", sums(t, m), tree)
	want := sums(t, m)
	d.unmount()
	d.check(kind)
	d.detach()
	s.stop()

	// An empty host opens the bucket after the clean stop.
	sized.durability = "object"
	second := newHost(t, p, sized)
	s = second.start()
	d = second.attach()
	d.check(kind)
	m = d.mountFS()
	same(t, "on a second host", sums(t, m), want)

	// It dies in mid-write, for good. With durability object the third lacks nothing that was synced.
	dir = filepath.Join(m, "storm2")
	must(t, os.Mkdir(dir, 0o755))
	synced, stop = storm(dir)
	s.poll("synced files", func() bool { return synced.Load() >= 20 })
	s.kill()
	stop()
	d.drop()
	must(t, os.RemoveAll(second.nvme))
	third := newHost(t, p, sized)
	begun := time.Now()
	s = third.start()
	t.Logf("takeover took %s, %d files were synced", time.Since(begun).Round(time.Millisecond), synced.Load())
	d = third.attach()
	m = d.mountFS()
	checkStorm(t, filepath.Join(m, "storm2"), synced.Load())
	same(t, "after a takeover", sums(t, m), want)
	d.unmount()
	d.check(kind)
	d.detach()
	s.stop()
}
