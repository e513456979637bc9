package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"zerofs/fence"
	"zerofs/tiers/disk"
)

// Start ends reading and begins appending under epoch: the first Append gives last+1, and
// records above last that older epochs left are void from now on.
//
// It refuses an epoch below that of the newest segment, and a last that would void a record known
// to have been durable. Records up to last stay held; if last is neither among those held nor what
// the last Replay ended with, the caller has them all from elsewhere and none stay.
func (j *Journal) Start(epoch fence.Epoch, last LSN) error {
	r := &j.found
	j.mu.Lock()
	started := j.phase != reading
	j.mu.Unlock()
	if started {
		return errors.New("journal: start: already started or closed")
	}
	if last < r.known {
		return fmt.Errorf("journal: start after lsn %d: records up to %d were durable", last, r.known)
	}
	if t := r.newest(); t != nil && epoch < t.epoch {
		return fmt.Errorf("journal: start in epoch %d after epoch %d", epoch, t.epoch)
	}
	j.mu.Lock()
	j.epoch, j.kept, j.last, j.durable = epoch, last, last, last
	j.mu.Unlock()
	j.keep(last)
	if _, err := io.ReadFull(j.opts.Rand, j.salt[:]); err != nil {
		return fmt.Errorf("journal: start: draw salt: %w", err)
	}
	aead, err := r.keys.aead(j.salt)
	if err != nil {
		return err
	}
	j.aead = aead
	if err := j.firstSegment(); err != nil {
		return fmt.Errorf("journal: start in %s: %w", j.opts.Dir, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.run()
	return nil
}

// keep sorts what was found into held and free segments.
func (j *Journal) keep(last LSN) {
	r := &j.found
	oldest := last + 1
	switch {
	case r.first != 0 && last >= r.first && last <= r.last:
		oldest = r.first
	case r.replayed.to == last && r.replayed.from != 0:
		oldest = r.replayed.from
	}
	j.held, j.free = nil, nil
	for _, s := range slices.Concat(r.blank, r.torn, r.segs) {
		j.nextSeq = max(j.nextSeq, s.hdr.seq)
		j.nextFile = max(j.nextFile, s.index+1)
		s.off = s.ready
		if slices.Contains(r.live, s) && s.first <= last && s.last >= oldest {
			continue
		}
		j.free = append(j.free, s)
	}
	for _, s := range r.live {
		if s.first <= last && s.last >= oldest {
			s.first, s.last = max(s.first, oldest), min(s.last, last)
			j.held = append(j.held, s)
		}
	}
	j.sortFree()
	j.total = 0
	for _, s := range slices.Concat(j.held, j.free) {
		j.total += max(s.ready, j.segSize)
	}
}

func (j *Journal) sortFree() {
	slices.SortStableFunc(j.free, func(a, b *segment) int { return cmp.Compare(a.hdr.seq, b.hdr.seq) })
}

// firstSegment makes the segment that the turn begins with, so that the turn is on disk before
// anything is appended. It may exceed Size, since a full ring must not keep a volume from opening;
// the newest header on disk is never overwritten for it, or a crash here could bring void records
// back.
func (j *Journal) firstSegment() error {
	spare := j.free
	if n := len(j.found.segs); n > 0 {
		newest := j.found.segs[n-1]
		spare = slices.DeleteFunc(slices.Clone(spare), func(s *segment) bool { return s == newest })
	}
	if len(spare) > 0 && (j.total+j.segSize > j.opts.Size || !spare[0].valid) {
		return j.beginWith(spare[0])
	}
	s, err := j.createSegment(j.nextFile, j.nextHeader())
	if errors.Is(err, disk.ErrFull) && len(spare) > 0 {
		j.log.Warn("journal: disk is full, using a segment again", "dir", j.opts.Dir, "error", err)
		return j.beginWith(spare[0])
	}
	if err != nil {
		return err
	}
	j.nextFile++
	j.total += j.segSize
	j.cur = s
	return nil
}

func (j *Journal) beginWith(s *segment) error {
	counted := max(s.ready, j.segSize)
	if err := j.reuseSegment(s, j.nextHeader()); err != nil {
		return err
	}
	j.total -= counted - j.segSize
	j.free = slices.DeleteFunc(j.free, func(f *segment) bool { return f == s })
	j.cur = s
	return nil
}

// nextHeader returns the header of the next segment to be used.
func (j *Journal) nextHeader() segmentHeader {
	j.nextSeq++
	return segmentHeader{
		salt: j.salt, seq: j.nextSeq, epoch: j.epoch, kept: j.kept,
		oldest: j.oldestLocked(), durable: j.durable,
	}
}

// run begins the goroutines. Close ends them.
func (j *Journal) run() {
	if !j.cur.file.Direct() {
		j.log.Warn("journal: no direct I/O here, falling back to synced buffered writes", "dir", j.opts.Dir)
	}
	if j.opts.Volatile {
		j.log.Warn("journal: directory does not survive a power failure: nothing is durable", "dir", j.opts.Dir)
	}
	j.space.init(j.segSize)
	j.trimRing()
	j.phase = running
	j.lazy = time.AfterFunc(time.Hour, j.flushLazily)
	j.lazy.Stop()
	j.workers.Add(writers + 1)
	for range writers {
		go j.writer()
	}
	go j.preparer()
	go func() {
		j.workers.Wait()
		j.closeFiles()
		close(j.finished)
	}()
	kick(j.prepareWake)
}
