package fence

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"zerofs/tiers/object"
)

const deleteMax = 1000 // keys in one request

// When a Base is due: often enough that a start reads a few hundred records, seldom enough that
// Bases are a small part of what is written.
const (
	baseRecords    = 64
	baseRecordsMax = 512
	baseCommits    = 1 << 20 // bytes of Commit bodies
)

// baseDue reports whether the records since the last Base should be made needless by a new one.
func (s *logState) baseDue() bool {
	n := s.records
	return n >= baseRecordsMax || s.commitBytes >= max(baseCommits, s.baseBytes) ||
		n >= baseRecords && s.commitBytes+s.shipBytes+int64(n)*256 >= s.baseBytes/4
}

// keep makes Bases, and after them writes the hint and trims. All but Bases are spread over time, so
// that an idle volume stays within its requests.
func (o *Owner) keep() {
	tick := time.NewTicker(o.opts.Lease)
	defer tick.Stop()
	var t trimmer
	for {
		select {
		case <-o.ctx.Done():
			return
		case <-o.basing:
			if err := o.makeBase(o.ctx); err != nil && o.ctx.Err() == nil {
				o.opts.Logger.Warn("fence: no base was made", "error", err)
			}
		case <-tick.C:
			for o.ctx.Err() == nil && o.tend(&t) {
				continue
			}
		}
	}
}

// makeBase appends a Base if one is due. The body stands for the head of now; records may be
// appended while it is uploaded, and come on top of it.
func (o *Owner) makeBase(ctx context.Context) error {
	o.mu.Lock()
	if !o.adopted || !o.log.baseDue() {
		o.mu.Unlock()
		return nil
	}
	asOf, b := o.log.seq, o.log.toBase()
	o.mu.Unlock()
	body := encodeBase(b)
	if len(body) > bodyMax {
		return fmt.Errorf("fence: base of %d bytes", len(body))
	}
	if _, err := decodeBase(body); err != nil {
		return fmt.Errorf("fence: base that nobody could read: %w", err)
	}
	ref, err := o.place(ctx, kindBase, body)
	if err != nil {
		return err
	}
	r := &request{rec: &record{kind: kindBase, asOf: asOf, body: ref}, done: make(chan error, 1)}
	o.mu.Lock()
	o.base = r
	o.mu.Unlock()
	o.wake()
	select {
	case err = <-r.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err != nil && ref.object != "" {
		o.Discard([]string{ref.object})
	}
	return err
}

// trimmer is the keeper's memory between ticks.
type trimmer struct {
	hinted Seq           // the Base that the hint is of
	doomed []string      // keys of records to delete, ascending
	more   bool          // the last listing found more than that
	next   time.Duration // boot time of the next listing
	sweep  sweeper
}

// tend does at most one request's worth of housekeeping and reports whether more is pressing.
func (o *Owner) tend(t *trimmer) (more bool) {
	o.mu.Lock()
	base, limit := o.log.base, trimLimit(o.log.asOf, o.log.ships)
	hint := o.log.asOf + 1
	adopted := o.adopted
	o.mu.Unlock()
	if !adopted {
		return false
	}
	now := o.opts.Boottime()
	var err error
	switch {
	case base != 0 && t.hinted != base:
		if err = o.writeHint(hint); err == nil {
			t.hinted = base
		}
	case len(t.doomed) > 0:
		err = o.deleteRecords(t)
		more = t.more
	case base != 0 && (t.more || now >= t.next):
		err = o.listOld(t, limit)
		more = t.more
	case t.sweep.due(now):
		err = o.sweepPage(&t.sweep)
	}
	if err != nil && o.ctx.Err() == nil {
		o.opts.Logger.Warn("fence: housekeeping failed, it is tried again", "error", err)
	}
	return more && err == nil
}

func (o *Owner) writeHint(from Seq) error {
	return attempt(o.ctx, o.store.timeout, func(ctx context.Context) error {
		_, err := o.store.store.Put(ctx, hintKey, bytes.NewReader(encodeHint(from)), object.PutOptions{})
		return err
	})
}

// listOld finds the records at or below limit that are older than the retention by the store's clock.
func (o *Owner) listOld(t *trimmer, limit Seq) error {
	var l *listing
	err := attempt(o.ctx, o.store.timeout*4, func(ctx context.Context) (err error) {
		l, err = o.store.oldest(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("fence: list old records: %w", err)
	}
	t.next = o.opts.Boottime() + o.opts.Retention/8
	t.doomed, t.more = l.expired(limit, o.opts.Retention)
	return nil
}

// expired returns the keys of the records that may be deleted, ascending, and whether there are
// more than one request takes.
func (l *listing) expired(limit Seq, retention time.Duration) (keys []string, more bool) {
	for _, q := range l.seqs {
		if q > limit || l.look.date.IsZero() || l.ages[q].IsZero() || l.look.date.Sub(l.ages[q]) < retention {
			return keys, false
		}
		if len(keys) == deleteMax {
			return keys, true
		}
		keys = append(keys, logKey(q))
	}
	return keys, len(keys) > 0 && !l.whole
}

// deleteRecords deletes what the last listing found, all of it below any later batch.
func (o *Owner) deleteRecords(t *trimmer) error {
	err := attempt(o.ctx, o.store.timeout*4, func(ctx context.Context) error {
		return o.store.store.Delete(ctx, t.doomed...)
	})
	if err != nil {
		return fmt.Errorf("fence: delete old records: %w", err)
	}
	t.doomed = nil
	return nil
}

// Discard remembers uploaded objects that no Commit will ever name, for deletion.
func (o *Owner) Discard(objects []string) {
	now := o.opts.Boottime()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, obj := range objects {
		if o.log.live[obj] == 0 {
			o.log.trash[obj] = now
		}
	}
}

// Deletable returns objects that no state needs and whose grace (from when a record stopped naming
// them) is over, sorted. The grace of what an owner before us left begins with our turn.
func (o *Owner) Deletable(grace time.Duration) []string {
	now := o.opts.Boottime()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lease.ended() != nil {
		return nil
	}
	var out []string
	asked := o.asked()
	for _, obj := range slices.Sorted(maps.Keys(o.log.trash)) {
		if o.log.live[obj] == 0 && !asked[obj] && now-o.log.trash[obj] >= grace {
			out = append(out, obj)
		}
	}
	return out
}

// asked returns the objects that a record under way or queued would name. The caller holds o.mu.
func (o *Owner) asked() map[string]bool {
	names := map[string]bool{}
	for _, r := range append(o.queue[:len(o.queue):len(o.queue)], o.flying, o.base) {
		if r == nil {
			continue
		}
		names[r.rec.body.object] = true
		if r.commit != nil {
			for _, t := range r.commit.Added {
				names[t.Object] = true
			}
		}
	}
	return names
}

// Deleted forgets objects that were deleted.
func (o *Owner) Deleted(objects []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, obj := range objects {
		delete(o.log.trash, obj)
	}
}
