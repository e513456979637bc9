// Package raw is what the disk does by itself: the other side of the comparisons. Files lie in the
// same file system as the volume's, are opened O_DIRECT, and are written with zeros first where the volume's would be.
package raw

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"zerofs/benchmarks/nbdclient"
)

const block = 4096

// aligned returns a buffer of n bytes that O_DIRECT takes.
func aligned(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("raw: buffer: %w", err)
	}
	return b, nil
}

// File is a file written in full, for O_DIRECT.
type File struct {
	f    *os.File
	size int64
}

// Create makes a file of size bytes, a multiple of 1 MiB, filled with zeros or random bytes.
func Create(path string, size int64, r *rand.Rand) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_DIRECT, 0o600)
	if err != nil {
		return nil, err
	}
	x := &File{f: f, size: size}
	if _, err := x.fill(r, 1); err != nil {
		f.Close()
		return nil, err
	}
	return x, nil
}

// Remove closes and unlinks the file.
func (x *File) Remove() {
	x.f.Close()
	os.Remove(x.f.Name())
}

// fill writes the whole file in writes of 1 MiB, depth at once, and syncs it.
func (x *File) fill(r *rand.Rand, depth int) (time.Duration, error) {
	const piece = 1 << 20
	bufs := make([][]byte, depth)
	for i := range bufs {
		b, err := aligned(piece)
		if err != nil {
			return 0, err
		}
		defer unix.Munmap(b)
		if r != nil {
			copy(b, nbdclient.RandomBytes(r, piece))
		}
		bufs[i] = b
	}
	start := time.Now()
	err := parallel(depth, func(i int, next func() int64) error {
		for off := next() * piece; off < x.size; off = next() * piece {
			if _, err := x.f.WriteAt(bufs[i], off); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = x.f.Sync()
	}
	return time.Since(start), err
}

// parallel runs n workers with one counter from 0.
func parallel(n int, work func(i int, next func() int64) error) error {
	var count atomic.Int64
	next := func() int64 { return count.Add(1) - 1 }
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- work(i, next) }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// SequentialWrite writes a new file of size bytes in O_DIRECT writes of 1 MiB, depth at once, and syncs it.
// It returns how long that took.
func SequentialWrite(path string, size int64, depth int, r *rand.Rand) (time.Duration, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_DIRECT, 0o600)
	if err != nil {
		return 0, err
	}
	x := &File{f: f, size: size}
	defer x.Remove()
	return x.fill(r, depth)
}

// SyncedWrites writes 4 KiB blocks one after another, each with RWF_DSYNC, for d, and returns their latencies.
func (x *File) SyncedWrites(d time.Duration, r *rand.Rand) ([]time.Duration, error) {
	buf, err := aligned(block)
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(buf)
	copy(buf, nbdclient.RandomBytes(r, block))
	iov := [][]byte{buf}
	lat := make([]time.Duration, 0, 1<<20)
	for start, off := time.Now(), int64(0); time.Since(start) < d; off = (off + block) % x.size {
		t := time.Now()
		if n, err := unix.Pwritev2(int(x.f.Fd()), iov, off, unix.RWF_DSYNC); n != block {
			return nil, fmt.Errorf("raw: write at %d: %d bytes, %w", off, n, err)
		}
		lat = append(lat, time.Since(t))
	}
	return lat, nil
}

// RandomReads reads 4 KiB blocks at random offsets for d, depth at once, and returns how many.
func (x *File) RandomReads(d time.Duration, depth int, seed uint64) (int64, error) {
	var total atomic.Int64
	err := parallel(depth, func(i int, _ func() int64) error {
		buf, err := aligned(block)
		if err != nil {
			return err
		}
		defer unix.Munmap(buf)
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		n := int64(0)
		for start := time.Now(); time.Since(start) < d; n++ {
			if _, err := x.f.ReadAt(buf, rng.Int64N(x.size/block)*block); err != nil {
				return err
			}
		}
		total.Add(n)
		return nil
	})
	return total.Load(), err
}

// group is a naive group commit: what has queued while both places are taken is the next batch, and
// answers are given in order.
type group struct {
	x       *File
	mu      sync.Mutex
	wake    *sync.Cond
	queue   []*waiter
	next    int64         // offset of the next batch
	prev    chan struct{} // closed when the batch before is answered
	closing bool
}

type waiter struct {
	data []byte
	done chan error
}

// GroupCommit has writers commit 4 KiB records for d, two batches in flight, and returns how many were.
func (x *File) GroupCommit(d time.Duration, writers int, r *rand.Rand) (int64, error) {
	g := &group{x: x, prev: make(chan struct{})}
	g.wake = sync.NewCond(&g.mu)
	close(g.prev)
	var committers sync.WaitGroup
	for range 2 {
		committers.Go(func() { g.commit(writers) })
	}
	data := nbdclient.RandomBytes(r, block)
	var total atomic.Int64
	err := parallel(writers, func(int, func() int64) error {
		w := &waiter{data: data, done: make(chan error, 1)}
		for start := time.Now(); time.Since(start) < d; total.Add(1) {
			g.mu.Lock()
			g.queue = append(g.queue, w)
			g.wake.Signal()
			g.mu.Unlock()
			if err := <-w.done; err != nil {
				return err
			}
		}
		return nil
	})
	g.mu.Lock()
	g.closing = true
	g.wake.Broadcast()
	g.mu.Unlock()
	committers.Wait()
	return total.Load(), err
}

// commit writes batch after batch until the group closes.
func (g *group) commit(most int) {
	buf, err := aligned(most * block)
	if err != nil {
		panic(err)
	}
	defer unix.Munmap(buf)
	var batch []*waiter
	for {
		g.mu.Lock()
		for len(g.queue) == 0 && !g.closing {
			g.wake.Wait()
		}
		if len(g.queue) == 0 {
			g.mu.Unlock()
			return
		}
		batch = append(batch[:0], g.queue...)
		g.queue = g.queue[:0]
		n := int64(len(batch)) * block
		if g.next+n > g.x.size {
			g.next = 0
		}
		off, before, done := g.next, g.prev, make(chan struct{})
		g.next, g.prev = off+n, done
		g.mu.Unlock()
		for i, w := range batch {
			copy(buf[i*block:], w.data)
		}
		_, err := unix.Pwritev2(int(g.x.f.Fd()), [][]byte{buf[:n]}, off, unix.RWF_DSYNC)
		<-before
		for _, w := range batch {
			w.done <- err
		}
		close(done)
	}
}
