package fence

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"zerofs/tiers/object"
)

// view is the log as one read found it.
type view struct {
	below mark    // the record under run; its seq is zero when run begins the log
	run   []entry // the true run from there to the head; empty for a new volume
	state *logState
	look  look
	age   time.Duration // of the newest record, by the store's clock
}

func (v *view) head() Seq {
	if len(v.run) == 0 {
		return 0
	}
	return v.run[len(v.run)-1].seq
}

// errMoved reports that records were trimmed while they were read.
var errMoved = errors.New("the log was trimmed while it was read")

// read reads the log. seen is the highest record that the caller knows of.
func (s *logStore) read(ctx context.Context, seen Seq) (*view, error) {
	from, err := s.hint(ctx)
	if err != nil {
		return nil, err
	}
	const tries = 10
	for try := 0; ; try++ {
		v, err := s.readFrom(ctx, from, seen)
		switch {
		case err == nil:
			return v, nil
		case errors.Is(err, errMoved) && try < tries:
			from = 0
			if err := s.sleep(ctx, backoffMin); err != nil {
				return nil, err
			}
		case errors.Is(err, errMoved):
			return nil, fmt.Errorf("%w: what the log names is not there: %w", ErrCorrupt, err)
		case from != 0 && errors.Is(err, ErrRolledBack):
			from = 0 // the hint may be wrong: only a whole listing is proof
		default:
			return nil, err
		}
	}
}

// hint returns where a listing may begin; zero for at the start. It is a guess: anybody may have
// written it, at any time. It fails only when ctx ends.
func (s *logStore) hint(ctx context.Context) (Seq, error) {
	if !s.store.Ordered() {
		return 0, nil
	}
	data, _, err := s.get(ctx, hintKey, hintSize, hintSize, s.timeout)
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case err != nil: // mostly that there is none
		return 0, nil
	case len(data) != hintSize || string(data[:4]) != hintMagic:
		return 0, nil
	}
	return Seq(binary.BigEndian.Uint64(data[8:])), nil
}

const (
	hintMagic = "ZFHN"
	hintSize  = 16
)

func encodeHint(from Seq) []byte {
	b := append(make([]byte, 0, hintSize), hintMagic...)
	b = append(b, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint64(b, uint64(from))
}

func (s *logStore) readFrom(ctx context.Context, from, seen Seq) (*view, error) {
	l, err := s.list(ctx, from)
	if err != nil {
		return nil, err
	}
	low, high := highestRun(l.seqs)
	if err := rolledBack(high, seen); err != nil {
		return nil, err
	}
	if high == 0 {
		if !l.whole {
			return s.readFrom(ctx, 0, seen)
		}
		return &view{state: newLogState(), look: l.look}, nil
	}
	recs, err := s.descend(ctx, l, low, high)
	if err != nil {
		return nil, err
	}
	v, err := s.replay(ctx, recs)
	if err != nil {
		return nil, err
	}
	v.look, v.age = l.look, l.headAge()
	return v, nil
}

// stored is a record as it was read.
type stored struct {
	entry
	rec *record
}

// descend reads from the head down to the first record that the newest Base does not stand for,
// and returns them in ascending order.
func (s *logStore) descend(ctx context.Context, l *listing, low, high Seq) ([]stored, error) {
	const chunk = 64
	var recs []stored // descending
	floor := Seq(1)
	based := false
	for next := high; next >= floor; {
		if next < low {
			return nil, gap(high, next, floor)
		}
		n := int(min(chunk, next-max(low, floor)+1))
		raw, err := s.getRecords(ctx, l, next, n)
		if err != nil {
			return nil, err
		}
		for _, b := range raw {
			if next < floor {
				break
			}
			h := hashOf(b)
			rec, err := s.codec.open(b, next)
			if err != nil {
				return nil, err
			}
			if len(recs) > 0 && !follows(h, recs[len(recs)-1].entry) {
				return nil, gap(high, next, floor) // a stray: the true run begins above it
			}
			if rec.kind == kindShip {
				rec.body = rec.body.ref()
			}
			if rec.kind == kindBase && !based {
				based, floor = true, rec.asOf+1
			}
			recs = append(recs, stored{entry{next, rec.kind, rec.epoch, rec.nonce, rec.prev, h}, rec})
			next--
		}
	}
	slices.Reverse(recs)
	return recs, nil
}

func gap(high, missing, floor Seq) error {
	return fmt.Errorf("%w: its newest record is %d, record %d below it is not the one before, and the records from %d on are needed",
		ErrRolledBack, high, missing, floor)
}

// getRecords reads n records from the given one down.
func (s *logStore) getRecords(ctx context.Context, l *listing, top Seq, n int) ([][]byte, error) {
	raw := make([][]byte, n)
	err := each(n, func(i int) error {
		q := top - Seq(i)
		b, _, err := s.getRecord(ctx, q, l.sizes[q])
		if errors.Is(err, object.ErrNotFound) {
			return errMoved
		}
		raw[i] = b
		return err
	})
	return raw, err
}

// replay makes the state from the records, which begin above what the newest Base stands for.
func (s *logStore) replay(ctx context.Context, recs []stored) (*view, error) {
	bodies := make([][]byte, len(recs))
	base := -1
	for i, r := range recs {
		if r.kind == kindBase {
			base = i
		}
	}
	err := each(len(recs), func(i int) (err error) {
		if recs[i].kind == kindCommit || i == base {
			bodies[i], err = s.getBody(ctx, recs[i].rec.body)
		}
		if errors.Is(err, object.ErrNotFound) {
			return fmt.Errorf("%w: %w", errMoved, err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	v := &view{state: newLogState()}
	now := s.boottime()
	if base >= 0 {
		b, err := decodeBase(bodies[base])
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, logKey(recs[base].seq), err)
		}
		v.state = fromBase(b, now)
		v.state.startAt(recs[base].rec.asOf, recs[0].entry, recs[base].epoch)
		v.below = mark{v.state.seq, v.state.hash}
	}
	for i, r := range recs {
		a := applied{seq: r.seq, hash: r.hash, rec: r.rec}
		if r.kind == kindCommit {
			if a.commit, err = decodeCommit(r.rec.lsn, bodies[i]); err != nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, logKey(r.seq), err)
			}
		}
		if err := v.state.apply(a, now); err != nil {
			return nil, err
		}
		v.run = append(v.run, r.entry)
	}
	return v, nil
}

// startAt places s, the state that a Base stands for, below the record first.
func (s *logState) startAt(asOf Seq, first entry, epoch Epoch) {
	s.seq, s.asOf, s.hash, s.epoch = asOf, asOf, first.prev, epoch
	s.records = 0
}

// shipBody returns the body of a Ship, wherever it is.
func (s *logStore) shipBody(ctx context.Context, sh ShipRef) ([]byte, error) {
	if sh.body.object != "" {
		return s.getBody(ctx, sh.body)
	}
	b, _, err := s.getRecord(ctx, sh.Seq, sh.body.size+512)
	if err != nil {
		return nil, err
	}
	if hashOf(b) != sh.hash {
		return nil, fmt.Errorf("%w: %s is not the record that the log names", ErrCorrupt, logKey(sh.Seq))
	}
	rec, err := s.codec.open(b, sh.Seq)
	if err != nil {
		return nil, err
	}
	return rec.body.inline, nil
}

// headAge returns how long before the store's date the newest record was written.
func (l *listing) headAge() time.Duration {
	if len(l.seqs) == 0 || l.look.date.IsZero() {
		return 0
	}
	return max(0, l.look.date.Sub(l.ages[l.seqs[len(l.seqs)-1]]))
}
