package volume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"zerofs/fence"
	"zerofs/tiers/object/objecttest"
)

// fullWorld is a volume whose disk has only room left for a few table files.
func fullWorld(t *testing.T, room int64) (*world, *host, *Volume) {
	w := newWorld(t, 1)
	w.durability = fence.Local
	h := w.newHost("a", objecttest.NewBucket(time.Now))
	o := w.options(h)
	o.Interval = 100 * time.Millisecond
	v, err := Open(context.Background(), o)
	if err != nil {
		w.fatalf("open: %v", err)
	}
	if err := v.EnsureDevice(context.Background(), deviceName, deviceSize); err != nil {
		w.fatalf("device: %v", err)
	}
	if err := scribble(context.Background(), v, 300); err != nil { // the ring has all of its segments
		w.fatalf("write: %v", err)
	}
	h.disk.SetCapacity(h.disk.Used() + room)
	return w, h, v
}

// scribble writes n times four random chunks.
func scribble(ctx context.Context, v *Volume, n int) error {
	dev, err := v.Device(ctx, deviceName)
	if err != nil {
		return err
	}
	defer dev.Close()
	rng := rand.New(rand.NewPCG(7, 7))
	for range n {
		if err := dev.WriteAt(ctx, noise(rng, 4*chunk), int64(rng.IntN(deviceSize/chunk-4))*chunk, false); err != nil {
			return err
		}
	}
	return dev.Flush(ctx)
}

// These run in real time: writers and flushes wait for mutexes of Pebble's and of tiers.FS while the
// one that holds them waits for the disk, and virtual time stands still for that. They are fast all the same.

// TestFullDisk writes more than the disk has room for: what was uploaded makes way, and nothing fails.
// A round that waited for the flush that waits for the disk would stand still for ever.
func TestFullDisk(t *testing.T) {
	for _, room := range []int64{200 << 10, 400 << 10, 1 << 20} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			t.Parallel()
			w, h, v := fullWorld(t, room)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := scribble(ctx, v, 250); err != nil {
				w.fatalf("%d bytes of room: write: %v", room, err)
			}
			want, err := content(ctx, v)
			if err != nil {
				w.fatalf("%d bytes of room: read: %v", room, err)
			}
			if err := v.Close(ctx); err != nil {
				w.fatalf("%d bytes of room: close: %v", room, err)
			}
			e := w.newHost("b", h.bucket)
			if v, err = Open(ctx, w.options(e)); err != nil {
				w.fatalf("open elsewhere: %v", err)
			}
			got, err := content(ctx, v)
			if err != nil || string(got) != string(want) {
				w.fatalf("%d bytes of room: another host reads something else: %v", room, err)
			}
			if err := v.Close(ctx); err != nil {
				w.fatalf("close elsewhere: %v", err)
			}
		})
	}
}

// TestCloseOnFullDisk stops a volume whose disk is full while the store is away: it ends in time
// and says what is missing, and goes on when it is opened again.
func TestCloseOnFullDisk(t *testing.T) {
	t.Parallel()
	w, h, v := fullWorld(t, 128<<10)
	h.store.SetOutage(true)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	written := make(chan error, 1)
	go func() { written <- scribble(ctx, v, 1<<20) }()
	select {
	case err := <-written:
		if !errors.Is(err, context.DeadlineExceeded) {
			w.fatalf("writes to a full disk: %v", err)
		}
	case <-time.After(5 * time.Second): // it waits in Pebble for memtables, which knows no context
	}
	began := time.Now()
	ctx, cancel = context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := v.Close(ctx); !errors.Is(err, ErrNotUploaded) {
		w.fatalf("close: %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		w.fatalf("close took %v", took)
	}
}
