package fence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/object/objecttest"
	"zerofs/tiers/seal"
)

const testLease = 60 * time.Second

func testKey() (*seal.Key, seal.VolumeID) {
	root := [32]byte{1, 2, 3}
	return seal.NewKey(root, seal.ChaCha20Poly1305), seal.VolumeID{9, 8, 7}
}

// world is a bucket and the hosts that want its volume, in a synctest bubble.
type world struct {
	t      *testing.T
	bucket *objecttest.Bucket
	start  time.Time
	seed   byte
	logger *slog.Logger
}

// inWorld runs fn in a bubble of its own.
func inWorld(t *testing.T, fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, bucket: objecttest.NewBucket(time.Now), start: time.Now(), logger: slog.New(slog.DiscardHandler)}
		if os.Getenv("FENCE_LOG") != "" {
			w.logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
		}
		fn(t, w)
	})
}

// rand returns a source of its own for each call, the same ones in each run.
func (w *world) rand() io.Reader {
	w.seed++
	return rand.NewChaCha8([32]byte{w.seed})
}

// host is one machine with one data directory.
type host struct {
	w     *world
	name  string
	disk  *disktest.FS
	store *objecttest.Faulty
	id    Identity
	skew  atomic.Int64 // added to the boot clock: a pause of everything but this clock
}

func (w *world) host(name string) *host {
	w.seed++
	h := &host{
		w: w, name: name,
		disk:  disktest.New(disktest.Options{Now: time.Now}),
		store: w.bucket.Connect(uint64(w.seed)),
		id:    Identity{Dir: [16]byte{w.seed}, Boot: [16]byte{w.seed}, Dev: 1, Ino: uint64(w.seed), Local: true},
	}
	if err := h.disk.SyncDir("/"); err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (h *host) boottime() time.Duration { return time.Since(h.w.start) + time.Duration(h.skew.Load()) }

// turn is one Open with what it opened.
type turn struct {
	*Owner
	h       *host
	lineage *Lineage
}

// open opens the volume with the host's disk as it is.
func (h *host) open(ctx context.Context, change ...func(o *Options)) (*turn, error) {
	key, volume := testKey()
	l, err := OpenLineage(h.disk, "/lineage", key, volume, h.w.rand())
	if err != nil {
		return nil, err
	}
	opts := Options{
		Store: h.store, Key: key, Volume: volume, Lineage: l, Identity: h.id, Owner: h.name,
		Lease: testLease, Durability: Local, Boottime: h.boottime, Rand: h.w.rand(), Logger: h.w.logger.With("host", h.name),
	}
	for _, c := range change {
		c(&opts)
	}
	o, err := Open(ctx, opts)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	h.w.t.Cleanup(func() { o.Close() }) // a test that failed half-way leaves no goroutine
	return &turn{o, h, l}, nil
}

// mustOpen opens and adopts.
func (h *host) mustOpen(change ...func(o *Options)) *turn {
	h.w.t.Helper()
	o, err := h.open(h.w.t.Context(), change...)
	if err != nil {
		h.w.t.Fatalf("%s: open: %v", h.name, err)
	}
	if err := o.Adopt(); err != nil {
		h.w.t.Fatalf("%s: adopt: %v", h.name, err)
	}
	return o
}

// kill ends the turn as SIGKILL does: requests on their way stay on their way.
func (t *turn) kill() {
	t.h.w.t.Helper()
	t.Close()
	t.lineage.Close()
}

func (t *turn) release() {
	t.h.w.t.Helper()
	if err := t.Release(t.h.w.t.Context()); err != nil {
		t.h.w.t.Fatalf("%s: release: %v", t.h.name, err)
	}
	t.lineage.Close()
}

func (t *turn) mustShip(last uint64, body string) {
	t.h.w.t.Helper()
	if err := t.Ship(t.h.w.t.Context(), t.Covered()+1, last, []byte(body)); err != nil {
		t.h.w.t.Fatalf("%s: ship to %d: %v", t.h.name, last, err)
	}
}

func (t *turn) mustCommit(c Commit) {
	t.h.w.t.Helper()
	if err := t.Commit(t.h.w.t.Context(), c); err != nil {
		t.h.w.t.Fatalf("%s: commit of %d: %v", t.h.name, c.LSN, err)
	}
}

// reboot gives the host another boot id.
func (h *host) reboot() { h.id.Boot[15]++ }

// clone returns another machine whose directory is a copy of h's.
func (h *host) clone(name string) *host {
	c := h.w.host(name)
	c.disk = h.disk.KillClone()
	c.id.Dir = h.id.Dir
	return c
}

func (w *world) records() (seqs []Seq) {
	for _, k := range w.bucket.Keys() {
		if q := parseLogKey(k); q != 0 {
			seqs = append(seqs, q)
		}
	}
	return seqs
}

func (w *world) wantErr(err, want error) {
	w.t.Helper()
	if !errors.Is(err, want) {
		w.t.Fatalf("error is %v, want %v", err, want)
	}
}

// describe returns a State without what differs between turns, for comparison.
func describe(s *State) string {
	out := fmt.Sprintf("lsn %d tables %d", s.LSN, len(s.Tables))
	for _, t := range sortedTables(s.Tables) {
		out += fmt.Sprintf(" %s=%s/%d", t.Name, t.Object, t.Size)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Meta)) {
		out += fmt.Sprintf(" %s:%q", name, s.Meta[name])
	}
	for _, sh := range s.Ships {
		out += fmt.Sprintf(" ship %d..%d", sh.First, sh.Last)
	}
	return out
}
