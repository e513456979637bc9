package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestDeviceModel runs random operations on a device and on a slice of bytes, with and without a
// memory tier, through flushes and reopens.
func TestDeviceModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newDeviceModel(t, seed)
			for range 400 {
				m.step()
			}
			m.check()
		})
	}
}

type deviceModel struct {
	t    *testing.T
	rng  *rand.Rand
	fs   vfs.FS
	log  *fakeLog
	e    *Engine
	d    *Device
	want []byte
}

const modelSize = 600 << 10 // more than deletesMax chunks

func newDeviceModel(t *testing.T, seed uint64) *deviceModel {
	m := &deviceModel{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewMem(), log: newFakeLog(), want: make([]byte, modelSize)}
	m.open()
	return m
}

func (m *deviceModel) open() {
	m.t.Helper()
	e, err := openStarted(testOptions(m.fs, m.log), m.log)
	if err != nil {
		m.t.Fatal(err)
	}
	m.e = e
	if m.rng.IntN(3) > 0 {
		e.cache = newMapCache(func() bool { return m.rng.IntN(3) == 0 })
	}
	m.d = openDevice(m.t, e, "d", modelSize)
}

func (m *deviceModel) close() {
	m.t.Helper()
	m.d.Close()
	if err := m.e.Close(); err != nil {
		m.t.Fatal(err)
	}
	if m.log.reserved != 0 {
		m.t.Fatalf("%d bytes of the log are still reserved", m.log.reserved)
	}
}

// extent draws a range: sectors, chunks, odd edges, long and short.
func (m *deviceModel) extent() (off, n int64) {
	limit := []int{512, 4096, 16 << 10, 100 << 10, modelSize}[m.rng.IntN(5)]
	off, n = m.rng.Int64N(modelSize), 1+m.rng.Int64N(int64(limit))
	switch m.rng.IntN(3) {
	case 0:
		off, n = off&^4095, (n+4095)&^4095
	case 1:
		off, n = off&^511, (n+511)&^511
	}
	return off, min(n, modelSize-off)
}

func (m *deviceModel) step() {
	m.t.Helper()
	ctx := context.Background()
	off, n := m.extent()
	var err error
	switch k := m.rng.IntN(100); {
	case k < 45:
		p := m.data(int(n))
		copy(m.want[off:], p)
		err = m.d.WriteAt(ctx, p, off, m.rng.IntN(4) == 0)
	case k < 75:
		p := make([]byte, n)
		if err = m.d.ReadAt(ctx, p, off); err == nil && !bytes.Equal(p, m.want[off:off+n]) {
			m.t.Fatalf("read of %d bytes at %d differs at %d", n, off, diff(p, m.want[off:off+n]))
		}
	case k < 82:
		clear(m.want[off : off+n])
		err = m.d.Zero(ctx, off, n, m.rng.IntN(2) == 0, false)
	case k < 89:
		clear(m.want[off : off+n])
		err = m.d.Trim(ctx, off, n, false)
	case k < 92:
		err = m.extents(off, n)
	case k < 96:
		var done <-chan struct{}
		if done, err = m.e.Flush(); err == nil {
			<-done
		}
	case k < 97:
		err = m.e.db.Compact(ctx, []byte{0}, []byte{0xff}, false)
	case k < 98:
		err = m.d.Flush(ctx)
	default:
		m.close()
		m.open()
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// data draws bytes: random, zeros, or both.
func (m *deviceModel) data(n int) []byte {
	p := make([]byte, n)
	for i := 0; i < n; {
		k := min(n-i, 1+m.rng.IntN(6000))
		if m.rng.IntN(3) > 0 {
			for j := range k {
				p[i+j] = byte(m.rng.Uint32())
			}
		}
		i += k
	}
	return p
}

// extents checks that every hole is zeros, that runs alternate and that they add up to the range.
func (m *deviceModel) extents(off, n int64) error {
	pos, last, first := off, false, true
	err := m.d.Extents(context.Background(), off, n, func(k int64, hole bool) bool {
		if hole && trimZeros(m.want[pos:pos+k]) != 0 {
			m.t.Fatalf("hole of %d bytes at %d holds data", k, pos)
		}
		if k <= 0 || !first && hole == last {
			m.t.Fatalf("run of %d bytes at %d is not maximal", k, pos)
		}
		pos, last, first = pos+k, hole, false
		return true
	})
	if err == nil && pos != off+n {
		m.t.Fatalf("extents of %d bytes at %d end at %d", n, off, pos)
	}
	return err
}

func (m *deviceModel) check() {
	m.t.Helper()
	p := make([]byte, modelSize)
	if err := m.d.ReadAt(context.Background(), p, 0); err != nil {
		m.t.Fatal(err)
	}
	if !bytes.Equal(p, m.want) {
		m.t.Fatalf("device differs at %d", diff(p, m.want))
	}
	m.close()
}

func diff(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

func TestDeviceSizes(t *testing.T) {
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	ctx := context.Background()
	d := openDevice(t, e, "vol", 1<<20)
	if err := d.WriteAt(ctx, []byte("abc"), 1<<20-3, false); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		size int64
		want error
	}{
		{"vol", 1 << 20, nil},
		{"vol", 2 << 20, nil},
		{"vol", 1 << 20, ErrSmaller},
		{"vol", 2<<20 + 1, fs.ErrInvalid},
		{"odd", 0, fs.ErrInvalid},
		{"a/b", 512, fs.ErrInvalid},
		{"big", 100 << 30, nil},
	} {
		if err := e.EnsureDevice(ctx, tt.name, tt.size); !errors.Is(err, tt.want) {
			t.Errorf("ensure %q of %d bytes: %v, want %v", tt.name, tt.size, err, tt.want)
		}
	}
	if got := d.Size(); got != 2<<20 {
		t.Errorf("open device has %d bytes after it grew", got)
	}
	devices, err := e.Devices(ctx)
	if err != nil || fmt.Sprint(devices) != "[big vol]" {
		t.Errorf("devices: %v, %v", devices, err)
	}
	if _, err := e.Device(ctx, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open of no device: %v", err)
	}
	for _, r := range [][2]int64{{-1, 1}, {2 << 20, 1}, {1<<63 - 1, 10}, {0, 2<<20 + 1}, {5, -1}} {
		if err := d.check("test", r[0], r[1]); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("range %v: %v", r, err)
		}
	}
}
