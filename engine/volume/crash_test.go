package volume

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/fence"
	"zerofs/tiers/object/objecttest"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed alone")
	seedsFlag = flag.Int("seeds", 0, "run so many seeds (default: ZEROFS_CRASH_SEEDS or 150)")
)

func seeds(t *testing.T) (first, n uint64) {
	if *seedFlag != 0 {
		return *seedFlag, 1
	}
	if *seedsFlag > 0 {
		return 1, uint64(*seedsFlag)
	}
	if s := os.Getenv("ZEROFS_CRASH_SEEDS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return 1, n
	}
	return 1, 150
}

// TestCrashes cuts hosts off at any operation of disk or store, again and again, and checks after
// each cut that the device is a prefix of what was written, no older than the last answered flush.
func TestCrashes(t *testing.T) {
	first, n := seeds(t)
	const shards = 2
	for shard := range uint64(shards) {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			for seed := first + shard; seed < first+n; seed += shards {
				synctest.Test(t, func(t *testing.T) { newWorld(t, seed).crashes() })
				if t.Failed() {
					return
				}
			}
		})
	}
}

// crashes is one world: some rounds, each of which opens the volume where the last crash left it,
// checks it, writes, and is cut off.
func (w *world) crashes() {
	bucket := objecttest.NewBucket(time.Now)
	h := w.newHost("a", bucket)
	var im *image
	var ops []op // the writes that led to what the volume holds, from an empty device on
	var least int64
	for round := range 3 {
		im = w.round(h, ops, least, round)
		ops, least = im.ops, im.synced
		next := w.nextHost(h, im)
		if next.name != h.name && w.durability == fence.Local {
			least = 0 // another machine has what was uploaded
		}
		h = next
	}
	w.verify(h, ops, least)
}

// nextHost is who opens the volume after a crash: mostly the same machine, sometimes an empty one.
func (w *world) nextHost(h *host, im *image) *host {
	next := &host{name: h.name, disk: im.disk, boot: h.boot, bucket: im.bucket}
	if w.rng.IntN(4) == 0 {
		next = w.newHost(h.name+"+", im.bucket)
	} else if w.rng.IntN(2) == 0 {
		next.boot++ // the machine was restarted too
	}
	next.connect(w.rng.Uint64())
	return next
}

// faults are the store's in one round: none, or some of each kind.
func (w *world) faults() objecttest.Faults {
	if w.rng.IntN(3) == 0 {
		return objecttest.Faults{}
	}
	return objecttest.Faults{
		Fail: 0.05, Lose: 0.05, Late: 0.02, Hang: 0.005, HangLose: 0.005,
		LateMin: time.Millisecond, LateMax: 5 * time.Second, LatencyMax: 60 * time.Millisecond,
	}
}

// round opens, checks and writes until the cut.
func (w *world) round(h *host, ops []op, least int64, round int) *image {
	h.store.SetFaults(w.faults())
	at := int64(1 + w.rng.IntN(60<<w.rng.IntN(5)))
	coin, power := w.rng.Uint64(), w.rng.IntN(4) > 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	var hist atomic.Pointer[history]
	before := &history{ops: ops}
	before.synced.Store(least)
	hist.Store(before)
	var n atomic.Int64
	var im atomic.Pointer[image]
	count := func() {
		if n.Add(1) == at {
			im.Store(cut(h, hist.Load(), coin, power))
			cancel()
		}
	}
	h.disk.SetOnOp(func(string, string) error { count(); return nil })
	h.store.SetAfter(func(_ objecttest.Request, err error) error { count(); return err })

	v, err := Open(ctx, w.options(h))
	if err != nil {
		if im.Load() == nil {
			w.fatalf("round %d: open: %v", round, err)
		}
		return im.Load()
	}
	err = w.serveRound(ctx, v, &hist, ops, least)
	if im.Load() == nil {
		if err != nil && !errors.Is(err, context.Canceled) {
			w.fatalf("round %d: %v", round, err)
		}
		im.Store(cut(h, hist.Load(), coin, power)) // it ended before its cut
	}
	if errors.Is(err, errWrongData) {
		w.fatalf("round %d: %v", round, err)
	}
	h.disk.SetOnOp(nil)
	h.store.SetAfter(nil)
	h.store.SetFaults(objecttest.Faults{})
	cctx, ccancel := context.WithTimeout(context.Background(), time.Hour)
	defer ccancel()
	if err := v.Close(cctx); err != nil {
		w.fatalf("round %d: close: %v", round, err)
	}
	return im.Load()
}

// serveRound checks what the crash before left, and goes on writing from there.
func (w *world) serveRound(ctx context.Context, v *Volume, hist *atomic.Pointer[history], ops []op, least int64) error {
	if err := v.EnsureDevice(ctx, deviceName, deviceSize); err != nil {
		return err
	}
	got, err := content(ctx, v)
	if err != nil {
		return err
	}
	i := match(ops, least, got)
	if i < 0 {
		return fmt.Errorf("%w: no prefix of the %d writes from the %dth on (%s)", errWrongData, len(ops), least, describe(ops, got))
	}
	// What was recovered must survive once a flush was answered.
	next := &history{ops: slices.Clone(ops[:i])}
	dev, err := v.Device(ctx, deviceName)
	if err != nil {
		return err
	}
	err = dev.Flush(ctx)
	dev.Close()
	if err != nil {
		return err
	}
	next.synced.Store(int64(i))
	hist.Store(next)
	return w.workload(ctx, v, next, w.rng, 40+w.rng.IntN(160))
}

// verify opens the volume without faults and checks it, then on an empty host.
func (w *world) verify(h *host, ops []op, least int64) {
	ctx := context.Background()
	v, err := Open(ctx, w.options(h))
	if err != nil {
		w.fatalf("last open: %v", err)
	}
	if err := v.EnsureDevice(ctx, deviceName, deviceSize); err != nil {
		w.fatalf("last open: %v", err)
	}
	got, err := content(ctx, v)
	if err != nil {
		w.fatalf("last read: %v", err)
	}
	if match(ops, least, got) < 0 {
		w.fatalf("last content is no prefix of the %d writes from the %dth on (%s)", len(ops), least, describe(ops, got))
	}
	if err := v.Close(ctx); err != nil {
		w.fatalf("last close: %v", err)
	}
	e := w.newHost("empty", h.bucket)
	if v, err = Open(ctx, w.options(e)); err != nil {
		w.fatalf("open on an empty host: %v", err)
	}
	again, err := content(ctx, v)
	if err != nil || !bytes.Equal(again, got) {
		w.fatalf("an empty host reads something else: %v", err)
	}
	if err := v.Close(ctx); err != nil {
		w.fatalf("close on an empty host: %v", err)
	}
}

// describe says where content differs from all of ops, and from none.
func describe(ops []op, got []byte) string {
	want := make([]byte, deviceSize)
	for _, o := range ops {
		o.apply(want)
	}
	var bad []int
	for i := 0; i < len(got); i += chunk {
		if !bytes.Equal(got[i:i+chunk], want[i:i+chunk]) {
			bad = append(bad, i/chunk)
		}
	}
	return fmt.Sprintf("chunks that differ from the newest state: %v", bad)
}
