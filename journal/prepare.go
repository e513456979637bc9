package journal

import (
	"errors"
	"fmt"
	"time"

	"zerofs/tiers/disk"
)

const (
	// fillChunk is how many bytes are zero-filled before they are synced and given out.
	fillChunk = 4 << 20
	// fillAhead is how many ready bytes are wanted ahead of the writer before anything was written.
	// What was written in this turn is added, up to half a segment, so that an idle volume makes no zeros.
	fillAhead = 4 << 20
	// noSpaceRetry is how long a full disk is left alone, and noSpaceLog how many of these pass
	// between two log lines.
	noSpaceRetry = time.Second
	noSpaceLog   = 10
)

// createSegment makes a segment that is not filled: its header is durable, and so is its name.
func (j *Journal) createSegment(index int, h segmentHeader) (*segment, error) {
	path := j.opts.Disk.PathJoin(j.opts.Dir, segmentName(index))
	f, err := j.opts.Disk.OpenDirect(path, true)
	if err != nil {
		return nil, err
	}
	s := &segment{index: index, path: path, file: f, ready: firstRun}
	err = j.writeHeader(s, h)
	if err == nil {
		err = j.opts.Disk.SyncDir(j.opts.Dir)
	}
	if err != nil {
		_ = f.Close()
		_ = j.opts.Disk.Remove(path)
		return nil, err
	}
	return s, nil
}

// reuseSegment gives a segment a new header. Its runs are void from then on, and if a crash tears
// the header that changes nothing: they were released, or void already.
func (j *Journal) reuseSegment(s *segment, h segmentHeader) error {
	if s.ready > j.segSize { // of a ring with larger segments
		if err := s.file.Truncate(j.segSize); err != nil {
			return fmt.Errorf("truncate %s: %w", s.path, err)
		}
	}
	s.ready = max(min(s.ready, j.segSize), firstRun)
	return j.writeHeader(s, h)
}

// writeHeader writes a segment's header. The block behind it, where the first run goes, becomes
// zero in the same write if it exists, so that Open need not search a segment that was never used.
func (j *Journal) writeHeader(s *segment, h segmentHeader) error {
	n := min(s.ready, firstRun+disk.Align)
	b := disk.GetBuf(int(n))
	defer disk.PutBuf(b)
	clear(b)
	h.encode(b, j.aead)
	if _, err := s.file.WriteAtSync(b, 0); err != nil {
		return fmt.Errorf("write header of %s: %w", s.path, err)
	}
	s.hdr, s.valid = h, true
	s.off, s.first, s.last, s.places, s.stuck = firstRun, 0, 0, nil, false
	return nil
}

// fill extends a segment by zeros up to the given size and makes them durable, so that writes there
// find blocks that are allocated and written.
func fill(s *segment, from, to int64) error {
	b := disk.GetBuf(int(min(to-from, 1<<20)))
	defer disk.PutBuf(b)
	clear(b)
	for off := from; off < to; {
		n := min(int64(len(b)), to-off)
		if _, err := s.file.WriteAt(b[:n], off); err != nil {
			return fmt.Errorf("fill %s at %d: %w", s.path, off, err)
		}
		off += n
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	return nil
}

// preparer keeps ready bytes ahead of the writer, so that no write waits for zeros or a header,
// and removes the files of segments that left the ring.
func (j *Journal) preparer() {
	defer j.workers.Done()
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	full := 0 // tries in a row that met a full disk
	for {
		did, err := j.prepare()
		switch {
		case errors.Is(err, disk.ErrFull):
			if full%noSpaceLog == 0 {
				j.log.Warn("journal: disk is full, writers wait for segments to be released",
					"dir", j.opts.Dir, "error", err)
			}
			full++
			retry.Reset(noSpaceRetry)
		case err != nil:
			j.fail(err)
			return
		case did:
			full = 0
			continue
		}
		select {
		case <-j.stop:
			return
		case <-j.prepareWake:
		case <-retry.C:
			j.mu.Lock()
			j.noSpace = false
			j.mu.Unlock()
		}
	}
}

// prepare takes one step: it removes a file, fills a piece, or adds a segment. did is false if
// nothing is to be done.
func (j *Journal) prepare() (did bool, err error) {
	j.mu.Lock()
	if j.failed != nil || j.phase == closed {
		j.mu.Unlock()
		return false, nil
	}
	if len(j.retired) > 0 {
		s := j.retired[0]
		j.retired = j.retired[1:]
		j.mu.Unlock()
		j.removeSegment(s)
		return true, nil
	}
	if !j.wantReadyLocked() {
		j.mu.Unlock()
		return false, nil
	}
	last := j.lastSegmentLocked()
	if last.ready < j.segSize && !(last.stuck && j.noSpace) {
		from := last.ready
		j.mu.Unlock()
		return true, j.fillNext(last, from)
	}
	if len(j.free) > 0 {
		s := j.free[0]
		j.free = j.free[1:]
		h := j.nextHeader()
		j.mu.Unlock()
		return true, j.addSegment(s, j.reuseSegment(s, h))
	}
	if j.noSpace || j.total+j.segSize > j.opts.Size {
		j.mu.Unlock()
		return false, nil
	}
	index := j.nextFile
	j.nextFile++
	j.total += j.segSize
	h := j.nextHeader()
	j.mu.Unlock()
	s, err := j.createSegment(index, h)
	return true, j.addSegment(s, err)
}

// wantReadyLocked reports whether the writer may run out of ready bytes.
func (j *Journal) wantReadyLocked() bool {
	if j.space.starved() {
		return true
	}
	ready := j.cur.ready - j.cur.off
	for _, s := range j.prepared {
		ready += s.ready - s.off
	}
	return ready < min(j.segSize/2, fillAhead+j.space.written)
}

// lastSegmentLocked returns the segment that the writer comes to last; only that one can be filled
// further.
func (j *Journal) lastSegmentLocked() *segment {
	if n := len(j.prepared); n > 0 {
		return j.prepared[n-1]
	}
	return j.cur
}

// fillNext fills the next piece of the last segment, from its present end.
func (j *Journal) fillNext(s *segment, from int64) error {
	to := min(from+fillChunk, j.segSize)
	err := fill(s, from, to)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		s.stuck = true
		j.fullLocked()
		return err
	}
	s.stuck = false
	s.ready = to
	j.grantLocked()
	return nil
}

// addSegment puts a segment whose header was written behind the others.
func (j *Journal) addSegment(s *segment, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.prepared = append(j.prepared, s)
		j.grantLocked()
		return nil
	}
	if s != nil { // was free before, and is so again
		j.free = append(j.free, s)
		j.sortFree()
		return err
	}
	j.total -= j.segSize
	j.nextFile--
	j.fullLocked()
	return err
}

// fullLocked notes that the disk is full. Segments that are free need no space.
func (j *Journal) fullLocked() {
	j.noSpace = true
	if len(j.free) > 0 {
		kick(j.prepareWake)
	}
}

// trimRing takes free segments out of a ring that is larger than Size allows, or that was made
// with larger segments.
func (j *Journal) trimRing() {
	keep := j.free[:0]
	for _, s := range j.free {
		if s.ready > j.segSize || j.total > j.opts.Size {
			j.total -= max(s.ready, j.segSize)
			j.retired = append(j.retired, s)
			continue
		}
		keep = append(keep, s)
	}
	j.free = keep
}

// removeSegment removes a segment's file and closes it when its last reader is gone.
func (j *Journal) removeSegment(s *segment) {
	if err := j.opts.Disk.Remove(s.path); err != nil {
		j.log.Warn("journal: segment not removed", "file", s.path, "error", err)
	}
	j.mu.Lock()
	s.dropped = true
	idle := s.readers == 0
	j.mu.Unlock()
	if idle {
		_ = s.file.Close()
	}
}

// Release allows segments whose records are all at or below upTo to be reused. It never waits.
func (j *Journal) Release(upTo LSN) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.release = max(j.release, upTo)
	if j.phase == running || j.phase == closing {
		j.releaseLocked()
	}
}

// releaseLocked frees what is released and durable, oldest first.
func (j *Journal) releaseLocked() {
	n := 0
	for n < len(j.held) && j.held[n].last <= min(j.release, j.durable) {
		n++
	}
	if n == 0 {
		return
	}
	j.free = append(j.free, j.held[:n]...)
	j.held = append(j.held[:0:0], j.held[n:]...)
	j.sortFree()
	j.trimRing()
	kick(j.prepareWake)
}
