package objecttest

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"zerofs/tiers/object"
)

// The causes of injected errors.
var (
	ErrInjected = errors.New("injected fault")
	ErrOutage   = errors.New("injected outage")
	ErrKilled   = errors.New("process was killed")
)

// Fault is what happens to one request.
type Fault uint8

// The faults.
const (
	Deliver  Fault = iota // none
	Fail                  // no effect, ErrTransient
	Lose                  // the effect, and then ErrTransient
	Late                  // ErrTransient now, the effect at a later time; on Get, Head and List it is Fail
	Hang                  // no effect and no answer until the context ends
	HangLose              // the effect, and no answer until the context ends
)

// Faults are rates of faults, each from 0 to 1, and their measures.
type Faults struct {
	Fail, Lose, Late, Hang, HangLose float64

	// LateMin and LateMax bound how long after its request a late effect lands. With both zero
	// it lands only when Bucket.Land says so.
	LateMin, LateMax time.Duration

	// LatencyMin and LatencyMax bound what each request takes, half of it before its effect and
	// half after. Within a synctest bubble it costs no time.
	LatencyMin, LatencyMax time.Duration
}

// Request is one request as hooks see it.
type Request struct {
	N        int    // of this connection, from 1
	Attempt  int    // how often this connection asked for the same operation and key, from 1
	Op       string // one of object's Op constants
	Key      string // the first key of a delete, the prefix of a list
	IfAbsent bool
	Size     int64 // bytes of a put's body or of a get's buffer
}

// Counts is how many requests a connection made, and what became of them.
type Counts struct {
	Put, Get, Head, List, Delete int
	BytesPut, BytesGot           int64
	Failed, Lost, Late, Hung     int // by faults, outages included in Failed
}

// Faulty is one process's connection to a Bucket. It implements object.Store.
type Faulty struct {
	bucket *Bucket
	seed   uint64
	killed chan struct{} // closed under the bucket's lock

	mu        sync.Mutex // taken alone
	faults    Faults
	outage    bool
	unordered bool
	pageMax   int
	plan      func(Request) Fault
	before    func(context.Context, Request) error
	after     func(Request, error) error
	asked     map[asked]int
	n         int
	counts    Counts
}

type asked struct{ op, key string }

var _ object.Store = (*Faulty)(nil)

// NewFaulty returns a connection without faults to a new bucket; NewBucket tells about now.
func NewFaulty(seed uint64, now func() time.Time) *Faulty { return NewBucket(now).Connect(seed) }

// Connect returns a new connection, without faults until it is told of some.
func (b *Bucket) Connect(seed uint64) *Faulty {
	return &Faulty{bucket: b, seed: seed, killed: make(chan struct{}), pageMax: object.PageMax, asked: map[asked]int{}}
}

// Bucket returns what the connection leads to.
func (f *Faulty) Bucket() *Bucket { return f.bucket }

// SetFaults replaces the rates of faults.
func (f *Faulty) SetFaults(faults Faults) { f.set(func() { f.faults = faults }) }

// SetOutage begins or ends an outage, in which every request of this connection is Fail.
func (f *Faulty) SetOutage(on bool) { f.set(func() { f.outage = on }) }

// SetUnordered makes List answer in an order of its own, with page tokens, as some stores do.
func (f *Faulty) SetUnordered(on bool) { f.set(func() { f.unordered = on }) }

// SetPageMax sets the most entries of a page, from 1 to object.PageMax.
func (f *Faulty) SetPageMax(n int) { f.set(func() { f.pageMax = n }) }

// SetPlan makes plan decide on each request instead of the rates; nil brings these back.
func (f *Faulty) SetPlan(plan func(Request) Fault) { f.set(func() { f.plan = plan }) }

// SetBefore sets a hook that runs before each request's effect. It may wait. Its error is the
// request's answer, and then there is no effect.
func (f *Faulty) SetBefore(hook func(context.Context, Request) error) {
	f.set(func() { f.before = hook })
}

// SetAfter sets a hook that runs after each request's effect, is told the store's answer and
// returns the error to answer with.
func (f *Faulty) SetAfter(hook func(Request, error) error) { f.set(func() { f.after = hook }) }

// Kill ends the process behind the connection: every request from now on fails without effect,
// and so do those whose effect has not happened when Kill returns, late ones excepted. It cannot
// be undone.
func (f *Faulty) Kill() {
	f.bucket.mu.Lock() // an effect happens before Kill or never
	defer f.bucket.mu.Unlock()
	select {
	case <-f.killed:
	default:
		close(f.killed)
	}
}

// Counts returns how many requests there were.
func (f *Faulty) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// ResetCounts makes Counts begin from zero; Request.N goes on.
func (f *Faulty) ResetCounts() { f.set(func() { f.counts = Counts{} }) }

func (f *Faulty) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// verdict is all that was decided on one request when it arrived.
type verdict struct {
	req     Request
	fault   Fault
	outage  bool
	latency time.Duration
	lateBy  time.Duration // negative: until Land
	before  func(context.Context, Request) error
	after   func(Request, error) error
}

// judge counts a request and decides what happens to it.
func (f *Faulty) judge(req Request) verdict {
	f.mu.Lock()
	req = f.count(req)
	v := verdict{req: req, before: f.before, after: f.after, lateBy: -1, outage: f.outage}
	faults, plan := f.faults, f.plan
	f.mu.Unlock()

	rng := f.draw(req)
	v.latency = between(rng, faults.LatencyMin, faults.LatencyMax)
	if faults.LateMin > 0 || faults.LateMax > 0 {
		v.lateBy = between(rng, faults.LateMin, faults.LateMax)
	}
	switch {
	case v.outage:
		v.fault = Fail
	case plan != nil:
		v.fault = plan(req)
	default:
		v.fault = faults.pick(rng.Float64())
	}
	if v.fault == Late && req.Op != object.OpPut && req.Op != object.OpDelete {
		v.fault = Fail
	}
	f.countFault(v.fault)
	return v
}

// count gives req its numbers. The caller holds mu.
func (f *Faulty) count(req Request) Request {
	f.n++
	k := asked{req.Op, req.Key}
	f.asked[k]++
	req.N, req.Attempt = f.n, f.asked[k]
	switch req.Op {
	case object.OpPut:
		f.counts.Put++
		f.counts.BytesPut += req.Size
	case object.OpGet:
		f.counts.Get++
	case object.OpHead:
		f.counts.Head++
	case object.OpList:
		f.counts.List++
	case object.OpDelete:
		f.counts.Delete++
	}
	return req
}

func (f *Faulty) countFault(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch fault {
	case Fail:
		f.counts.Failed++
	case Lose:
		f.counts.Lost++
	case Late:
		f.counts.Late++
	case Hang, HangLose:
		f.counts.Hung++
	}
}

// draw returns the random numbers that belong to a request.
func (f *Faulty) draw(req Request) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(req.Op))
	h.Write([]byte{0})
	h.Write([]byte(req.Key))
	return rand.New(rand.NewPCG(f.seed, h.Sum64()+uint64(req.Attempt)*0x9e3779b97f4a7c15))
}

// pick turns a number from [0,1) into a fault.
func (s Faults) pick(x float64) Fault {
	for _, r := range []struct {
		rate  float64
		fault Fault
	}{{s.Fail, Fail}, {s.Lose, Lose}, {s.Late, Late}, {s.Hang, Hang}, {s.HangLose, HangLose}} {
		if x < r.rate {
			return r.fault
		}
		x -= r.rate
	}
	return Deliver
}

func between(rng *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(rng.Int64N(int64(hi-lo)+1))
}

// run takes a request through its faults. effect does it on the bucket; late leaves it for later.
func (f *Faulty) run(ctx context.Context, req Request, effect func() error, late func(by time.Duration)) error {
	v := f.judge(req)
	fail := func(cause error) error {
		return &object.Error{Op: v.req.Op, Key: v.req.Key, Kind: object.Transient, Err: cause}
	}
	if err := f.wait(ctx, v.latency/2); err != nil {
		return fail(err)
	}
	if v.before != nil {
		if err := v.before(ctx, v.req); err != nil {
			return err
		}
		if err := f.wait(ctx, 0); err != nil {
			return fail(err)
		}
	}
	switch v.fault {
	case Fail:
		if v.outage {
			return fail(ErrOutage)
		}
		return fail(ErrInjected)
	case Late:
		late(v.lateBy)
		return fail(ErrInjected)
	case Hang:
		return fail(f.hang(ctx))
	}
	err := effect()
	if v.after != nil {
		err = v.after(v.req, err)
	}
	switch v.fault {
	case Lose:
		err = fail(ErrInjected)
	case HangLose:
		err = fail(f.hang(ctx))
	}
	if lost := f.wait(ctx, v.latency-v.latency/2); lost != nil {
		return fail(lost) // the answer found nobody
	}
	return err
}

// wait takes d of time, and reports a request that nobody waits for any more.
func (f *Faulty) wait(ctx context.Context, d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		case <-f.killed:
		}
	}
	select {
	case <-f.killed:
		return ErrKilled
	default:
		return ctx.Err()
	}
}

func (f *Faulty) hang(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.killed:
		return ErrKilled
	}
}
