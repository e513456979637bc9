package object

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// HedgeOptions says when Hedge asks twice.
type HedgeOptions struct {
	Now func() time.Time // measures latencies; required

	// Budget is the share of Gets, from 0 to 1, that may be asked a second time; 0.05 if zero.
	Budget float64
	// DelayMin is the least time to wait before asking again; 5 ms if zero.
	DelayMin time.Duration
}

// The constants of hedging.
const (
	hedgeBudget   = 0.05
	hedgeDelayMin = 5 * time.Millisecond
	hedgeSaved    = 10.0    // hedges that a quiet time saves up, at most
	hedgeSizeMax  = 8 << 20 // bytes; larger Gets are bound by bandwidth, and are not asked twice
)

// Hedging is a Store that asks slow Gets twice. See Hedge.
type Hedging struct {
	store Store
	opts  HedgeOptions

	classes [3]latencies // by size of the Get: see class
	hedged  atomic.Int64
	won     atomic.Int64

	mu     sync.Mutex // taken alone
	budget float64    // hedges that may be sent
	pool   sync.Pool  // of *[]byte
}

// Hedge returns a store that sends a Get a second time when the first has taken longer than 95 %
// of the recent ones of its size, and takes the first answer. A bucket answers a few requests in
// a hundred many times slower than the others; a second try mostly meets a quick server. What is
// sent twice is bounded by a budget, so that a store which is slow because it is overloaded does
// not get twice the load. Other requests pass through.
//
// It belongs below Retry: a Get that fails before it was asked twice fails.
func Hedge(store Store, opts HedgeOptions) *Hedging {
	if opts.Budget <= 0 {
		opts.Budget = hedgeBudget
	}
	if opts.DelayMin <= 0 {
		opts.DelayMin = hedgeDelayMin
	}
	return &Hedging{store: store, opts: opts}
}

// Unwrap returns the store below.
func (h *Hedging) Unwrap() Store { return h.store }

// Get reads a range of an object.
func (h *Hedging) Get(ctx context.Context, key string, off int64, dst []byte) (int, Info, error) {
	if len(dst) > hedgeSizeMax {
		return h.store.Get(ctx, key, off, dst)
	}
	h.earn()
	lat := &h.classes[class(len(dst))]
	begin := h.opts.Now()
	delay, known := lat.p95()
	if !known {
		n, info, err := h.store.Get(ctx, key, off, dst)
		lat.add(err, h.opts.Now().Sub(begin))
		return n, info, err
	}

	// The first request runs here and writes to dst. The second, if the timer starts it, runs on
	// the timer's goroutine, has a buffer of its own, and cancels the first when it has won.
	first, cancelFirst := context.WithCancel(ctx)
	defer cancelFirst()
	second := &hedge{h: h, key: key, off: off, size: len(dst), won: cancelFirst, done: make(chan struct{})}
	second.ctx, second.cancel = context.WithCancel(ctx)
	defer second.cancel()
	timer := time.AfterFunc(max(delay, h.opts.DelayMin), second.run)

	n, info, err := h.store.Get(first, key, off, dst)
	if timer.Stop() {
		lat.add(err, h.opts.Now().Sub(begin))
		return n, info, err
	}
	if !errors.Is(err, ErrTransient) {
		second.cancel() // answered; the second is not needed
	}
	<-second.done
	defer second.free()
	if errors.Is(err, ErrTransient) && second.sent && !errors.Is(second.err, ErrTransient) {
		h.won.Add(1)
		n, info, err = copy(dst, (*second.buf)[:second.n]), second.info, second.err
	}
	lat.add(err, h.opts.Now().Sub(begin))
	return n, info, err
}

// hedge is the second request for one Get.
type hedge struct {
	h      *Hedging
	ctx    context.Context
	cancel context.CancelFunc
	key    string
	off    int64
	size   int
	won    context.CancelFunc
	done   chan struct{} // closed when what follows is set

	sent bool
	buf  *[]byte
	n    int
	info Info
	err  error
}

// run sends the request, if the budget allows it.
func (s *hedge) run() {
	defer close(s.done)
	if !s.h.spend() {
		return
	}
	s.sent = true
	s.h.hedged.Add(1)
	s.buf = s.h.buffer(s.size)
	s.n, s.info, s.err = s.h.store.Get(s.ctx, s.key, s.off, (*s.buf)[:s.size])
	if !errors.Is(s.err, ErrTransient) {
		s.won()
	}
}

// free gives the buffer back. The request has ended.
func (s *hedge) free() {
	if s.buf != nil {
		s.h.pool.Put(s.buf)
	}
}

// buffer returns a buffer of at least size bytes.
func (h *Hedging) buffer(size int) *[]byte {
	if b, ok := h.pool.Get().(*[]byte); ok && len(*b) >= size {
		return b
	}
	b := make([]byte, size)
	return &b
}

// earn adds one Get's share to the budget.
func (h *Hedging) earn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.budget = min(h.budget+h.opts.Budget, hedgeSaved)
}

// spend takes one hedge from the budget.
func (h *Hedging) spend() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.budget < 1 {
		return false
	}
	h.budget--
	return true
}

// Put passes through.
func (h *Hedging) Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error) {
	return h.store.Put(ctx, key, body, opts)
}

// Head passes through.
func (h *Hedging) Head(ctx context.Context, key string) (Info, error) { return h.store.Head(ctx, key) }

// List passes through.
func (h *Hedging) List(ctx context.Context, prefix, after string) (Page, error) {
	return h.store.List(ctx, prefix, after)
}

// Delete passes through.
func (h *Hedging) Delete(ctx context.Context, keys ...string) error {
	return h.store.Delete(ctx, keys...)
}

// Ordered passes through.
func (h *Hedging) Ordered() bool { return h.store.Ordered() }
