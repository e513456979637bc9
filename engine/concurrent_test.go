package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/memory"
)

// TestReadersBesideWriters runs writers of whole and of partial chunks beside readers, with the real
// memory tier small enough to forget. Each chunk holds a version in all its words; a reader must see
// one version or an older with a newer beginning, never an older one than it saw completed before.
func TestReadersBesideWriters(t *testing.T) {
	ctx := context.Background()
	const chunks, rounds = 64, 300
	log := newFakeLog()
	opts := testOptions(vfs.NewMem(), log)
	opts.MemTableSize = 1 << 20
	tier, err := memory.New(1<<20, 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer tier.Close()
	opts.Memory = tier
	e := openEngine(t, opts, log)
	d := openDevice(t, e, "d", chunks*4096)
	var done [chunks]atomic.Uint32 // last version whose write completed
	var stop atomic.Bool
	var writers, readers sync.WaitGroup
	for g := range 4 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 6))
			for v := uint32(1); v <= rounds; v++ {
				i := rng.IntN(chunks/4)*4 + g // a chunk has one writer
				whole := fillVersion(v)
				if rng.IntN(3) == 0 { // in two parts
					if err := d.WriteAt(ctx, whole[:1024], int64(i)*4096, false); err != nil {
						t.Error(err)
					}
					whole = whole[1024:]
					if err := d.WriteAt(ctx, whole, int64(i)*4096+1024, false); err != nil {
						t.Error(err)
					}
				} else if err := d.WriteAt(ctx, whole, int64(i)*4096, false); err != nil {
					t.Error(err)
				}
				done[i].Store(v)
			}
		})
	}
	for g := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 7))
			p := make([]byte, 8*4096)
			for !stop.Load() {
				first := rng.IntN(chunks)
				n := 1 + rng.IntN(min(8, chunks-first))
				var before [8]uint32
				for k := range n {
					before[k] = done[first+k].Load()
				}
				if err := d.ReadAt(ctx, p[:n*4096], int64(first)*4096); err != nil {
					t.Error(err)
					return
				}
				for k := range n {
					checkVersion(t, first+k, p[k*4096:(k+1)*4096], before[k])
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	p := make([]byte, 4096)
	for i := range chunks {
		if err := d.ReadAt(ctx, p, int64(i)*4096); err != nil || !bytes.Equal(p, fillVersion(done[i].Load())) {
			t.Errorf("chunk %d does not hold version %d at the end, %v", i, done[i].Load(), err)
		}
	}
}

func fillVersion(v uint32) []byte {
	p := make([]byte, 4096)
	for i := 0; i < len(p); i += 4 {
		binary.LittleEndian.PutUint32(p[i:], v)
	}
	return p
}

func checkVersion(t *testing.T, chunk int, p []byte, atLeast uint32) {
	t.Helper()
	head, tail := binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[1024:])
	if head < tail || tail < atLeast ||
		!bytes.Equal(p[:1024], fillVersion(head)[:1024]) || !bytes.Equal(p[1024:], fillVersion(tail)[1024:]) {
		t.Errorf("chunk %d holds versions %d and %d, or garbage, after %d was written", chunk, head, tail, atLeast)
	}
}

// hookCache does something between the read of the tree and the fill that follows it.
type hookCache struct {
	*mapCache
	beforeFill func()
}

func (c *hookCache) Fill(tok memory.Token, inode, index uint64, chunk []byte) {
	if fn := c.beforeFill; fn != nil {
		c.beforeFill = nil
		fn()
	}
	c.mapCache.Fill(tok, inode, index, chunk)
}

// TestStaleFill changes a chunk after a reader read it from the tree and before the reader offers it to
// the memory tier. The next reader, and the next partial write, must build on the change.
func TestStaleFill(t *testing.T) {
	ctx := context.Background()
	const size = 1 << 20
	for name, change := range map[string]func(d *Device, want []byte) error{
		"whole": func(d *Device, want []byte) error {
			copy(want, bytes.Repeat([]byte{2}, 4096))
			return d.WriteAt(ctx, want[:4096], 0, false)
		},
		"part": func(d *Device, want []byte) error {
			want[5] = 2
			return d.WriteAt(ctx, want[5:6], 5, false)
		},
		"zero part": func(d *Device, want []byte) error { clear(want[7:100]); return d.Zero(ctx, 7, 93, false, false) },
		"trim":      func(d *Device, want []byte) error { clear(want[:8192]); return d.Trim(ctx, 0, 8192, false) },
		"trim long": func(d *Device, want []byte) error { clear(want); return d.Trim(ctx, 0, size, false) },
		"shrink": func(d *Device, want []byte) error {
			clear(want[512:])
			d.n.devices-- // as if it were a file
			defer func() { d.n.devices++ }()
			for _, n := range []uint64{512, size} {
				if _, _, err := d.e.SetAttr(ctx, nil, d.n.ino, SetAttr{Size: &n}); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		for _, length := range []int{512, 4096, 3 * 4096} {
			t.Run(name, func(t *testing.T) {
				log := newFakeLog()
				e := openEngine(t, testOptions(vfs.NewMem(), log), log)
				d := openDevice(t, e, "d", size)
				want := bytes.Repeat([]byte{1}, size)
				if err := d.WriteAt(ctx, want, 0, false); err != nil {
					t.Fatal(err)
				}
				cache := &hookCache{mapCache: newMapCache(nil)}
				cache.beforeFill = func() {
					if err := change(d, want); err != nil {
						t.Error(err)
					}
				}
				e.cache = cache
				if err := d.ReadAt(ctx, make([]byte, length), 0); err != nil {
					t.Fatal(err)
				}
				if cache.beforeFill != nil {
					t.Fatal("nothing was filled")
				}
				want[4000] = 9
				if err := d.WriteAt(ctx, want[4000:4001], 4000, false); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, size)
				for _, cache := range []chunkCache{cache, noCache{}} {
					e.cache = cache
					if err := d.ReadAt(ctx, got, 0); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%T: byte %d differs, %v", cache, diff(got, want), err)
					}
				}
			})
		}
	}
}
