package journal

import (
	"context"
	"errors"
	"fmt"
)

// extent is a part of the ring that may hold records up to and with hi.
type extent struct {
	seg  *segment
	hdr  segmentHeader
	size int64 // bytes of the file to look at
	off  int64 // where to begin
	hi   LSN
}

// spot is a place on disk, for errors.
type spot struct {
	path string
	off  int64
}

func (s spot) String() string {
	if s.path == "" {
		return "no segment"
	}
	return fmt.Sprintf("segment %s at offset %d", s.path, s.off)
}

// walk calls fn for each record from x on, until one is missing or the extents end. It returns the
// LSN that comes next and where it should have been.
func walk(ctx context.Context, sc *scanner, exts []extent, x LSN, fn func(LSN, []byte) error) (LSN, spot, error) {
	var at spot
	for _, e := range exts {
		if e.hi < x {
			continue
		}
		sc.scan(e.seg, &e.hdr, e.size, e.off)
		for x <= e.hi {
			if err := ctx.Err(); err != nil {
				return x, at, err
			}
			f, ok, err := sc.next()
			if err != nil {
				return x, at, err
			}
			if !ok {
				at = spot{e.seg.path, sc.bad}
				break
			}
			if f.count == 0 || f.last() < x {
				continue
			}
			if f.first > x {
				switch {
				case f.bad >= 0:
					at = spot{e.seg.path, f.bad}
				case at.path == "":
					at = spot{e.seg.path, f.off}
				}
				return x, at, nil
			}
			if x, err = deliver(sc, &f, x, e.hi, fn); err != nil {
				return x, spot{e.seg.path, f.off}, err
			}
			at = spot{e.seg.path, f.off + f.size()}
		}
	}
	return x, at, nil
}

// deliver calls fn for the records x to hi of a run and returns the LSN that comes next.
func deliver(sc *scanner, f *found, x, hi LSN, fn func(LSN, []byte) error) (LSN, error) {
	raw, err := sc.records(f)
	if err == nil {
		err = eachRecord(raw, f.first, f.count, func(lsn LSN, payload []byte) error {
			if lsn < x || lsn > hi {
				return nil
			}
			if err := fn(lsn, payload); err != nil {
				return err
			}
			x = lsn + 1
			return nil
		})
	}
	if errors.Is(err, errRecords) {
		err = fmt.Errorf("%w: segment %s at offset %d: lsn %d: %w", ErrCorrupt, sc.win.path, f.off, x, err)
	}
	return x, err
}

// Replay calls fn for each record from the given LSN on. covered is the highest LSN that is known
// to have been durable from elsewhere (the tree, the fenced log): damage at or below it is no torn
// tail. payload is valid during the call only.
//
// The records come without a gap. A missing one at or below what is known to have been durable,
// or at or below covered, is ErrCorrupt (ErrGone if it was released), so from is the first that
// the caller does not have from elsewhere. An error of fn ends Replay and is returned. Replay is
// called before Start, any number of times.
func (j *Journal) Replay(ctx context.Context, from, covered LSN, fn func(lsn LSN, payload []byte) error) error {
	j.mu.Lock()
	reading := j.phase == reading
	j.mu.Unlock()
	if !reading {
		return errors.New("journal: replay after start")
	}
	r := &j.found
	from = max(from, 1)
	var exts []extent
	for _, s := range r.live {
		exts = append(exts, extent{seg: s, hdr: s.hdr, size: s.ready, off: s.places.find(from), hi: s.last})
	}
	next, at, err := walk(ctx, r.sc, exts, from, fn)
	if next > from {
		r.replayed.from, r.replayed.to = from, next-1
	}
	if err != nil {
		return fmt.Errorf("journal: replay lsn %d: %w", next, err)
	}
	if next > max(r.known, covered) {
		return nil
	}
	return r.missing(next, covered, at)
}

// missing returns the error for a record that should be there and is not.
func (r *recovery) missing(lsn, covered LSN, at spot) error {
	if lsn < r.oldest {
		return fmt.Errorf("%w: lsn %d, the first held is %d", ErrGone, lsn, r.oldest)
	}
	for _, l := range r.lost {
		if l.first <= lsn && lsn <= l.last {
			at = spot{l.path, 0}
		}
	}
	return fmt.Errorf("%w: %v: lsn %d cannot be read, and records up to %d were durable",
		ErrCorrupt, at, lsn, max(r.known, covered))
}
