package volume

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zerofs/fence"
	"zerofs/journal"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
	"zerofs/tiers/seal"
)

// The device that the worlds' hosts write, and its volume. All is small, so that flushes,
// compactions, rounds and ring laps come often.
const (
	chunk      = 4 << 10
	deviceSize = 64 * chunk
	deviceName = "disk"
)

var (
	worldKey    = seal.NewKey([32]byte{1, 2, 3}, seal.ChaCha20Poly1305)
	worldVolume = &seal.Volume{ID: seal.VolumeID{9}, Format: 1, ChunkSize: chunk, Cipher: seal.ChaCha20Poly1305, Compression: "none", Key: worldKey}
)

// random is a stream of random bytes from a seed, for many goroutines.
type random struct {
	mu  sync.Mutex
	src *rand.ChaCha8
}

func newRandom(seed uint64) *random {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return &random{src: rand.NewChaCha8(key)}
}

func (r *random) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src.Read(p)
}

var _ io.Reader = (*random)(nil)

// host is one machine: its disk, which boot of it this is, and its connection to the bucket.
type host struct {
	name   string
	disk   *disktest.FS
	boot   byte
	store  *objecttest.Faulty
	bucket *objecttest.Bucket
}

// world is a bucket and the hosts that use it one after the other, driven by one seed.
type world struct {
	t          *testing.T
	seed       uint64
	rng        *rand.Rand
	began      time.Time
	durability fence.Durability
	log        *tail
}

// tail keeps the last lines of the log, for a failure.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(string(p)))
	if len(l.lines) > 400 {
		l.lines = slices.Delete(l.lines, 0, 200)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x766f6c756d65)), began: time.Now(), durability: fence.Local, log: &tail{}}
	if w.rng.IntN(3) == 0 {
		w.durability = fence.Object
	}
	return w
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s\nlog:\n%s", w.seed, fmt.Sprintf(format, args...), w.log)
}

func (w *world) newHost(name string, bucket *objecttest.Bucket) *host {
	h := &host{name: name, disk: disktest.New(disktest.Options{Now: time.Now}), boot: 1, bucket: bucket}
	h.connect(w.rng.Uint64())
	return h
}

func (h *host) connect(seed uint64) { h.store = h.bucket.Connect(seed) }

// options are a volume's on that host.
func (w *world) options(h *host) Options {
	level := slog.LevelInfo
	return Options{
		Disk: h.disk, NVMeDir: "/nvme", NVMeSize: 64 << 20, JournalDir: "/journal", JournalSize: 2 << 20, MemorySize: 1 << 20,
		Store: object.Retry(h.store, object.RetryOptions{}), Volume: worldVolume,
		Durability: w.durability, Interval: 200 * time.Millisecond,
		Owner: h.name, Lease: 10 * time.Second,
		Identity: func(string) (fence.Identity, error) {
			return fence.Identity{Boot: [16]byte{h.boot}, Dev: 1, Ino: 2, Local: true}, nil
		},
		Boottime: func() time.Duration { return time.Since(w.began) }, Now: time.Now, Rand: newRandom(w.rng.Uint64()),
		Logger:       slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: level})).With("host", h.name),
		MemTableSize: 128 << 10,
	}
}

// op is one change of the device.
type op struct {
	off, n int
	data   []byte // nil: zeros
}

func (o op) apply(to []byte) {
	if o.data == nil {
		clear(to[o.off : o.off+o.n])
		return
	}
	copy(to[o.off:], o.data)
}

// history is what was done to the device since it was made, and how much of it must survive.
type history struct {
	mu     sync.Mutex
	ops    []op // guarded by mu; issued, in order
	synced atomic.Int64
}

func (h *history) issue(o op) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
	return int64(len(h.ops))
}

func (h *history) issued() []op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ops)
}

// match returns the length of a prefix of ops, at least least long, that makes the device's
// content, or -1.
func match(ops []op, least int64, content []byte) int {
	state := make([]byte, deviceSize)
	for i := 0; ; i++ {
		if int64(i) >= least && bytes.Equal(state, content) {
			return i
		}
		if i == len(ops) {
			return -1
		}
		ops[i].apply(state)
	}
}

// workload changes the device until the context ends or an operation fails.
func (w *world) workload(ctx context.Context, v *Volume, h *history, rng *rand.Rand, n int) error {
	dev, err := v.Device(ctx, deviceName)
	if err != nil {
		return err
	}
	defer dev.Close()
	for range n {
		if rng.IntN(12) == 0 {
			time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
		}
		if err := w.step(ctx, v, dev, h, rng); err != nil {
			return err
		}
		if v.Wait(ctx) != nil {
			return v.Err()
		}
	}
	return nil
}

// device is what a step uses of *engine.Device.
type device interface {
	WriteAt(ctx context.Context, p []byte, off int64, durable bool) error
	Zero(ctx context.Context, off, n int64, keep, durable bool) error
	Trim(ctx context.Context, off, n int64, durable bool) error
	Flush(ctx context.Context) error
	ReadAt(ctx context.Context, p []byte, off int64) error
}

func (w *world) step(ctx context.Context, v *Volume, dev device, h *history, rng *rand.Rand) error {
	durable := rng.IntN(10) == 0
	var err error
	var at int64
	switch k := rng.IntN(20); {
	case k < 12: // whole chunks
		n := (1 + rng.IntN(4)) * chunk
		o := op{off: rng.IntN((deviceSize-n)/chunk+1) * chunk, n: n, data: noise(rng, n)}
		at = h.issue(o)
		err = dev.WriteAt(ctx, o.data, int64(o.off), durable)
	case k < 15: // any bytes
		n := 1 + rng.IntN(6000)
		o := op{off: rng.IntN(deviceSize - n + 1), n: n, data: noise(rng, n)}
		at = h.issue(o)
		err = dev.WriteAt(ctx, o.data, int64(o.off), durable)
	case k < 17:
		n := 1 + rng.IntN(5*chunk)
		o := op{off: rng.IntN(deviceSize - n + 1), n: n}
		at = h.issue(o)
		if rng.IntN(2) == 0 {
			err = dev.Zero(ctx, int64(o.off), int64(n), rng.IntN(2) == 0, durable)
		} else {
			err = dev.Trim(ctx, int64(o.off), int64(n), durable)
		}
	case k < 19:
		at = int64(len(h.issued()))
		durable = true
		err = dev.Flush(ctx)
	default:
		return w.checkRead(ctx, dev, h, rng)
	}
	if err == nil && durable {
		// An answer is one only when it may be sent.
		if err = v.Wait(ctx); err == nil {
			h.synced.Store(at)
		}
	}
	return err
}

// checkRead compares a range with what was written.
func (w *world) checkRead(ctx context.Context, dev device, h *history, rng *rand.Rand) error {
	n := 1 + rng.IntN(3*chunk)
	off := rng.IntN(deviceSize - n + 1)
	got := make([]byte, n)
	if err := dev.ReadAt(ctx, got, int64(off)); err != nil {
		return err
	}
	want := make([]byte, deviceSize)
	for _, o := range h.issued() {
		o.apply(want)
	}
	if !bytes.Equal(got, want[off:off+n]) {
		return fmt.Errorf("%w: %d bytes at %d", errWrongData, n, off)
	}
	return nil
}

var errWrongData = errors.New("wrong data")

func noise(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	x := rng.Uint64() | 1
	for i := 0; i+8 <= n; i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(p[i:], x)
	}
	return p
}

// content reads the whole device.
func content(ctx context.Context, v *Volume) ([]byte, error) {
	dev, err := v.Device(ctx, deviceName)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	p := make([]byte, deviceSize)
	return p, dev.ReadAt(ctx, p, 0)
}

// image is what a crash left: disk, bucket, and what the device must be.
type image struct {
	disk   *disktest.FS
	bucket *objecttest.Bucket
	ops    []op
	synced int64
}

// cut takes the image of a host now, as a power cut or a kill would leave it. Disk and bucket are of
// one moment: it is tried again until the bucket did not change meanwhile.
func cut(h *host, hist *history, seed uint64, power bool) *image {
	for {
		im := &image{synced: hist.synced.Load(), bucket: h.bucket.Clone()}
		if power {
			im.disk = h.disk.CrashClone(seed, int(seed%101))
		} else {
			im.disk = h.disk.KillClone()
		}
		im.ops = hist.issued()
		if same(im.bucket, h.bucket) {
			return im
		}
	}
}

// same reports whether two buckets hold the same objects. Those that are ever written anew are hints.
func same(a, b *objecttest.Bucket) bool { return slices.Equal(a.Keys(), b.Keys()) }

func lsn(n uint64) journal.LSN { return journal.LSN(n) }
