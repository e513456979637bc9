package volume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/fence"
	"zerofs/tiers/object/objecttest"
)

// inWorlds runs do in a few worlds of their own clocks.
func inWorlds(t *testing.T, n uint64, do func(w *world, bucket *objecttest.Bucket)) {
	first := uint64(1)
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	for seed := first; seed < first+n && !t.Failed(); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { do(newWorld(t, seed), objecttest.NewBucket(time.Now)) })
		})
	}
}

// limit is a context that no step of these tests should see the end of.
func limit(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), d, errHangs)
}

var errHangs = errors.New("it hangs")

// must opens the volume on h, with its device.
func (w *world) must(h *host, change ...func(*Options)) *Volume {
	w.t.Helper()
	ctx, cancel := limit(10 * time.Minute)
	defer cancel()
	opts := w.options(h)
	for _, c := range change {
		c(&opts)
	}
	v, err := Open(ctx, opts)
	if err == nil {
		err = v.EnsureDevice(ctx, deviceName, deviceSize)
	}
	if err != nil {
		w.fatalf("open on %s: %v", h.name, err)
	}
	return v
}

// close closes v, which must end as wanted within a minute.
func (w *world) close(v *Volume, want error) {
	w.t.Helper()
	ctx, cancel := limit(time.Minute)
	defer cancel()
	began := time.Now()
	if err := v.Close(ctx); !errors.Is(err, want) || (want == nil) != (err == nil) {
		w.fatalf("close: %v, want %v", err, want)
	}
	if took := time.Since(began); took > 2*time.Minute {
		w.fatalf("close took %v", took)
	}
}

// holds checks that v's device is what a prefix of ops makes, one that has the least of them, and
// returns how many these are.
func (w *world) holds(v *Volume, ops []op, least int64) int {
	w.t.Helper()
	ctx, cancel := limit(10 * time.Minute)
	defer cancel()
	got, err := content(ctx, v)
	if err != nil {
		w.fatalf("read: %v", err)
	}
	n := match(ops, least, got)
	if n < 0 {
		w.fatalf("content is no prefix of the %d writes from the %dth on (%s)", len(ops), least, describe(ops, got))
	}
	return n
}

// write makes n random changes, and a flush at the end.
func (w *world) write(v *Volume, h *history, n int) {
	w.t.Helper()
	ctx, cancel := limit(time.Hour)
	defer cancel()
	err := w.workload(ctx, v, h, w.rng, n)
	if err == nil {
		err = w.flush(ctx, v, h)
	}
	if err != nil {
		w.fatalf("write: %v", err)
	}
}

func (w *world) flush(ctx context.Context, v *Volume, h *history) error {
	dev, err := v.Device(ctx, deviceName)
	if err != nil {
		return err
	}
	defer dev.Close()
	at := int64(len(h.issued()))
	if err := dev.Flush(ctx); err != nil {
		return err
	}
	if err := v.Wait(ctx); err != nil {
		return err
	}
	h.synced.Store(at)
	return nil
}

// uploaded waits until the log holds everything.
func (w *world) uploaded(v *Volume) {
	w.t.Helper()
	for range 600 {
		if s := v.Status(); s.CoveredLSN >= s.LastLSN {
			return
		}
		time.Sleep(time.Second)
	}
	w.fatalf("the log does not come to cover what was written: %+v", v.Status())
}

// pauser makes a host stand still towards the store: what it asks waits, before its effect or after
// it. (Its disk goes on, since locks are held there and a bubble's time stands still with them.)
type pauser struct {
	until atomic.Pointer[chan struct{}] // closed when the host goes on; nil while it runs
}

func (p *pauser) attach(h *host) {
	h.store.SetBefore(func(context.Context, objecttest.Request) error { p.wait(); return nil })
	h.store.SetAfter(func(_ objecttest.Request, err error) error { p.wait(); return err })
}

func (p *pauser) wait() {
	if c := p.until.Load(); c != nil {
		<-*c
	}
}

func (p *pauser) pause() {
	c := make(chan struct{})
	p.until.Store(&c)
}

func (p *pauser) resume() { close(*p.until.Swap(nil)) }

// TestPausedHost stops a host in the middle of its work past its lease, lets another take over, and
// continues the first: it acknowledges nothing more, ends as fenced, and has kept what it lost.
func TestPausedHost(t *testing.T) {
	inWorlds(t, 10, func(w *world, bucket *objecttest.Bucket) {
		a, b := w.newHost("a", bucket), w.newHost("b", bucket)
		va := w.must(a)
		hist := &history{}
		w.write(va, hist, 20+w.rng.IntN(60))

		var p pauser
		p.attach(a)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ended := make(chan error)
		rng := rand.New(rand.NewPCG(w.seed, 1))
		var taken atomic.Bool
		var late atomic.Int64
		for range 2 { // a second client only reads and flushes, so that the order of writes is known
			go func() { ended <- w.ask(ctx, va, &taken, &late) }()
		}
		go func() { ended <- w.workload(ctx, va, hist, rng, 1<<20) }()
		time.Sleep(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
		p.pause()

		vb := w.must(b)
		taken.Store(true)
		synced := hist.synced.Load()
		least := synced
		if w.durability == fence.Local {
			least = 0
		}
		ops := hist.issued()
		ops = ops[:w.holds(vb, ops, least)]
		next := &history{ops: slices.Clone(ops)}
		next.synced.Store(int64(len(ops)))
		w.write(vb, next, 30)
		p.resume()

		for range 3 {
			if err := <-ended; err == nil || errors.Is(err, errWrongData) {
				w.fatalf("a client of the old owner ended with %v", err)
			}
		}
		if late.Load() > 0 {
			w.fatalf("the old owner answered %d requests after the takeover", late.Load())
		}
		if got := hist.synced.Load(); got != synced {
			w.fatalf("the old owner acknowledged up to write %d after the takeover, before it was %d", got, synced)
		}
		<-va.Done()
		if err := va.Wait(context.Background()); !errors.Is(err, fence.ErrFenced) {
			w.fatalf("the old owner may answer: %v", err)
		}
		w.close(va, fence.ErrFenced)
		w.write(vb, next, 30)
		w.close(vb, nil)

		a.connect(7)
		va = w.must(a)
		w.holds(va, next.issued(), next.synced.Load())
		w.keptAside(a, true)
		w.close(va, nil)
	})
}

// ask reads and flushes until that fails, and counts answers that may be sent after the takeover.
func (w *world) ask(ctx context.Context, v *Volume, taken *atomic.Bool, late *atomic.Int64) error {
	dev, err := v.Device(ctx, deviceName)
	if err != nil {
		return err
	}
	defer dev.Close()
	p := make([]byte, chunk)
	for i := 0; ; i++ {
		time.Sleep(time.Millisecond)
		if i%2 == 0 {
			err = dev.Flush(ctx)
		} else {
			err = dev.ReadAt(ctx, p, int64(i%64)*chunk)
		}
		if err != nil {
			return err
		}
		if err := v.Wait(ctx); err != nil {
			return err
		}
		if taken.Load() {
			late.Add(1)
		}
	}
}

// keptAside checks that a host's overtaken state is there, or that there is none.
func (w *world) keptAside(h *host, want bool) {
	w.t.Helper()
	for _, dir := range []string{"/nvme/lost", "/journal/lost"} {
		if got := len(h.disk.Files(dir)) > 0; got != want {
			w.fatalf("%s on %s is there: %v, want %v", dir, h.name, got, want)
		}
	}
}

// kill takes a volume's host away as a power cut does, and returns the host that boots from its disk.
func (w *world) kill(h *host, v *Volume) *host {
	w.t.Helper()
	next := &host{name: h.name, disk: h.disk.CrashClone(w.rng.Uint64(), 50), boot: h.boot + 1, bucket: h.bucket}
	h.store.Kill()
	ctx, cancel := limit(time.Second)
	defer cancel()
	_ = v.Close(ctx) // of a machine that is gone
	next.connect(w.rng.Uint64())
	return next
}

// TestStaleDisk lets a disk return after its volume went on elsewhere, and was even released there.
func TestStaleDisk(t *testing.T) {
	inWorlds(t, 6, func(w *world, bucket *objecttest.Bucket) {
		a, b := w.newHost("a", bucket), w.newHost("b", bucket)
		va := w.must(a)
		hist := &history{}
		w.write(va, hist, 40)
		a = w.kill(a, va)

		vb := w.must(b)
		least := int64(0)
		if w.durability == fence.Object {
			least = hist.synced.Load()
		}
		ops := hist.issued()
		next := &history{ops: ops[:w.holds(vb, ops, least)]}
		w.write(vb, next, 40)
		if w.rng.IntN(2) == 0 {
			w.uploaded(vb)
			w.kill(b, vb)
		} else {
			w.close(vb, nil)
		}
		va = w.must(a)
		w.holds(va, next.issued(), next.synced.Load())
		w.keptAside(a, true)
		w.write(va, next, 20)
		w.close(va, nil)
	})
}

// TestClonedDirectory starts a copy of a running host's directories: it waits while that host lives.
func TestClonedDirectory(t *testing.T) {
	inWorlds(t, 6, func(w *world, bucket *objecttest.Bucket) {
		a := w.newHost("a", bucket)
		va := w.must(a)
		hist := &history{}
		w.write(va, hist, 40)
		c := &host{name: "clone", disk: a.disk.KillClone(), boot: a.boot, bucket: bucket}
		c.connect(3)
		other := func(o *Options) {
			o.Identity = func(string) (fence.Identity, error) {
				return fence.Identity{Boot: [16]byte{c.boot}, Dev: 1, Ino: 77, Local: true}, nil
			}
		}
		opts := w.options(c)
		other(&opts)
		ctx, cancel := limit(10 * time.Minute)
		_, err := Open(ctx, opts)
		cancel()
		if !errors.Is(err, errHangs) {
			w.fatalf("the clone got its turn beside the owner: %v", err)
		}
		w.write(va, hist, 20)
		w.uploaded(va)
		a = w.kill(a, va)

		vc := w.must(c, other)
		next := &history{ops: hist.issued()}
		w.holds(vc, next.ops, hist.synced.Load())
		w.keptAside(c, true)
		w.write(vc, next, 20)
		w.close(vc, nil)
		va = w.must(a)
		w.holds(va, next.issued(), next.synced.Load())
		w.keptAside(a, true)
		w.close(va, nil)
	})
}

// TestStoreRolledBack refuses a store that is older than what the directory saw, and keeps the
// directory where the store went on from there.
func TestStoreRolledBack(t *testing.T) {
	inWorlds(t, 6, func(w *world, bucket *objecttest.Bucket) {
		w.durability = fence.Local
		a := w.newHost("a", bucket)
		va := w.must(a)
		hist := &history{}
		w.write(va, hist, 30)
		w.close(va, nil)
		old, base := bucket.Clone(), hist.issued()
		va = w.must(a)
		w.write(va, hist, 30)
		w.close(va, nil)
		bucket.Restore(old)

		ctx, cancel := limit(10 * time.Minute)
		defer cancel()
		before := a.disk.Files("/nvme/tree")
		if _, err := Open(ctx, w.options(a)); !errors.Is(err, fence.ErrRolledBack) {
			w.fatalf("open of a store that was rolled back: %v", err)
		}
		if !slices.Equal(a.disk.Files("/nvme/tree"), before) {
			w.fatalf("the refused open changed the directory")
		}
		// Another host, which knows no better, takes the old state further than the first one was.
		vb := w.must(w.newHost("b", bucket))
		next := &history{ops: base}
		for range 15 { // few enough that no Base takes the place of what the first host knows
			w.write(vb, next, 3)
			time.Sleep(time.Second)
		}
		w.close(vb, nil)
		va = w.must(a)
		w.holds(va, next.issued(), next.synced.Load())
		w.keptAside(a, true)
		w.close(va, nil)
	})
}

// TestReleaseAndReopen hands the volume from host to host without a wait, with everything.
func TestReleaseAndReopen(t *testing.T) {
	inWorlds(t, 6, func(w *world, bucket *objecttest.Bucket) {
		hosts := []*host{w.newHost("a", bucket), w.newHost("b", bucket)}
		hist := &history{}
		for i := range 6 {
			h := hosts[i%2]
			began := time.Now()
			v := w.must(h)
			if took := time.Since(began); took > time.Second {
				w.fatalf("turn %d waited %v after a Release", i, took)
			}
			if n := w.holds(v, hist.issued(), int64(len(hist.issued()))); n != len(hist.issued()) {
				w.fatalf("turn %d has %d writes", i, n)
			}
			if v.Status().Lossy {
				w.fatalf("turn %d thinks that writes were lost", i)
			}
			w.write(v, hist, 30)
			w.close(v, nil)
			w.keptAside(h, false)
		}
	})
}

// TestWriteBesideClose closes a volume while its clients write on: what was answered before the end
// is in the bucket if Close says so.
func TestWriteBesideClose(t *testing.T) {
	inWorlds(t, 10, func(w *world, bucket *objecttest.Bucket) {
		a := w.newHost("a", bucket)
		a.store.SetFaults(objecttest.Faults{LatencyMin: time.Millisecond, LatencyMax: 30 * time.Millisecond})
		va := w.must(a)
		hist := &history{}
		ended := make(chan error)
		go func() {
			ended <- w.workload(context.Background(), va, hist, rand.New(rand.NewPCG(w.seed, 2)), 1<<20)
		}()
		time.Sleep(time.Duration(w.rng.IntN(2000)) * time.Millisecond)
		w.close(va, nil)
		if err := <-ended; err == nil || errors.Is(err, errWrongData) {
			w.fatalf("the client ended with %v", err)
		}
		began := time.Now()
		vb := w.must(w.newHost("b", bucket))
		if time.Since(began) > time.Second {
			w.fatalf("the volume was not released")
		}
		w.holds(vb, hist.issued(), hist.synced.Load())
		w.close(vb, nil)
	})
}

// TestOutage takes the store away for ten minutes. Nothing fails and nothing is lost; requests wait
// when the lease has lapsed, unless they may go on; afterwards the bucket catches up.
func TestOutage(t *testing.T) {
	for _, c := range []bool{false, true} {
		t.Run(fmt.Sprintf("continue=%v", c), func(t *testing.T) {
			inWorlds(t, 4, func(w *world, bucket *objecttest.Bucket) { w.outage(bucket, c) })
		})
	}
}

func (w *world) outage(bucket *objecttest.Bucket, goOn bool) {
	w.durability = fence.Local
	a := w.newHost("a", bucket)
	v := w.must(a, func(o *Options) { o.ContinueOnLoss = goOn })
	hist := &history{}
	w.write(v, hist, 30)
	a.store.SetOutage(true)
	began := time.Now()
	ended := make(chan error)
	ctx, cancel := limit(time.Hour)
	defer cancel()
	var flushes, lapsed atomic.Int64
	go func() {
		rng := rand.New(rand.NewPCG(w.seed, 3))
		for time.Since(began) < 11*time.Minute {
			if err := w.workload(ctx, v, hist, rng, 3); err != nil {
				ended <- err
				return
			}
			if err := w.flush(ctx, v, hist); err != nil {
				ended <- err
				return
			}
			flushes.Add(1)
			if d := time.Since(began); d > 15*time.Second && d < 10*time.Minute {
				lapsed.Add(1)
			}
			time.Sleep(time.Second)
		}
		ended <- nil
	}()
	time.Sleep(10 * time.Minute)
	st := v.Status()
	if st.Failed != "" {
		w.fatalf("failed: %s", st.Failed)
	}
	if goOn && (lapsed.Load() < 60 || st.LagSeconds < 500) || !goOn && lapsed.Load() > 0 {
		w.fatalf("%d flushes answered without a lease, lag %v s", lapsed.Load(), st.LagSeconds)
	}
	a.store.SetOutage(false)
	if err := <-ended; err != nil {
		w.fatalf("a request failed in the outage: %v", err)
	}
	if flushes.Load() < 20 {
		w.fatalf("only %d flushes", flushes.Load())
	}
	w.uploaded(v)
	time.Sleep(time.Second)
	if st = v.Status(); st.LagSeconds > 2 {
		w.fatalf("lag %v s after the outage", st.LagSeconds)
	}
	w.holds(v, hist.issued(), int64(len(hist.issued())))
	w.kill(a, v)
	vb := w.must(w.newHost("b", bucket))
	w.holds(vb, hist.issued(), hist.synced.Load())
	w.close(vb, nil)
}

// TestCloseInOutage ends a volume while the store is away: in time, and with everything kept.
func TestCloseInOutage(t *testing.T) {
	inWorlds(t, 10, func(w *world, bucket *objecttest.Bucket) {
		w.durability = fence.Local
		a := w.newHost("a", bucket)
		a.store.SetFaults(objecttest.Faults{LatencyMin: time.Millisecond, LatencyMax: 200 * time.Millisecond})
		v := w.must(a)
		hist := &history{}
		w.write(v, hist, 60+w.rng.IntN(60))
		time.Sleep(time.Duration(w.rng.IntN(400)) * time.Millisecond)
		hang := w.rng.IntN(2) == 0
		a.store.SetPlan(func(objecttest.Request) objecttest.Fault {
			if hang {
				return objecttest.Hang
			}
			return objecttest.Fail
		})
		if w.rng.IntN(2) == 0 {
			time.Sleep(time.Duration(w.rng.IntN(30)) * time.Second)
		}
		w.close(v, ErrNotUploaded)
		a.store.SetPlan(nil)
		if w.rng.IntN(2) == 0 {
			a = &host{name: "a", disk: a.disk.CrashClone(w.seed, 50), boot: 2, bucket: bucket}
			a.connect(5)
		}
		v = w.must(a)
		w.holds(v, hist.issued(), hist.synced.Load())
		w.close(v, nil)
		v = w.must(w.newHost("b", bucket))
		w.holds(v, hist.issued(), hist.synced.Load())
		w.close(v, nil)
	})
}

// TestRefuseAfterLoss keeps the devices closed after a takeover that may have lost writes, through
// restarts, until somebody says otherwise.
func TestRefuseAfterLoss(t *testing.T) {
	inWorlds(t, 4, func(w *world, bucket *objecttest.Bucket) {
		w.durability = fence.Local
		refuse := func(o *Options) { o.RefuseAfterLoss = true }
		a, b := w.newHost("a", bucket), w.newHost("b", bucket)
		v := w.must(a, refuse)
		hist := &history{}
		w.write(v, hist, 20)
		w.uploaded(v)
		w.kill(a, v)
		refused := func(v *Volume, want bool) {
			w.t.Helper()
			_, err := v.Device(context.Background(), deviceName)
			if errors.Is(err, ErrRefused) != want || v.Status().Refused != want {
				w.fatalf("device: %v, refused %v", err, v.Status().Refused)
			}
		}
		v = w.must(b, refuse)
		refused(v, true)
		w.close(v, nil)
		v = w.must(b, refuse)
		refused(v, true)
		b = w.kill(b, v)
		v = w.must(b, refuse)
		refused(v, true)
		w.close(v, nil)
		c := w.newHost("c", bucket)
		v = w.must(c, refuse)
		refused(v, true)
		if !v.Accept() {
			w.fatalf("nothing to accept")
		}
		refused(v, false)
		w.holds(v, hist.issued(), hist.synced.Load())
		w.close(v, nil)
		v = w.must(c, refuse)
		refused(v, false)
		w.close(v, nil)
		v = w.must(b, refuse)
		refused(v, false)
		w.close(v, nil)
	})
}
