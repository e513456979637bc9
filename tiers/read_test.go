package tiers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/fence"
	"zerofs/tiers/nvme"
	"zerofs/tiers/object/objecttest"
	"zerofs/tiers/seal"
)

// cold returns a host that has the files of another in the bucket only.
func cold(t *testing.T, files map[string][]byte) *host {
	t.Helper()
	h := opened(t)
	for name, data := range files {
		writeFile(t, h.fs, name, data)
	}
	writeBack(t, h.fs, 1)
	h.mustClose(t)
	o := h.other()
	o.mustOpen(t, true)
	return o
}

func mustOpenFile(t *testing.T, h *host, name string, opts ...vfs.OpenOption) vfs.File {
	t.Helper()
	f, err := h.fs.Open(name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantRange(t *testing.T, f vfs.File, data []byte, off, n int) {
	t.Helper()
	p := make([]byte, n)
	if _, err := f.ReadAt(p, int64(off)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p, data[off:off+n]) {
		t.Fatalf("%d bytes at %d are wrong", n, off)
	}
}

// A small cold read costs one GET of at most 256 KiB, however many want it, and none once it came.
func TestColdReadsShareOneGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := pattern(1, 4<<20)
		h := cold(t, map[string][]byte{"000001.blob": data})
		h.store.SetFaults(objecttest.Faults{LatencyMin: 20 * time.Millisecond, LatencyMax: 20 * time.Millisecond})
		f := mustOpenFile(t, h, "000001.blob", vfs.RandomReadsOption)
		synctest.Wait()
		time.Sleep(time.Second) // the end of the file comes
		if c := h.store.Counts(); c.Get == 0 || c.BytesGot > 640<<10 {
			t.Fatalf("opening cost %d GETs of %d bytes", c.Get, c.BytesGot)
		}
		h.store.ResetCounts()
		wantRange(t, f, data, len(data)-300_000, 300_000)
		if c := h.store.Counts(); c.Get != 0 {
			t.Fatalf("the prefetched end cost %d GETs", c.Get)
		}
		for _, off := range []int{1_000_000, 2_000_000, 500_000} {
			h.store.ResetCounts()
			start := time.Now()
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() { wantRange(t, f, data, off, 4096) })
			}
			all.Wait()
			if c := h.store.Counts(); c.Get != 1 || c.BytesGot > 256<<10 {
				t.Fatalf("a cold read cost %d GETs of %d bytes", c.Get, c.BytesGot)
			}
			if d := time.Since(start); d > 21*time.Millisecond {
				t.Fatalf("a cold read took %v", d)
			}
			wantRange(t, f, data, off+4096, 4096)
			if c := h.store.Counts(); c.Get != 1 {
				t.Fatalf("the read beside it cost %d GETs more", c.Get-1)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		h.mustClose(t)
	})
}

// pipe makes a store as slow as one that takes 20 ms per request and moves 300 MB/s in all.
type pipe struct {
	mu   sync.Mutex
	free time.Time // when the bytes asked for so far have come
}

const (
	pipeLatency = 20 * time.Millisecond
	pipeRate    = 300e6 // bytes per second
)

func (p *pipe) wait(ctx context.Context, r objecttest.Request) error {
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now.Add(pipeLatency)) {
		p.free = now.Add(pipeLatency)
	}
	p.free = p.free.Add(time.Duration(float64(r.Size) / pipeRate * 1e9))
	until := p.free
	p.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rawTime is how long n bytes take in ranges of 1 MiB, 16 at once.
func rawTime(n int) time.Duration {
	return pipeLatency + time.Duration(float64(n)/pipeRate*1e9)
}

// Sequential readers, of either kind, get nearly what the store gives raw, once they are known.
func TestColdSequentialReads(t *testing.T) {
	for _, readers := range []int{1, 3} {
		for _, stream := range []bool{false, true} {
			for _, block := range []int{32 << 10, 1 << 20} {
				if testing.Short() && (readers > 1 || stream) {
					continue
				}
				t.Run(fmt.Sprintf("readers=%d,stream=%v,block=%d", readers, stream, block), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { sequential(t, readers, stream, block) })
				})
			}
		}
	}
}

func sequential(t *testing.T, readers int, stream bool, block int) {
	const size = 64 << 20
	data := pattern(1, size)
	h := cold(t, map[string][]byte{"000001.blob": data})
	p := &pipe{}
	h.store.SetBefore(p.wait)
	var opts []vfs.OpenOption
	if stream {
		opts = append(opts, vfs.SequentialReadsOption)
	}
	f := mustOpenFile(t, h, "000001.blob", opts...)
	start := time.Now()
	var all sync.WaitGroup
	for i := range readers {
		all.Go(func() {
			for off := i * size / readers; off < (i+1)*size/readers; off += block {
				wantRange(t, f, data, off, min(block, (i+1)*size/readers-off))
			}
		})
	}
	all.Wait()
	took, raw := time.Since(start), rawTime(size)
	t.Logf("%d MiB in %v, raw %v: %.2f", size>>20, took, raw, float64(raw)/float64(took))
	if float64(raw) < 0.75*float64(took) { // the first 60 ms, of a file this small, cost 0.2
		t.Errorf("%v, raw %v", took, raw)
	}
	if c := h.store.Counts(); c.BytesGot > int64(size)+int64(size)/10 {
		t.Errorf("%d bytes fetched for %d", c.BytesGot, size)
	}
	if u := h.nvme.Usage(); stream && u.Parts > 1<<20 {
		t.Errorf("a stream left %d bytes in the part cache", u.Parts)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	h.mustClose(t)
}

// Reads of any range give what was written, from wherever the bytes are at the moment.
func TestReadsFromEverywhere(t *testing.T) {
	sizes := []int{0, 1, seal.FrameData - 1, seal.FrameData, seal.FrameData + 1,
		nvme.PartFrames * seal.FrameData, nvme.PartFrames*seal.FrameData + 1, 1_000_000}
	files := map[string][]byte{}
	for i, n := range sizes {
		files[fmt.Sprintf("%06d.sst", i)] = pattern(uint64(i), n)
	}
	h := cold(t, files)
	rng := rand.New(rand.NewPCG(1, 2))
	for pass := range 3 { // cold, from memory, and from the part cache
		for name, data := range files {
			f := mustOpenFile(t, h, name)
			for range 30 {
				off, n := rng.IntN(len(data)+10), rng.IntN(len(data)+10)
				p := make([]byte, n)
				got, err := f.ReadAt(p, int64(off))
				want := data[min(off, len(data)):min(off+n, len(data))]
				if !bytes.Equal(p[:got], want) || (got < n) != errors.Is(err, io.EOF) || err != nil && got == n {
					t.Fatalf("pass %d: %s: %d bytes at %d: got %d, %v", pass, name, n, off, got, err)
				}
			}
			wantFile(t, h.fs, name, data)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if pass == 1 {
			h.mustClose(t)
			h.store = h.store.Bucket().Connect(2)
			h.mustOpen(t, false)
		}
	}
	h.mustClose(t)
}

// Damage of a clean copy or a cached part costs a GET; that of an object, or of a dirty file, is
// an error that names it.
func TestDamage(t *testing.T) {
	data := pattern(1, 600_000)
	object := func(h *host) string { return h.log.State().Tables["000001.sst"].Object }

	t.Run("clean copy", func(t *testing.T) {
		h := opened(t)
		writeFile(t, h.fs, "000001.sst", data)
		writeBack(t, h.fs, 1)
		damageAll(t, h, "/data/nvme/tables")
		wantFile(t, h.fs, "000001.sst", data)
		if len(h.nvme.Local()) != 0 {
			t.Error("the bad copy was kept")
		}
		h.mustClose(t)
	})
	t.Run("dirty file", func(t *testing.T) {
		h := opened(t)
		writeFile(t, h.fs, "000001.sst", data)
		damageAll(t, h, "/data/nvme/tables")
		_, err := readFile(h.fs, "000001.sst")
		if !errors.Is(err, seal.ErrCorrupt) || !strings.Contains(err.Error(), "000001.sst") {
			t.Errorf("err = %v", err)
		}
		h.mustClose(t)
	})
	t.Run("cached part", func(t *testing.T) {
		h := cold(t, map[string][]byte{"000001.sst": data})
		wantFile(t, h.fs, "000001.sst", data)
		h.mustClose(t)
		h.store = h.store.Bucket().Connect(2)
		h.mustOpen(t, false)
		damageAll(t, h, "/data/nvme/parts.slab")
		wantFile(t, h.fs, "000001.sst", data)
		if h.store.Counts().Get == 0 {
			t.Error("no part was fetched")
		}
		h.mustClose(t)
	})
	for _, at := range []int{seal.HeaderSize, seal.HeaderSize + 300_000} {
		t.Run(fmt.Sprintf("object at %d", at), func(t *testing.T) {
			h := cold(t, map[string][]byte{"000001.sst": data})
			h.store.Bucket().Flip(object(h), at, 1)
			_, err := readFile(h.fs, "000001.sst")
			if !errors.Is(err, seal.ErrCorrupt) || !strings.Contains(err.Error(), object(h)) {
				t.Errorf("err = %v", err)
			}
			h.mustClose(t)
		})
	}
	t.Run("short object", func(t *testing.T) {
		h := cold(t, map[string][]byte{"000001.sst": data})
		stored, _ := h.store.Bucket().Object(object(h))
		h.store.Bucket().Set(object(h), stored[:len(stored)-1])
		_, err := readFile(h.fs, "000001.sst")
		if !errors.Is(err, seal.ErrCorrupt) || !strings.Contains(err.Error(), object(h)) {
			t.Errorf("err = %v", err)
		}
		h.mustClose(t)
	})
	t.Run("missing object", func(t *testing.T) {
		h := cold(t, map[string][]byte{"000001.sst": data})
		h.store.Bucket().Remove(object(h))
		_, err := readFile(h.fs, "000001.sst")
		if err == nil || !strings.Contains(err.Error(), object(h)) {
			t.Errorf("err = %v", err)
		}
		h.mustClose(t)
	})
	t.Run("missing dirty copy", func(t *testing.T) {
		h := opened(t)
		writeFile(t, h.fs, "000001.sst", data)
		h.mustClose(t)
		for _, path := range h.disk.Files("/data/nvme/tables") {
			if err := h.disk.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.open(false); !errors.Is(err, seal.ErrCorrupt) || !strings.Contains(err.Error(), "000001.sst") {
			t.Errorf("err = %v", err)
		}
	})
}

// damageAll flips a bit in each sector of the files below a path.
func damageAll(t *testing.T, h *host, path string) {
	t.Helper()
	n := 0
	for _, name := range h.disk.Files("/data/nvme") {
		if !strings.HasPrefix(name, path) {
			continue
		}
		data, err := h.disk.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for off := seal.HeaderSize + 100; off < len(data); off += 4096 {
			if err := h.disk.Damage(name, int64(off), 4); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	if n == 0 {
		t.Fatalf("there is nothing below %s", path)
	}
}

// Any bit of the directory's own files that flips is an error that names the file, or changes nothing.
func TestFlipsInTheDirectory(t *testing.T) {
	h := opened(t)
	m, err := h.fs.Create("MANIFEST-000001", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		writeFile(t, h.fs, fmt.Sprintf("%06d.sst", i), pattern(uint64(i), 100))
		if _, err := m.Write(pattern(9, 100)); err != nil {
			t.Fatal(err)
		}
		if err := m.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, h.fs, "marker.manifest.000001.MANIFEST-000001", nil)
	writeBack(t, h.fs, 1)
	writeFile(t, h.fs, "000007.sst", pattern(7, 100))
	h.mustClose(t)
	names := func(h *host) string {
		list, _ := h.fs.List("")
		data, _ := readFile(h.fs, "MANIFEST-000001")
		return fmt.Sprintf("%d names, %x", len(list), data)
	}
	clean := h.crashed(1)
	clean.mustOpen(t, false)
	want := names(clean)
	clean.mustClose(t)
	step := 7
	if testing.Short() {
		step = 41
	}
	for _, path := range h.disk.Files("/data/tree") {
		data, err := h.disk.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for off := 0; off < len(data); off += step {
			c := h.crashed(1)
			if err := c.disk.Damage(path, int64(off), 0x10); err != nil {
				t.Fatal(err)
			}
			if err := c.open(false); err != nil {
				if !errors.Is(err, seal.ErrCorrupt) || !strings.Contains(err.Error(), "/data/tree") {
					t.Fatalf("%s at %d: %v", path, off, err)
				}
				continue
			}
			if got := names(c); got != want {
				t.Fatalf("%s at %d: %s, want %s", path, off, got, want)
			}
			c.mustClose(t)
		}
	}
}

// What lies beyond the NVMe tier's budget is evicted, and read from the bucket again.
func TestBudget(t *testing.T) {
	h := newHost(objecttest.NewBucket(nil), newFakeLog())
	h.size = nvme.SizeMin * 2
	h.mustOpen(t, false)
	files := map[string][]byte{}
	for i := range 24 {
		name := fmt.Sprintf("%06d.sst", i)
		files[name] = pattern(uint64(i), 1<<20)
		writeFile(t, h.fs, name, files[name])
		writeBack(t, h.fs, 1)
		if used := h.disk.Used(); used > h.size+1<<20 {
			t.Fatalf("%d bytes on disk, budget %d", used, h.size)
		}
	}
	for name, data := range files {
		wantFile(t, h.fs, name, data)
	}
	if used := h.disk.Used(); used > h.size+1<<20 {
		t.Fatalf("%d bytes on disk, budget %d", used, h.size)
	}
	h.mustClose(t)
}

// An empty host has tens of thousands of table files after one fsync of a map.
func TestMaterialiseMany(t *testing.T) {
	log := newFakeLog()
	for i := range 30_000 {
		name := fmt.Sprintf("%06d.sst", i)
		log.state.Tables[name] = fence.Table{Name: name, Object: fmt.Sprintf("files/%016x-%032x.sst", 1, i), Size: 1 << 20, ID: seal.FileID{byte(i), byte(i >> 8)}}
	}
	log.state.Meta["MANIFEST-000001"] = pattern(1, 4<<20)
	h := newHost(objecttest.NewBucket(nil), log)
	start := time.Now()
	h.mustOpen(t, true)
	t.Logf("materialised and opened in %v", time.Since(start))
	if n := h.fs.Usage().Tables; n != 30_000 {
		t.Fatalf("%d tables", n)
	}
	if h.fs.Changed() {
		t.Fatal("the tree differs from what was materialised")
	}
	h.mustClose(t)
}
