package journal

import (
	"context"
	"fmt"

	"github.com/klauspost/compress/s2"

	"zerofs/tiers/disk"
)

const (
	// writers is how many runs are in flight at most.
	writers = 2
	// compressMin is the least raw length in bytes that compression can save a block of.
	compressMin = disk.Align - runOverhead
)

// Sync waits until every record up to and with upTo is durable. After a failure it still answers
// nil for what was durable before. If a write slot is free it writes in the caller's goroutine,
// and then does not heed the context until that one write has ended.
func (j *Journal) Sync(ctx context.Context, upTo LSN) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		if upTo <= j.durable {
			return nil
		}
		if err := j.syncableLocked(upTo); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("journal: sync lsn %d: %w", upTo, context.Cause(ctx))
		}
		r := j.runOfLocked(upTo)
		if len(j.queue) > 0 && j.queue[0] == r && j.mayTakeLocked() {
			r = j.takeLocked()
			j.workers.Add(1) // not zero: the writers run until phase is closed
			j.mu.Unlock()
			j.write(r)
			j.workers.Done()
			j.mu.Lock()
			continue
		}
		r.wanted = true
		j.wakeLocked()
		done := r.waitLocked()
		j.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
		}
		j.mu.Lock()
	}
}

// syncableLocked reports why a record that is not durable will not be; nil if it may.
func (j *Journal) syncableLocked(upTo LSN) error {
	switch {
	case j.failed != nil:
		return j.failed
	case j.phase == closed:
		return ErrClosed
	case upTo > j.last:
		return fmt.Errorf("journal: sync lsn %d: the last is %d", upTo, j.last)
	}
	return nil
}

// runOfLocked returns the run of a record that is neither durable nor beyond the last.
func (j *Journal) runOfLocked(lsn LSN) *run {
	for _, r := range j.flight {
		if lsn <= r.last {
			return r
		}
	}
	for _, r := range j.queue {
		if lsn <= r.last {
			return r
		}
	}
	return nil
}

// writer writes runs that are urgent.
func (j *Journal) writer() {
	defer j.workers.Done()
	for {
		select {
		case <-j.stop:
			return
		case <-j.writerWake:
		}
		j.mu.Lock()
		for j.mayTakeLocked() && j.urgentLocked() {
			r := j.takeLocked()
			j.mu.Unlock()
			j.write(r)
			j.mu.Lock()
		}
		j.mu.Unlock()
	}
}

// mayTakeLocked reports whether a run may be taken from the queue, if there is one. The next is
// taken only when the one before it has its place, so that they lie in LSN order.
func (j *Journal) mayTakeLocked() bool {
	return j.busy < writers && !j.encode && j.failed == nil && j.phase != closed
}

// takeLocked takes the queue's first run; write must follow.
func (j *Journal) takeLocked() *run {
	r := j.queue[0]
	n := copy(j.queue, j.queue[1:])
	j.queue[n] = nil
	j.queue = j.queue[:n]
	j.flight = append(j.flight, r)
	j.busy++
	j.encode = true
	return r
}

// write puts a run that was taken on disk.
func (j *Journal) write(r *run) {
	out, h := compress(r)
	j.mu.Lock()
	seg, off, err := j.placeLocked(&h)
	if err != nil {
		j.failLocked(err)
	}
	j.space.sub(r.cost)
	j.space.written += h.size()
	j.encode = false
	j.wakeLocked()
	j.grantLocked()
	j.mu.Unlock()
	if err == nil {
		err = j.sealAndWrite(r, &h, out, seg, off)
	}
	disk.PutBuf(out)
	j.complete(r, err)
}

// compress puts a run's records where they are sealed, compressed if that saves a block.
func compress(r *run) (out []byte, h runHeader) {
	h = runHeader{first: r.first, count: r.count(), raw: uint32(len(r.raw)), stored: uint32(len(r.raw))}
	room := runOverhead + len(r.raw)
	if len(r.raw) > compressMin {
		room = max(room, runHdrSize+s2.MaxEncodedLen(len(r.raw)))
	}
	out = disk.GetBuf(int(alignUp(int64(room))))
	if len(r.raw) > compressMin {
		packed := s2.Encode(out[runHdrSize:], r.raw)
		p := h
		p.flags, p.stored = flagS2, uint32(len(packed))
		if p.size() < h.size() {
			return out, p
		}
	}
	copy(out[runHdrSize:], r.raw)
	return out, h
}

// placeLocked gives a run its place in the ring and completes its header.
func (j *Journal) placeLocked(h *runHeader) (*segment, int64, error) {
	size := h.size()
	for j.cur.off+size > j.cur.ready {
		if len(j.prepared) == 0 {
			return nil, 0, fmt.Errorf("journal: place lsn %d: %d bytes do not fit, though they were reserved", h.first, size)
		}
		j.cur.last = h.first - 1
		j.held = append(j.held, j.cur)
		j.cur = j.prepared[0]
		j.prepared = append(j.prepared[:0:0], j.prepared[1:]...)
		j.releaseLocked()
	}
	s := j.cur
	off := s.off
	s.off += size
	if s.first == 0 && h.count > 0 {
		s.first = h.first
	}
	s.places = s.places.add(h.first, off)
	h.salt, h.seq, h.epoch = j.salt, s.hdr.seq, j.epoch
	h.block = uint32(off / disk.Align)
	h.durable, h.oldest = j.durable, j.oldestLocked()
	return s, off, nil
}

// sealAndWrite seals the records, which are in out behind the header's place, and writes the run.
func (j *Journal) sealAndWrite(r *run, h *runHeader, out []byte, seg *segment, off int64) error {
	h.encode(out)
	r.nonce = h.nonce()
	plain := out[runHdrSize:][:h.stored]
	j.aead.Seal(plain[:0], r.nonce[:], plain, out[:runHdrSize])
	size := h.size()
	clear(out[runOverhead+int64(h.stored) : size])
	if _, err := seg.file.WriteAtSync(out[:size], off); err != nil {
		return fmt.Errorf("write lsn %d to %d to %s at %d: %w", h.first, h.last(), seg.path, off, err)
	}
	return nil
}

// complete answers a run that was written, and those behind it that wait for nothing else.
func (j *Journal) complete(r *run, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.busy--
	if err != nil {
		j.failLocked(err)
	}
	r.written = err == nil
	for j.failed == nil && len(j.flight) > 0 && j.flight[0].written {
		head := j.flight[0]
		n := copy(j.flight, j.flight[1:])
		j.flight[n] = nil
		j.flight = j.flight[:n]
		j.durable = head.last
		j.space.outstanding -= head.cost
		head.answerLocked()
		j.keepTailLocked(head)
	}
	j.releaseLocked()
	j.grantLocked()
	j.wakeLocked()
	j.drainLocked()
}

// fail makes err final: nothing is written or acknowledged after it.
func (j *Journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failLocked(err)
}

func (j *Journal) failLocked(err error) {
	if j.failed != nil {
		return
	}
	j.failed = fmt.Errorf("%w: %w", ErrFailed, err)
	j.log.Error("journal: write failed, nothing more is acknowledged", "error", err)
	j.refuseLocked(j.failed)
	j.answerAllLocked()
	j.drainLocked()
}

// answerAllLocked wakes everyone who waits for a run.
func (j *Journal) answerAllLocked() {
	for _, r := range j.flight {
		r.answerLocked()
	}
	for _, r := range j.queue {
		r.answerLocked()
	}
}
