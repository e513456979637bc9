package fence

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// request is a record that waits for its turn.
type request struct {
	rec    *record
	commit *Commit    // of a Commit
	done   chan error // holds one; nil for a Renew
}

// answer tells who waits for the request.
func (r *request) answer(err error) {
	if r.done != nil {
		r.done <- err
	}
}

// appendLoop sends one record at a time until the turn ends. It owns every append: one whose caller
// went away is still brought to its end.
func (o *Owner) appendLoop() {
	for {
		r := o.nextRequest()
		if r == nil {
			o.failReady()
			return
		}
		err := o.append(r)
		o.landed()
		switch {
		case errors.Is(err, ErrFenced):
			o.opts.Logger.Error("fence: fenced, this process may not write any more", "error", err)
			o.finish(endFenced)
			err = ErrFenced
		case o.ctx.Err() != nil && err != nil:
			err = o.orEnded(err)
		case err == nil && r.rec.kind == kindRelease:
			o.finish(endClosed)
		case err != nil:
			o.opts.Logger.Error("fence: record not sent", "kind", r.rec.kind.String(), "error", err)
			o.pauseAfterFailure(r)
		}
		o.last = r.rec.kind
		r.answer(err)
	}
}

// landed notes that nothing is under way.
func (o *Owner) landed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flying = nil
}

// failReady answers the Base and the Release that no append will take.
func (o *Owner) failReady() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range []*request{o.base, o.release} {
		if r != nil {
			r.answer(o.lease.ended())
		}
	}
	o.base, o.release = nil, nil
}

// nextRequest returns what goes out next, nil when the turn is over.
func (o *Owner) nextRequest() *request {
	for o.ctx.Err() == nil {
		due := time.Duration(o.lease.started.Load()) + o.opts.Lease/3 - o.opts.Boottime()
		if r := o.pick(due <= 0); r != nil {
			return r
		}
		t := time.NewTimer(due)
		select {
		case <-t.C:
		case <-o.kick:
		case <-o.ctx.Done():
		}
		t.Stop()
	}
	return nil
}

// pick takes the next request and notes that it is under way: the Release before all; when the lease is due for renewal, a Base that is ready
// or a Renew, ahead of what waits; else the queue. Where the store is so slow that the lease is
// always due, every other record comes from the queue: it renews as well. A Base does not wait for
// its turn in a volume that is busy.
func (o *Owner) pick(due bool) *request {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flying = o.choose(due)
	return o.flying
}

// choose is pick with o.mu held.
func (o *Owner) choose(due bool) *request {
	if o.release != nil {
		for _, r := range o.queue {
			r.answer(ErrClosed)
		}
		o.queue = nil
		r := o.release
		o.release = nil
		return r
	}
	if o.base != nil && (due || o.last != kindRenew) {
		r := o.base
		o.base = nil
		return r
	}
	if len(o.queue) > 0 && (!due || o.last == kindRenew) {
		r := o.queue[0]
		o.queue = o.queue[1:]
		return r
	}
	if due {
		return &request{rec: &record{kind: kindRenew}}
	}
	return nil
}

// append sends one record and applies it to the state. Any error but ErrFenced and the end of o.ctx
// means that it was not sent.
func (o *Owner) append(r *request) error {
	if err := o.admit(r); err != nil {
		return err
	}
	seq, err := o.prepare(r.rec)
	if err != nil {
		return err
	}
	s, err := o.store.send(o.ctx, r.rec, seq, o.look, o.opts.Lease)
	if err != nil {
		return err
	}
	o.look = s.look
	o.mu.Lock()
	err = o.log.apply(applied{seq: seq, hash: s.hash, rec: r.rec, commit: r.commit}, o.opts.Boottime())
	due := o.adopted && o.log.baseDue()
	o.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: our own record does not apply: %w", ErrFenced, err)
	}
	o.lease.renew(s.start)
	if due {
		o.askForBase()
	}
	if r.rec.kind == kindRenew || r.rec.kind == kindRelease {
		o.noteHead()
	}
	return nil
}

// admit refuses what would not apply, before it is sent.
func (o *Owner) admit(r *request) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch r.rec.kind {
	case kindShip:
		if c := o.log.covered(); r.rec.first != c+1 {
			return fmt.Errorf("fence: ship of %d to %d, the log covers %d", r.rec.first, r.rec.last, c)
		}
	case kindCommit:
		if err := o.log.checkCommit(r.commit); err != nil {
			return fmt.Errorf("fence: %w", err)
		}
	}
	return nil
}

// prepare gives a record its place, and makes its nonce durable where another start of ours must
// know it.
func (o *Owner) prepare(rec *record) (Seq, error) {
	rec.epoch = o.epoch
	if _, err := io.ReadFull(o.store.rand, rec.nonce[:]); err != nil {
		return 0, fmt.Errorf("fence: nonce: %w", err)
	}
	head, adopted := o.head()
	rec.prev = head.hash
	if !rec.kind.substantive() {
		return head.seq + 1, nil
	}
	err := o.opts.Lineage.update(func(m memory) memory {
		if adopted {
			m = m.adopt(head)
		}
		m.seen = max(m.seen, head.seq)
		m.pending = append(m.pending[:len(m.pending):len(m.pending)], intent{head.seq + 1, rec.nonce})
		return m
	})
	return head.seq + 1, err
}

func (o *Owner) head() (mark, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return mark{o.log.seq, o.log.hash}, o.adopted
}

// noteHead remembers the head after records that put nothing on disk before. Losing this is harmless.
func (o *Owner) noteHead() {
	head, adopted := o.head()
	err := o.opts.Lineage.update(func(m memory) memory {
		if adopted {
			m = m.adopt(head)
		}
		m.seen = max(m.seen, head.seq)
		return m
	})
	if err != nil {
		o.opts.Logger.Warn("fence: the lineage file was not updated", "error", err)
	}
}

// pauseAfterFailure keeps a record that cannot even be prepared from being tried in a tight loop.
func (o *Owner) pauseAfterFailure(r *request) {
	if r.done == nil {
		_ = o.store.sleep(o.ctx, o.opts.Lease/20) // its end is seen by the caller
	}
}

// askForBase tells the keeper to see whether a Base is due.
func (o *Owner) askForBase() {
	select {
	case o.basing <- struct{}{}:
	default:
	}
}
