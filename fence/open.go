package fence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	leaseMin         = time.Second
	retentionDefault = time.Hour
	pollsPerLease    = 10
)

// Open reads the log, waits as Takeover says, claims the volume and begins to renew the lease.
//
// It fails with ErrOwned when Takeover is Never and another owner did not release the volume, with
// ErrRolledBack when the store is older than what the lineage saw, with ErrCorrupt when a record
// that is needed cannot be read, and with ctx's cause. Options.Rand is read by several goroutines,
// one at a time, and must be unpredictable.
func Open(ctx context.Context, opts Options) (*Owner, error) {
	if err := checkOptions(&opts); err != nil {
		return nil, err
	}
	s, err := newLogStore(opts.Store, opts.Key, opts.Volume, opts.Lease)
	if err != nil {
		return nil, err
	}
	s.boottime, s.logger, s.rand = opts.Boottime, opts.Logger, &lockedReader{r: opts.Rand}
	c := &claimer{opts: opts, store: s}
	return c.run(ctx)
}

func checkOptions(o *Options) error {
	if o.Retention == 0 {
		o.Retention = retentionDefault
	}
	if o.Waiting == nil {
		o.Waiting = func(string) func() { return func() {} }
	}
	switch {
	case o.Store == nil || o.Key == nil || o.Lineage == nil || o.Boottime == nil || o.Rand == nil || o.Logger == nil:
		return errors.New("fence: an option is missing")
	case o.Lease < leaseMin || o.Lease > LeaseMax:
		return fmt.Errorf("fence: lease of %v is not between %v and %v", o.Lease, leaseMin, LeaseMax)
	case o.Retention < 4*o.Lease:
		return fmt.Errorf("fence: retention of %v is less than four leases of %v", o.Retention, o.Lease)
	case o.Durability != Local && o.Durability != Object:
		return fmt.Errorf("fence: unknown durability %d", o.Durability)
	case len(o.Owner) > nameMax:
		return fmt.Errorf("fence: owner's name has %d bytes, at most %d are allowed", len(o.Owner), nameMax)
	}
	return nil
}

// claimer is one Open.
type claimer struct {
	opts  Options
	store *logStore
	seen  Seq // the highest record that this Open has read

	// A wait for a lease is one wait, however often its owner renews and the watch starts anew.
	waitsFor Epoch  // whose lease is waited for; zero: none
	waitDone func() // ends that wait; nil: there is none
}

// run reads and claims until a Claim won its slot.
func (c *claimer) run(ctx context.Context) (*Owner, error) {
	defer c.endWait()
	for {
		v, err := c.read(ctx)
		if err != nil {
			return nil, err
		}
		ready, err := c.await(ctx, v)
		if err != nil {
			return nil, err
		}
		if !ready {
			continue // the head moved: read on, and wait anew
		}
		c.endWait()
		o, err := c.claim(ctx, v)
		if err != nil || o != nil {
			return o, err
		}
	}
}

// beginWait tells, once, that the lease of st's owner has to end.
func (c *claimer) beginWait(st *logState) {
	if c.waitDone != nil && c.waitsFor == st.epoch {
		return
	}
	c.endWait()
	c.waitsFor, c.waitDone = st.epoch, c.opts.Waiting(fmt.Sprintf("the lease of owner %q (epoch %d) to end", st.claim.owner, st.epoch))
}

func (c *claimer) endWait() {
	if c.waitDone != nil {
		c.waitDone()
		c.waitDone = nil
	}
}

func (c *claimer) read(ctx context.Context) (*view, error) {
	if c.waitDone == nil { // else it is part of the wait for a lease
		defer c.opts.Waiting("the object store: reading the volume's log")()
	}
	v, err := c.store.read(ctx, max(c.seen, c.opts.Lineage.memory().seen))
	if err != nil {
		return nil, err
	}
	c.seen = v.head()
	return v, nil
}

// await returns true when a Claim may be sent, false when the head has moved meanwhile. It keeps
// v.look fresh.
func (c *claimer) await(ctx context.Context, v *view) (bool, error) {
	st := v.state
	if mayClaimAtOnce(v.run, c.opts.Lineage.memory(), st.epoch, st.claim.identity, c.opts.Identity) {
		return true, nil
	}
	switch c.opts.Takeover {
	case Force:
		c.opts.Logger.Warn("fence: taking the volume from its owner without a wait",
			"owner", st.claim.owner, "epoch", uint64(st.epoch))
		return true, nil
	case Never:
		return false, fmt.Errorf("%w: %q, epoch %d", ErrOwned, st.claim.owner, st.epoch)
	}
	c.beginWait(st)
	return c.watch(ctx, v)
}

// watch returns true when the head has not moved for its owner's lease and a tenth more, false when
// it moved. The time runs from after the head was read.
func (c *claimer) watch(ctx context.Context, v *view) (bool, error) {
	lease := v.state.claim.lease
	since := c.opts.Boottime()
	for {
		now := c.opts.Boottime()
		if waitOver(since, now, lease) {
			return true, nil
		}
		rest := since + lease + lease/10 - now
		if err := c.pause(ctx, min(rest, max(lease/pollsPerLease, time.Second/10))); err != nil {
			return false, err
		}
		l, err := c.store.list(ctx, v.head())
		if err != nil {
			return false, err
		}
		if _, high := highestRun(l.seqs); high != v.head() {
			return false, nil
		}
		v.look = l.look
	}
}

func (c *claimer) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("fence: waiting for the volume: %w", context.Cause(ctx))
	}
}

// claim sends one Claim on top of v. It returns nil without an error when the slot was lost.
func (c *claimer) claim(ctx context.Context, v *view) (*Owner, error) {
	st := v.state
	before := Previous{
		Epoch:      st.epoch,
		Owner:      st.claim.owner,
		Durability: st.claim.durability,
		Released:   st.released,
		Ours:       localWins(v.below, v.run, c.opts.Lineage.memory()),
		Diverged:   diverged(v.below, v.run, c.opts.Lineage.memory()),
	}
	r := &record{kind: kindClaim, epoch: st.epoch + 1, prev: st.hash, claim: claimInfo{
		identity:   c.opts.Identity,
		owner:      c.opts.Owner,
		lease:      c.opts.Lease,
		durability: c.opts.Durability,
	}}
	seq := v.head() + 1
	if err := c.intend(v, r, seq); err != nil {
		return nil, err
	}
	done := c.opts.Waiting("the object store: claiming the volume")
	defer done()
	sent, err := c.store.send(ctx, r, seq, v.look, c.opts.Lease)
	switch {
	case errors.Is(err, ErrFenced):
		c.opts.Logger.Info("fence: another record took the place of our claim", "seq", uint64(seq))
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("fence: claim epoch %d: %w", r.epoch, err)
	}
	if err := st.apply(applied{seq: seq, hash: sent.hash, rec: r}, c.opts.Boottime()); err != nil {
		return nil, err
	}
	return newOwner(c, st, sent, before), nil
}

// intend chooses the Claim's nonce and makes it durable before the Claim is sent. Where claims that
// never got an answer have filled half the file, the nonce of one for this place serves again: two
// records under one nonce are told apart by their bytes.
func (c *claimer) intend(v *view, r *record, seq Seq) error {
	if _, err := io.ReadFull(c.store.rand, r.nonce[:]); err != nil {
		return fmt.Errorf("fence: nonce: %w", err)
	}
	return c.opts.Lineage.update(func(m memory) memory {
		m = remember(v.below, v.run, m)
		if len(m.pending) > pendingMax/2 {
			for _, p := range m.pending {
				if p.seq == seq {
					r.nonce = p.nonce
					return m
				}
			}
		}
		m.pending = append(m.pending, intent{seq, r.nonce})
		return m
	})
}
