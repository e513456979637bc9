package memory

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func newTier(t testing.TB, size int64, chunk int) *Tier {
	t.Helper()
	tier, err := New(size, chunk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tier.Close() })
	return tier
}

// chunkOf is a chunk that says which one it is, and which version.
func chunkOf(size int, inode, index, version uint64) []byte {
	c := make([]byte, size)
	for _, at := range []int{0, size/2 - 12, size - 24} { // torn chunks show
		binary.LittleEndian.PutUint64(c[at:], inode)
		binary.LittleEndian.PutUint64(c[at+8:], index)
		binary.LittleEndian.PutUint64(c[at+16:], version)
	}
	return c
}

func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct {
		size  int64
		chunk int
	}{{-1, 4096}, {1 << 20, 0}, {1 << 20, 4095}, {1 << 20, 6000}, {1 << 20, 2048}, {1 << 20, 131072}, {1 << 20, -4096}} {
		if _, err := New(tc.size, tc.chunk); err == nil {
			t.Errorf("New(%d, %d) works", tc.size, tc.chunk)
		}
	}
}

func TestBasics(t *testing.T) {
	for _, size := range []int64{1 << 20, 2 << 20, 5 << 20, 64 << 20} {
		for _, n := range []int{4096, 16384, 65536} {
			t.Run(fmt.Sprintf("%dMiB/%d", size>>20, n), func(t *testing.T) {
				tier := newTier(t, size, n)
				want := chunkOf(n, 1, 2, 3)
				if _, ok := tier.Get(nil, 1, 2); ok {
					t.Fatal("something is there")
				}
				tier.Fill(tier.BeginFill(1, 2), 1, 2, want)
				got, ok := tier.Get([]byte("before"), 1, 2)
				if !ok || string(got[:6]) != "before" || !bytes.Equal(got[6:], want) {
					t.Fatalf("%v, %d bytes", ok, len(got))
				}
				tier.Write(1, 2, nil)
				if got, ok := tier.Get([]byte("x"), 1, 2); !ok || string(got) != "x" {
					t.Fatalf("empty chunk: %v, %q", ok, got)
				}
				tier.Write(1, 2, want)
				if got, ok := tier.Get(nil, 1, 2); !ok || !bytes.Equal(got, want) {
					t.Fatalf("written chunk: %v", ok)
				}
				tier.Write(1, 2, want[:100])
				if _, ok := tier.Get(nil, 1, 2); ok {
					t.Fatal("a chunk that does not fit left the old one there")
				}
				tier.Write(1, 2, want)
				tier.Write(1, 2, append(want, 1))
				if _, ok := tier.Get(nil, 1, 2); ok {
					t.Fatal("a chunk that is too long left the old one there")
				}
				if s := tier.Stats(); s.Hits != 3 || s.Misses != 3 || s.Fills != 1 || s.FillsLost != 0 {
					t.Fatalf("%+v", s)
				}
			})
		}
	}
}

func TestZeroSizeAndClosed(t *testing.T) {
	closed, err := New(4<<20, 4096)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	closed.Close()
	for _, tier := range []*Tier{newTier(t, 0, 4096), newTier(t, 1<<20-1, 4096), closed} {
		c := make([]byte, 4096)
		tier.Fill(tier.BeginFill(1, 1), 1, 1, c)
		tier.Write(1, 1, c)
		tier.Invalidate(1, 0, 1<<40)
		if _, ok := tier.Get(nil, 1, 1); ok {
			t.Error("it holds something")
		}
		if s := tier.Stats(); s != (Stats{}) {
			t.Errorf("%+v", s)
		}
	}
}

// A fill that began before a write, or before an invalidation in whatever way it is done, is lost.
func TestFillLoses(t *testing.T) {
	const far = 1 << 60
	for name, change := range map[string]func(*Tier){
		"write":            func(m *Tier) { m.Write(7, 5000, make([]byte, 4096)) },
		"invalidate one":   func(m *Tier) { m.Invalidate(7, 5000, 5000) },
		"invalidate few":   func(m *Tier) { m.Invalidate(7, 4900, 5100) },
		"invalidate more":  func(m *Tier) { m.Invalidate(7, 4900, 9000) },
		"invalidate edge":  func(m *Tier) { m.Invalidate(7, 0, 5000) },
		"invalidate start": func(m *Tier) { m.Invalidate(7, 5000, 1<<21) },
		"invalidate all":   func(m *Tier) { m.Invalidate(7, 0, far) },
		"invalidate end":   func(m *Tier) { m.Invalidate(7, 0, 1<<64-1) },
	} {
		m := newTier(t, 8<<20, 4096)
		old := chunkOf(4096, 7, 5000, 1)
		early := m.BeginFill(7, 5000)
		m.Fill(early, 7, 5000, old)
		if _, ok := m.Get(nil, 7, 5000); !ok {
			t.Fatalf("%s: not filled", name)
		}
		change(m)
		if got, ok := m.Get(nil, 7, 5000); ok && bytes.Equal(got, old) {
			t.Errorf("%s: the old chunk is there", name)
		}
		m.Invalidate(7, 5000, 5000)
		early = m.BeginFill(7, 5000)
		change(m)
		m.Fill(early, 7, 5000, old)
		if got, ok := m.Get(nil, 7, 5000); ok && bytes.Equal(got, old) {
			t.Errorf("%s: the old chunk came back", name)
		}
		m.Fill(m.BeginFill(7, 5000), 7, 5000, old)
		if got, ok := m.Get(nil, 7, 5000); !ok || !bytes.Equal(got, old) {
			t.Errorf("%s: no fill works afterwards", name)
		}
	}
}

// What fell out of a cache is not put back if its region was invalidated, however late that shows.
func TestPutBackLosesAgainstInvalidate(t *testing.T) {
	m := newTier(t, 8<<20, 4096)
	h := m.held.Load()
	old := chunkOf(4096, 1, 5, 1)
	fallOut := func() {
		region := h.regions.of(1, 5).Load()
		h.fallen = append(h.fallen[:0], fallen{at: m.clock.Load() + 1, inode: 1, index: 5, region: region, entry: old})
		h.waiting.Store(true)
	}
	fallOut()
	h.putBack()
	if got, ok := m.Get(nil, 1, 5); !ok || !bytes.Equal(got, old) {
		t.Fatal("not put back")
	}
	fallOut() // after the invalidation took its time, before it stored it
	m.Invalidate(1, 0, 10_000)
	h.putBack()
	if _, ok := m.Get(nil, 1, 5); ok {
		t.Fatal("put back after it was invalidated")
	}
}

// Times of a region only grow.
func TestRaise(t *testing.T) {
	var r atomic.Uint64
	raise(&r, 6)
	raise(&r, 5)
	if r.Load() != 6 {
		t.Fatal(r.Load())
	}
}

// Neighbours of a short range stay.
func TestInvalidateIsExactWhenShort(t *testing.T) {
	m := newTier(t, 16<<20, 4096)
	for i := range uint64(20) {
		m.Fill(m.BeginFill(1, i), 1, i, chunkOf(4096, 1, i, 0))
		m.Fill(m.BeginFill(2, i), 2, i, chunkOf(4096, 2, i, 0))
	}
	m.Invalidate(1, 5, 9)
	m.Invalidate(1, 3, 2)
	for i := range uint64(20) {
		_, one := m.Get(nil, 1, i)
		_, two := m.Get(nil, 2, i)
		if one != (i < 5 || i > 9) || !two {
			t.Errorf("chunk %d: %v, %v", i, one, two)
		}
	}
}

// model is a tree of versions: what the tier must never be older than.
type model struct {
	locks    [64]sync.Mutex
	versions [64]atomic.Uint64
}

// Readers, fillers, writers and invalidators at once over few chunks and a cache that overflows:
// a Get that begins after a Write returned never gives an older version, nor one of the future.
func TestNeverStale(t *testing.T) {
	for _, size := range []int64{1 << 20, 3 << 20} {
		m := newTier(t, size, 4096)
		tree := &model{}
		var workers sync.WaitGroup
		var stale atomic.Int64
		steps := 8000
		if testing.Short() {
			steps = 2000
		}
		for seed := range uint64(8) {
			workers.Go(func() {
				r := rand.New(rand.NewPCG(seed, 99))
				for range steps {
					tree.step(m, r, &stale)
				}
			})
		}
		workers.Wait()
		if n := stale.Load(); n > 0 {
			t.Errorf("size %d: %d stale reads", size, n)
		}
		s := m.Stats()
		t.Logf("size %d: %+v", size, s)
		if s.Hits == 0 || s.Misses == 0 || s.FillsLost == 0 {
			t.Errorf("the test does not reach everything: %+v", s)
		}
	}
}

func (tree *model) step(m *Tier, r *rand.Rand, stale *atomic.Int64) {
	i := r.Uint64N(uint64(len(tree.versions)))
	switch r.IntN(20) {
	case 0, 1, 2: // a write
		tree.locks[i].Lock()
		v := tree.versions[i].Add(1)
		m.Write(1, i, chunkOf(4096, 1, i, v))
		tree.locks[i].Unlock()
	case 3: // a short trim, now and then
		if r.IntN(4) > 0 {
			return
		}
		tree.locks[i].Lock()
		tree.versions[i].Add(1)
		m.Invalidate(1, i, i)
		tree.locks[i].Unlock()
	case 4: // a long one, more rarely, or one of everything
		if r.IntN(50) > 0 {
			return
		}
		tree.locks[i].Lock()
		tree.versions[i].Add(1)
		last := i + 1000
		if r.IntN(20) == 0 {
			last = 1 << 62
		}
		m.Invalidate(1, i, last)
		tree.locks[i].Unlock()
	case 5, 6: // other chunks push these out
		j := 1000 + r.Uint64N(2000)
		m.Fill(m.BeginFill(2, j), 2, j, chunkOf(4096, 2, j, 0))
	case 7, 8, 9: // a fill, with time between read and insert
		tok := m.BeginFill(1, i)
		v := tree.versions[i].Load()
		for range r.IntN(3) {
			runtime.Gosched()
		}
		m.Fill(tok, 1, i, chunkOf(4096, 1, i, v))
	default:
		// A write that moved the version may not have reached the tier yet: its lock is held.
		tree.locks[i].Lock()
		least := tree.versions[i].Load()
		tree.locks[i].Unlock()
		if got, ok := m.Get(nil, 1, i); ok && !tree.fits(got, i, least) {
			stale.Add(1)
		}
	}
}

func (tree *model) fits(got []byte, i, least uint64) bool {
	if len(got) != 4096 {
		return false
	}
	v := binary.LittleEndian.Uint64(got[16:])
	return v >= least && v <= tree.versions[i].Load() && bytes.Equal(got, chunkOf(4096, 1, i, v))
}
