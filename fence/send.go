package fence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"zerofs/tiers/object"
)

// sent is an append that won its slot.
type sent struct {
	hash  hash
	start time.Duration // boot time before its first request
	look  look          // what the next append is timed by
}

// send puts r at seq, and again with the same bytes until the store has answered. It fails with
// ErrFenced when the slot holds something else, or when the slot was won too late to tell that it
// is the log's next one; with the store's refusal where that is final; and with ctx's cause, after
// which the record may still land.
func (s *logStore) send(ctx context.Context, r *record, seq Seq, last look, lease time.Duration) (sent, error) {
	var n [sealNonce]byte
	if _, err := io.ReadFull(s.rand, n[:]); err != nil {
		return sent{}, fmt.Errorf("fence: nonce: %w", err)
	}
	stored, err := s.codec.seal(r, seq, n[:])
	if err != nil {
		return sent{}, err
	}
	s = s.insisting() // a try whose answer was lost may have landed, whatever the store says to the next
	out := sent{hash: hashOf(stored), start: s.boottime()}
	landed, now, err := s.put(ctx, seq, stored, lease)
	if err != nil {
		return sent{}, err
	}
	if needsCheck(last, now, lease) {
		if err := s.check(ctx, seq, r.prev); err != nil {
			return sent{}, err
		}
	}
	out.look = look{boot: out.start, date: landed}
	return out, nil
}

// put returns once the slot is ours: when it landed by the store's clock, and both clocks when we
// learned of it.
func (s *logStore) put(ctx context.Context, seq Seq, stored []byte, lease time.Duration) (landed time.Time, now look, err error) {
	key := logKey(seq)
	for wait := backoffMin; ; wait = min(2*wait, backoffMax, lease/10) {
		var info object.Info
		err := attempt(ctx, s.timeout, func(ctx context.Context) (err error) {
			info, err = s.store.Put(ctx, key, bytes.NewReader(stored), object.PutOptions{IfAbsent: true})
			return err
		})
		switch {
		case err == nil:
			return info.Date, look{s.boottime(), info.Date}, nil
		case errors.Is(err, object.ErrExists):
			return s.whose(ctx, seq, stored)
		case ctx.Err() != nil:
			return time.Time{}, look{}, fmt.Errorf("fence: put %s: %w", key, errors.Join(context.Cause(ctx), err))
		}
		s.logger.Warn("fence: append not answered, trying again", "key", key, "error", err, "wait", wait)
		if err := s.sleep(ctx, wait); err != nil {
			return time.Time{}, look{}, fmt.Errorf("fence: put %s: %w", key, err)
		}
	}
}

// whose tells whether the record at seq is ours, that is one of our own tries whose answer was lost.
// Another one under our epoch is not: a copy of us runs.
func (s *logStore) whose(ctx context.Context, seq Seq, stored []byte) (landed time.Time, now look, err error) {
	b, info, err := s.getRecord(ctx, seq, int64(len(stored)))
	switch {
	case errors.Is(err, object.ErrNotFound):
		return time.Time{}, look{}, fmt.Errorf("%w: %s was taken, and is gone", ErrFenced, logKey(seq))
	case err != nil:
		return time.Time{}, look{}, err
	case !bytes.Equal(b, stored):
		return time.Time{}, look{}, fmt.Errorf("%w: %s holds another record", ErrFenced, logKey(seq))
	}
	return info.Modified, look{s.boottime(), info.Date}, nil
}

// check looks whether the slot that we won is the log's next one, see checkPasses. It is no look: a
// record may be trimmed or added right after it.
func (s *logStore) check(ctx context.Context, seq Seq, prev hash) error {
	var below hash
	found := false
	if seq > 1 {
		b, _, err := s.getRecord(ctx, seq-1, recordMax)
		if err != nil && !errors.Is(err, object.ErrNotFound) {
			return err
		}
		found = err == nil
		below = hashOf(b)
	}
	l, err := s.list(ctx, seq+1)
	if err != nil {
		return err
	}
	_, high := highestRun(l.seqs)
	if !checkPasses(seq, prev, below, found, high > seq) {
		return fmt.Errorf("%w: %s was won late, and the log has moved on", ErrFenced, logKey(seq))
	}
	return nil
}
