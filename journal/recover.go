package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"zerofs/fence"
	"zerofs/tiers/disk"
)

// recovery is what Open found on disk.
type recovery struct {
	keys *keyring
	sc   *scanner

	segs  []*segment // whose header is valid, by sequence
	blank []*segment // with neither header nor runs
	lost  []lostRun  // in segments whose header is not valid
	torn  []*segment // these segments

	turns  []turn
	live   []*segment // those that hold records which count, in order; a subset of segs
	known  LSN        // highest LSN that something valid of the newest turn names as durable
	oldest LSN        // the first that the ring held when that turn last said so
	first  LSN        // first and last record held; zeros if there is none
	last   LSN

	replayed struct{ from, to LSN } // what Replay delivered in one piece
}

// turn is what one Start began: segments of one salt.
type turn struct {
	salt  salt
	epoch fence.Epoch
	kept  LSN
	limit LSN // records above it are void
	segs  []*segment
}

// lostRun is a valid run in a segment whose header is not.
type lostRun struct {
	salt        salt
	seq         uint64
	first, last LSN
	path        string
}

// recoverRing opens and fsyncs every segment in the directory and finds out what they hold. It
// leaves nothing open when it fails.
func recoverRing(ctx context.Context, opts *Options) (r recovery, err error) {
	keys := newKeyring(opts.Key)
	r = recovery{keys: keys, sc: &scanner{keys: keys}}
	defer func() {
		if err != nil {
			_ = r.close()
		}
	}()
	if err := r.openAll(ctx, opts); err != nil {
		return r, err
	}
	slices.SortFunc(r.segs, func(a, b *segment) int { return cmp.Compare(a.hdr.seq, b.hdr.seq) })
	if err := r.group(); err != nil {
		return r, err
	}
	for _, s := range r.segs {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if err := r.findFirst(s); err != nil {
			return r, err
		}
	}
	if err := r.findEnd(ctx); err != nil {
		return r, err
	}
	r.findLive()
	return r, nil
}

func (r *recovery) close() error {
	var errs []error
	for _, s := range slices.Concat(r.segs, r.blank, r.torn) {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}

// openAll opens the segments. Each is fsynced before it is read: what a killed process left in the
// page cache is not on disk yet.
func (r *recovery) openAll(ctx context.Context, opts *Options) error {
	fs := opts.Disk
	if err := fs.MkdirAll(opts.Dir, 0o700); err != nil {
		return err
	}
	if err := fs.SyncDir(fs.PathDir(opts.Dir)); err != nil {
		return err
	}
	if err := fs.SyncDir(opts.Dir); err != nil {
		return err
	}
	names, err := fs.List(opts.Dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		index, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.openOne(fs, fs.PathJoin(opts.Dir, name), index); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) openOne(fs disk.FS, path string, index int) (err error) {
	f, err := fs.OpenDirect(path, false)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	size, err := f.Size()
	if err != nil {
		return err
	}
	s := &segment{index: index, path: path, file: f, ready: size &^ (disk.Align - 1)}
	if s.ready < disk.Align {
		r.blank = append(r.blank, s)
		return nil
	}
	r.sc.scan(s, nil, s.ready, firstRun)
	b, err := r.sc.win.bytes(0, disk.Align)
	if err != nil {
		return err
	}
	s.hdr, err = decodeSegmentHeader(b, r.keys)
	switch {
	case err == nil:
		s.valid = true
		r.segs = append(r.segs, s)
		return nil
	case !errors.Is(err, errUnreadable):
		return fmt.Errorf("%w: segment %s: %w", ErrCorrupt, path, err)
	}
	return r.withoutHeader(s)
}

// withoutHeader looks for runs in a segment that has no valid header. There are none if it was
// about to be used for the first time, stale ones if it was about to be used again: a header is
// durable before a run is written behind it. Anything else is damage.
func (r *recovery) withoutHeader(s *segment) error {
	n := len(r.lost)
	for {
		f, ok, err := r.sc.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if f.count > 0 {
			r.lost = append(r.lost, lostRun{f.salt, f.seq, f.first, f.last(), s.path})
			s.hdr.seq = max(s.hdr.seq, f.seq)
		}
	}
	if len(r.lost) == n {
		r.blank = append(r.blank, s)
		return nil
	}
	// Of several uses only the last one can have been of value.
	r.lost = slices.DeleteFunc(r.lost, func(l lostRun) bool { return l.path == s.path && l.seq < s.hdr.seq })
	r.torn = append(r.torn, s)
	return nil
}

// group splits the segments into turns and checks that they are in order.
func (r *recovery) group() error {
	for i, s := range r.segs {
		if i > 0 && r.segs[i-1].hdr.seq == s.hdr.seq {
			return fmt.Errorf("%w: segments %s and %s have the same sequence", ErrCorrupt, r.segs[i-1].path, s.path)
		}
		if t := r.newest(); t != nil && t.salt == s.hdr.salt {
			if t.epoch != s.hdr.epoch || t.kept != s.hdr.kept {
				return fmt.Errorf("%w: segment %s differs from others of its turn", ErrCorrupt, s.path)
			}
			t.segs = append(t.segs, s)
			continue
		} else if t != nil && t.epoch > s.hdr.epoch {
			return fmt.Errorf("%w: segment %s: epoch %d after epoch %d", ErrCorrupt, s.path, s.hdr.epoch, t.epoch)
		}
		r.turns = append(r.turns, turn{salt: s.hdr.salt, epoch: s.hdr.epoch, kept: s.hdr.kept, segs: []*segment{s}})
	}
	return nil
}

// newest returns the turn of the last segment; nil if there is none.
func (r *recovery) newest() *turn {
	if len(r.turns) == 0 {
		return nil
	}
	return &r.turns[len(r.turns)-1]
}

// findFirst sets the first LSN of a segment. A block of zeros where the first run belongs means
// that it has none; what else is there but no run is damage or torn, and runs may follow. (Where a
// torn first run may have left zeros before others, in the newest turn, readTail looks behind them.)
func (r *recovery) findFirst(s *segment) error {
	r.sc.scan(s, &s.hdr, s.ready, firstRun)
	if s.ready < firstRun+disk.Align {
		return nil
	}
	b, err := r.sc.win.bytes(firstRun, disk.Align)
	if err != nil {
		return err
	}
	if bytes.Equal(b, zeros[:]) {
		return nil
	}
	f, ok, err := r.sc.next()
	if err != nil {
		return err
	}
	if ok && f.count > 0 {
		s.first = f.first
	}
	return nil
}

// span is a run's place among the LSNs.
type span struct{ first, last LSN }

// findEnd finds the last LSN that counts, and what is known to have been durable. It reads the
// newest turn's segments backwards, until everything before what it read is known to be durable.
func (r *recovery) findEnd(ctx context.Context) error {
	t := r.newest()
	if t == nil {
		r.addLost(nil)
		r.last = r.known
		return nil
	}
	r.known, r.oldest = t.kept, 0
	for _, s := range t.segs {
		r.known = max(r.known, s.hdr.durable)
		r.oldest = max(r.oldest, s.hdr.oldest)
	}
	var tail []span // descending by segment, ascending within
	for _, s := range slices.Backward(t.segs) {
		if err := ctx.Err(); err != nil {
			return err
		}
		runs, err := r.readTail(s)
		if err != nil {
			return err
		}
		tail = append(runs, tail...)
		if len(tail) > 0 && tail[0].first <= r.known+1 {
			break
		}
	}
	r.last = r.known
	if !r.addLost(t) {
		for _, run := range tail {
			if run.first <= r.last+1 && run.last > r.last {
				r.last = run.last
			}
		}
	}
	return nil
}

// readTail reads a segment of the newest turn to its end.
func (r *recovery) readTail(s *segment) (runs []span, err error) {
	r.sc.scan(s, &s.hdr, s.ready, firstRun)
	for {
		f, ok, err := r.sc.next()
		if err != nil || !ok {
			return runs, err
		}
		r.known = max(r.known, f.durable)
		r.oldest = max(r.oldest, f.oldest)
		if f.count > 0 {
			if s.first == 0 {
				s.first = f.first
			}
			s.places = s.places.add(f.first, f.off)
			runs = append(runs, span{f.first, f.last()})
		}
	}
}

// addLost takes runs behind a lost header that are newer than every valid segment for durable: the
// header was, before they were written. If they are of a turn that has no valid header left, it
// reports so, and that turn is put after t with what is known of it.
func (r *recovery) addLost(t *turn) (unknown bool) {
	u := turn{kept: lsnMax}
	for _, l := range r.lost {
		if t != nil && l.seq < t.segs[len(t.segs)-1].hdr.seq {
			continue
		}
		r.known = max(r.known, l.last)
		r.last = max(r.last, r.known)
		if t == nil || l.salt != t.salt {
			unknown = true
			u.kept = min(u.kept, l.first-1)
		}
	}
	if unknown {
		r.turns = append(r.turns, u)
	}
	return unknown
}

// findLive says which segments hold records that count, and which of them.
func (r *recovery) findLive() {
	limit := lsnMax
	for i := range slices.Backward(r.turns) {
		r.turns[i].limit = limit
		limit = min(limit, r.turns[i].kept)
	}
	for _, t := range r.turns {
		next := t.limit
		for _, s := range slices.Backward(t.segs) {
			if s.first == 0 {
				continue
			}
			s.last = next
			next = min(next, s.first-1)
		}
		for _, s := range t.segs {
			if s.first != 0 && s.first <= s.last && s.last >= r.oldest {
				r.live = append(r.live, s)
			}
		}
	}
	if len(r.live) == 0 || r.last < r.live[0].first {
		return
	}
	r.first = max(r.oldest, r.live[0].first)
	if r.first > r.last {
		r.first = 0
	}
}
