package fence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
	flying  *request   // under way
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

// Ship appends the batches first..last, both included. first must be Covered()+1.
//
// When ctx ends during the upload of a large body, or before the record's turn, the record is never
// sent. When it ends during the append, the error wraps ErrUnanswered: the append goes on, ahead of
// whatever is asked for next, and Covered tells once it is in the log. After ErrFenced and ErrClosed
// too the record may be in the log; after any other error it is not.
func (o *Owner) Ship(ctx context.Context, first, last uint64, body []byte) error {
	if first == 0 || last < first || len(body) > bodyMax {
		return fmt.Errorf("fence: ship of %d to %d with %d bytes", first, last, len(body))
	}
	if len(body) <= inlineMax {
		body = bytes.Clone(body) // the append may outlive the call
	}
	return o.submit(ctx, &request{rec: &record{kind: kindShip, first: first, last: last}}, body)
}

// Commit appends a write-back round. It returns as Ship does. After ErrUnanswered the next Commit
// may come with deltas against the state before this one: they apply to either.
func (o *Owner) Commit(ctx context.Context, c Commit) error {
	body := encodeCommit(&c)
	if len(body) > bodyMax {
		return fmt.Errorf("fence: commit of %d bytes", len(body))
	}
	own, err := decodeCommit(c.LSN, body) // a copy, since the append may outlive the call
	if err != nil {
		return fmt.Errorf("fence: commit that nobody could read: %w", err)
	}
	return o.submit(ctx, &request{rec: &record{kind: kindCommit, lsn: c.LSN}, commit: own}, body)
}

// submit places the body, queues the request and waits for its answer.
func (o *Owner) submit(ctx context.Context, r *request, body []byte) error {
	if err := o.lease.ended(); err != nil {
		return err
	}
	ctx, cancel := o.joined(ctx)
	defer cancel()
	ref, err := o.place(ctx, r.rec.kind, body)
	if err != nil {
		return o.orEnded(err)
	}
	r.rec.body, r.done = ref, make(chan error, 1)
	err = o.enqueue(r)
	if err == nil {
		err = o.wait(ctx, r)
	}
	if err != nil && !errors.Is(err, ErrUnanswered) && r.rec.body.object != "" {
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

// wait returns r's answer. When ctx ends first, a queued r is taken back, and one under way goes on.
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
	if o.ctx.Err() != nil {
		return <-r.done // the end of our turn answers everything
	}
	select {
	case err := <-r.done:
		return err
	default:
		return fmt.Errorf("%w: %s: %w", ErrUnanswered, r.rec.kind, context.Cause(ctx))
	}
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
