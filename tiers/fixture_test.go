package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"zerofs/fence"
	"zerofs/tiers"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/nvme"
	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
	"zerofs/tiers/seal"
)

// fakeLog is the fenced log as far as write-back sees it, with the rules of the real one.
type fakeLog struct {
	mu      sync.Mutex
	state   fence.State
	trash   map[string]bool // objects that nothing names
	commits int
	frozen  bool
	before  func(fence.Commit) error // runs before a Commit is applied
	after   func() error             // and after: an error is a lost answer
}

func newFakeLog() *fakeLog {
	return &fakeLog{
		state: fence.State{Tables: map[string]fence.Table{}, Meta: map[string][]byte{}},
		trash: map[string]bool{},
	}
}

// clone returns the log as another owner finds it.
func (l *fakeLog) clone() *fakeLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := newFakeLog()
	c.state = l.copyState()
	maps.Copy(c.trash, l.trash)
	return c
}

func (l *fakeLog) copyState() fence.State {
	s := l.state
	s.Tables = maps.Clone(l.state.Tables)
	s.Meta = map[string][]byte{}
	for name, data := range l.state.Meta {
		s.Meta[name] = slices.Clone(data)
	}
	return s
}

// State returns what a new owner would be told.
func (l *fakeLog) State() *fence.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.copyState()
	return &s
}

func (l *fakeLog) Commit(ctx context.Context, c fence.Commit) error {
	if l.before != nil {
		if err := l.before(c); err != nil {
			return err
		}
	}
	if err := l.apply(c); err != nil {
		return err
	}
	if l.after != nil {
		return l.after()
	}
	return nil
}

func (l *fakeLog) apply(c fence.Commit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen {
		return errFrozen
	}
	if c.LSN < l.state.LSN {
		return fmt.Errorf("commit of lsn %d after %d", c.LSN, l.state.LSN)
	}
	for _, name := range c.Dropped {
		t, ok := l.state.Tables[name]
		if !ok {
			return fmt.Errorf("%s is dropped and not there", name)
		}
		l.trash[t.Object] = true
		delete(l.state.Tables, name)
	}
	for _, t := range c.Added {
		if _, ok := l.state.Tables[t.Name]; ok {
			return fmt.Errorf("%s is added and there", t.Name)
		}
		l.state.Tables[t.Name] = t
		delete(l.trash, t.Object)
	}
	for _, d := range c.Meta {
		if err := l.applyMeta(d); err != nil {
			return err
		}
	}
	l.state.LSN = c.LSN
	l.state.Seq++
	l.commits++
	return nil
}

var errFrozen = errors.New("test: the log is out of reach")

// freeze makes every later Commit fail without effect.
func (l *fakeLog) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = true
}

func (l *fakeLog) applyMeta(d fence.MetaDelta) error {
	old, ok := l.state.Meta[d.Name]
	switch {
	case d.Removed && !ok:
		return fmt.Errorf("meta file %s is removed and not there", d.Name)
	case d.Removed:
		delete(l.state.Meta, d.Name)
	case d.Offset > int64(len(old)):
		return fmt.Errorf("delta of %s begins at %d of %d", d.Name, d.Offset, len(old))
	default:
		l.state.Meta[d.Name] = append(slices.Clone(old[:d.Offset]), d.Data...)
	}
	return nil
}

func (l *fakeLog) Discard(objects []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range objects {
		for name, t := range l.state.Tables {
			if t.Object == o {
				panic("discarded " + o + ", which is " + name)
			}
		}
		l.trash[o] = true
	}
}

func (l *fakeLog) Deletable(time.Duration) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.trash))
}

func (l *fakeLog) Deleted(objects []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range objects {
		delete(l.trash, o)
	}
}

// lockedRand is a source of ids that follow from a seed.
type lockedRand struct {
	mu  sync.Mutex
	src *rand.ChaCha8
}

func newRand(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return &lockedRand{src: rand.NewChaCha8(key)}
}

func (r *lockedRand) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src.Read(p)
}

var testKey = seal.NewKey([32]byte{1, 2, 3}, seal.AES256GCM)

// host is one machine with its disk, joined to a bucket and a log.
type host struct {
	disk    *disktest.FS
	store   *objecttest.Faulty
	log     *fakeLog
	epoch   fence.Epoch
	size    int64 // of the NVMe tier
	logger  *slog.Logger
	barrier func() error

	nvme *nvme.Tier
	fs   *tiers.FS
}

var quiet = slog.New(slog.DiscardHandler)

func newHost(bucket *objecttest.Bucket, log *fakeLog) *host {
	return &host{
		disk:    disktest.New(disktest.Options{}),
		store:   bucket.Connect(1),
		log:     log,
		epoch:   1,
		size:    256 << 20,
		logger:  quiet,
		barrier: func() error { return nil },
	}
}

func (h *host) options() tiers.Options {
	return tiers.Options{
		Disk: h.disk, Dir: "/data/tree", NVMe: h.nvme, Store: h.retrying(), Key: testKey,
		Epoch: h.epoch, Log: h.log, Barrier: func() error { return h.barrier() }, Rand: newRand(rand.Uint64()), Boottime: nil, Logger: h.logger,
	}
}

func (h *host) retrying() object.Store { return object.Retry(h.store, object.RetryOptions{}) }

// openNVMe opens the NVMe tier.
func (h *host) openNVMe() (err error) {
	if err := h.disk.MkdirAll("/data", 0o700); err != nil {
		return err
	}
	if err := h.disk.SyncDir("/"); err != nil {
		return err
	}
	h.nvme, err = nvme.Open(context.Background(), nvme.Options{
		Disk: h.disk, Dir: "/data/nvme", Size: h.size, Key: testKey, Rand: newRand(rand.Uint64()), Logger: h.logger,
	})
	return err
}

// open opens the host with what its directory holds; with fresh the tree is taken from the log.
func (h *host) open(fresh bool) (err error) {
	if err := h.openNVMe(); err != nil {
		return err
	}
	if fresh {
		err = tiers.Materialise(context.Background(), h.options(), h.log.State())
	}
	if err == nil {
		h.fs, err = tiers.Open(context.Background(), h.options(), h.log.State())
	}
	if err != nil {
		return errors.Join(err, h.nvme.Close())
	}
	return nil
}

func (h *host) close() error {
	return errors.Join(h.fs.Close(), h.nvme.Close())
}

func (h *host) mustOpen(t *testing.T, fresh bool) {
	t.Helper()
	if err := h.open(fresh); err != nil {
		t.Fatal(err)
	}
}

func (h *host) mustClose(t *testing.T) {
	t.Helper()
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
}

// crashed returns the host after a power cut, with nothing open, and the same bucket and log.
func (h *host) crashed(seed uint64) *host {
	c := *h
	c.disk = h.disk.CrashClone(seed, 50)
	c.nvme, c.fs = nil, nil
	return &c
}

// other returns an empty second host that takes the volume over.
func (h *host) other() *host {
	o := newHost(h.store.Bucket(), h.log)
	o.epoch = h.epoch + 1
	o.logger = h.logger
	return o
}
