package fence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Owner is our turn at the volume. Any goroutine may call its methods.
type Owner struct {
	opts      Options
	store     *logStore
	epoch     Epoch
	localWins bool
	opened    *State // at our Claim
	previous  Previous
	fetched   shipCache

	lease leaseGate
	done  chan struct{} // closed when lease.ending has got its last value

	stop   context.CancelFunc // ends ctx
	ctx    context.Context    // of both goroutines
	wg     sync.WaitGroup
	kick   chan struct{} // wakes the appender; holds one
	basing chan struct{} // tells the keeper that a Base is due; holds one

	look look // of the last append; the appender's alone
	last kind // of the last append; the appender's alone

	mu      sync.Mutex // guards what follows; nothing is locked and nothing awaited under it
	log     *logState  // changed by the appender only
	adopted bool
	queue   []*request // Ships and Commits in the order of their calls
	base    *request   // a Base that is ready; goes out instead of a Renew
	release *request   // the last record
}

func newOwner(c *claimer, st *logState, claim sent, before Previous) *Owner {
	o := &Owner{
		opts:      c.opts,
		store:     c.store,
		epoch:     st.epoch,
		localWins: before.Ours,
		opened:    st.snapshot(),
		previous:  before,
		done:      make(chan struct{}),
		kick:      make(chan struct{}, 1),
		basing:    make(chan struct{}, 1),
		look:      claim.look,
		last:      kindClaim,
		log:       st,
	}
	o.lease.init(c.opts, claim.start)
	o.ctx, o.stop = context.WithCancel(context.Background())
	o.wg.Go(o.appendLoop)
	o.wg.Go(o.keep)
	return o
}

// Epoch returns our epoch.
func (o *Owner) Epoch() Epoch { return o.epoch }

// LocalWins reports whether the local directory holds everything in the log, so that it may be used as it stands.
func (o *Owner) LocalWins() bool { return o.localWins }

// State returns the volume's state at our Claim. The caller may keep but not change it.
func (o *Owner) State() *State { return o.opened }

// Previous tells of the owner before.
func (o *Owner) Previous() Previous { return o.previous }

// Adopt records that the local directory now equals State (materialised, or it won). Until then no
// append moves the lineage, and Ship and Commit fail with ErrNotAdopted.
func (o *Owner) Adopt() error {
	o.mu.Lock()
	at := mark{o.log.seq, o.log.hash}
	o.mu.Unlock()
	if err := o.opts.Lineage.update(func(m memory) memory { return m.adopt(at) }); err != nil {
		return err
	}
	o.mu.Lock()
	o.adopted = true
	o.mu.Unlock()
	o.askForBase()
	return nil
}

// adopt returns m once the directory is known to contain the record at.
func (m memory) adopt(at mark) memory {
	if at.seq < m.adopted.seq {
		return m
	}
	m.adopted, m.seen = at, max(m.seen, at.seq)
	m.pending = slices.DeleteFunc(slices.Clone(m.pending), func(i intent) bool { return i.seq <= at.seq })
	return m
}

// Ship appends the batches first..last, both included. first must be Covered()+1. body is not kept
// after the return. An error other than ErrFenced and ErrClosed says that the record was not sent:
// ctx ends the upload of a large body and the wait for the record's turn, but not an append
// that is under way, which ends with its answer, or with the owner.
func (o *Owner) Ship(ctx context.Context, first, last uint64, body []byte) error {
	if first == 0 || last < first || len(body) > bodyMax {
		return fmt.Errorf("fence: ship of %d to %d with %d bytes", first, last, len(body))
	}
	return o.submit(ctx, &request{rec: &record{kind: kindShip, first: first, last: last}, body: body})
}

// Commit appends a write-back round. It returns as Ship does. c must not change before the return.
func (o *Owner) Commit(ctx context.Context, c Commit) error {
	body := encodeCommit(&c)
	if len(body) > bodyMax {
		return fmt.Errorf("fence: commit of %d bytes", len(body))
	}
	if _, err := decodeCommit(c.LSN, body); err != nil {
		return fmt.Errorf("fence: commit that nobody could read: %w", err)
	}
	return o.submit(ctx, &request{rec: &record{kind: kindCommit, lsn: c.LSN}, commit: &c, body: body})
}

// submit places the body, queues the request and waits for its answer.
func (o *Owner) submit(ctx context.Context, r *request) error {
	if err := o.lease.ended(); err != nil {
		return err
	}
	ctx, cancel := o.joined(ctx)
	defer cancel()
	ref, err := o.place(ctx, r.rec.kind, r.body)
	if err != nil {
		return o.orEnded(err)
	}
	r.rec.body, r.done = ref, make(chan error, 1)
	err = o.enqueue(r)
	if err == nil {
		err = o.wait(ctx, r)
	}
	if err != nil && r.rec.body.object != "" {
		o.Discard([]string{r.rec.body.object})
	}
	return err
}

// joined returns ctx that also ends with the owner.
func (o *Owner) joined(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(o.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { unhook(); cancel(nil) }
}

// orEnded returns why the owner ended, or err if it runs.
func (o *Owner) orEnded(err error) error {
	if ended := o.lease.ended(); ended != nil {
		return ended
	}
	return err
}

// place returns where a body is to be: in its record, or uploaded.
func (o *Owner) place(ctx context.Context, k kind, body []byte) (bodyRef, error) {
	if len(body) <= inlineMax {
		return bodyRef{inline: body, size: int64(len(body))}, nil
	}
	ref, err := o.store.putBody(ctx, o.epoch, k, body)
	if err != nil && ref.object != "" {
		o.Discard([]string{ref.object})
	}
	return ref, err
}

func (o *Owner) enqueue(r *request) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.lease.ended() != nil:
		return o.lease.ended()
	case !o.adopted:
		return ErrNotAdopted
	}
	o.queue = append(o.queue, r)
	o.wake()
	return nil
}

// wait returns r's answer, or ctx's cause if r was still queued when ctx ended.
func (o *Owner) wait(ctx context.Context, r *request) error {
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	}
	o.mu.Lock()
	i := slices.Index(o.queue, r)
	if i >= 0 {
		o.queue = slices.Delete(o.queue, i, i+1)
	}
	o.mu.Unlock()
	if i >= 0 {
		return o.orEnded(fmt.Errorf("fence: %s not sent: %w", r.rec.kind, context.Cause(ctx)))
	}
	return <-r.done
}

// wake makes the appender look again.
func (o *Owner) wake() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// Covered returns the highest LSN that the log holds: of any Ship, or of the last Commit.
func (o *Owner) Covered() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.covered()
}

// ShippedBytes returns the bytes of Ships since the last Commit.
func (o *Owner) ShippedBytes() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.shipBytes
}

// Valid returns nil if a request may be answered now: the lease holds. It never blocks and takes
// no lock. Its errors are ErrLapsed, ErrFenced and ErrClosed.
func (o *Owner) Valid() error { return o.lease.valid() }

// Wait returns once Valid would return nil; with ErrFenced or ErrClosed when that will never be, or
// with ctx's error.
func (o *Owner) Wait(ctx context.Context) error {
	for {
		renewed := o.lease.next()
		err := o.lease.valid()
		if !errors.Is(err, ErrLapsed) {
			return err
		}
		o.wake() // after a suspend its timer is late
		select {
		case <-renewed:
		case <-o.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Done is closed when the owner is fenced or closed; Err then says which.
func (o *Owner) Done() <-chan struct{} { return o.done }

// Err returns nil, ErrFenced or ErrClosed.
func (o *Owner) Err() error {
	select {
	case <-o.done:
		return o.lease.ended()
	default:
		return nil
	}
}

// Release ends our turn cleanly: Valid fails from its beginning, nothing is appended after it. What
// is queued fails with ErrClosed; an append under way is answered first. When ctx ends before the
// Release is answered, it may still land. A second call, or one after Close, fails with ErrClosed.
func (o *Owner) Release(ctx context.Context) error {
	if err := o.lease.end(endReleasing); err != nil {
		return err
	}
	r := &request{rec: &record{kind: kindRelease}, done: make(chan error, 1)}
	o.mu.Lock()
	o.release = r
	o.mu.Unlock()
	o.wake()
	err, answered := error(nil), false
	select {
	case err = <-r.done:
		answered = true
	case <-o.done: // fenced, or the answer is on its way
	case <-ctx.Done():
	}
	o.finish(endClosed)
	o.wg.Wait()
	if !answered {
		err = o.releaseOutcome(ctx, r)
	}
	if errors.Is(o.Err(), ErrFenced) {
		return ErrFenced
	}
	return err
}

// releaseOutcome returns what became of a Release once the appender is gone.
func (o *Owner) releaseOutcome(ctx context.Context, r *request) error {
	select {
	case err := <-r.done:
		if err == nil {
			return nil
		}
	default:
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("fence: release not answered: %w", err)
	}
	return ErrClosed
}

// Close ends our goroutines without a Release. An append under way may still land.
func (o *Owner) Close() error {
	o.finish(endClosed)
	o.wg.Wait()
	return nil
}

// finish gives the turn its end, once, and fails what is queued.
func (o *Owner) finish(as int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.lease.finish(as) {
		return
	}
	o.stop()
	for _, r := range o.queue {
		r.done <- o.lease.ended()
	}
	o.queue = nil
	close(o.done)
}

// leaseGate says whether requests may be answered. Its methods take no lock, next apart.
type leaseGate struct {
	lease    time.Duration
	forever  bool // a lapsed lease does not count
	boottime func() time.Duration

	started atomic.Int64 // boot time at which the last append that succeeded was started
	ending  atomic.Int32

	mu      sync.Mutex // guards renewed
	renewed chan struct{}
}

// How a turn ends; larger values are final.
const (
	endRunning   int32 = iota
	endReleasing       // closed to callers, while the Release is on its way
	endClosed
	endFenced
)

func (g *leaseGate) init(opts Options, started time.Duration) {
	g.lease, g.forever, g.boottime = opts.Lease, opts.ContinueOnLoss, opts.Boottime
	g.renewed = make(chan struct{})
	g.started.Store(int64(started))
}

func (g *leaseGate) valid() error {
	if err := g.ended(); err != nil {
		return err
	}
	if g.forever || leaseHolds(time.Duration(g.started.Load()), g.boottime(), g.lease) {
		return nil
	}
	return ErrLapsed
}

func (g *leaseGate) ended() error {
	switch g.ending.Load() {
	case endRunning:
		return nil
	case endFenced:
		return ErrFenced
	}
	return ErrClosed
}

// end moves from running to as, or returns why that is too late.
func (g *leaseGate) end(as int32) error {
	if !g.ending.CompareAndSwap(endRunning, as) {
		return g.ended()
	}
	return nil
}

// finish moves to one of the final ends and reports whether it was the first to do so.
func (g *leaseGate) finish(as int32) bool {
	for {
		old := g.ending.Load()
		if old >= endClosed {
			return false
		}
		if g.ending.CompareAndSwap(old, as) {
			return true
		}
	}
}

// renew starts the lease anew and lets go who waits for it.
func (g *leaseGate) renew(started time.Duration) {
	g.started.Store(int64(started))
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.renewed)
	g.renewed = make(chan struct{})
}

// next returns a channel that closes at the next renewal.
func (g *leaseGate) next() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.renewed
}
