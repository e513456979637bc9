package journal

import (
	"context"
	"fmt"
	"slices"

	"zerofs/tiers/disk"
)

// Close ends the writers after what is queued is durable, or the context ends. It returns nil if
// everything that was appended is durable. A second call returns ErrClosed.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	switch j.phase {
	case reading:
		j.phase = closed
		j.mu.Unlock()
		return j.found.close()
	case closing, closed:
		j.mu.Unlock()
		return ErrClosed
	}
	j.phase = closing
	j.refuseLocked(ErrClosed)
	j.flush = true
	j.lazy.Stop()
	j.wakeLocked()
	j.drainLocked()
	j.mu.Unlock()

	select {
	case <-j.drained:
		j.mark()
	case <-ctx.Done():
	}
	j.mu.Lock()
	err := j.closedLocked(ctx)
	j.phase = closed
	j.answerAllLocked()
	close(j.stop)
	j.mu.Unlock()

	select {
	case <-j.finished:
	case <-ctx.Done(): // a disk that hangs; the goroutines end when it answers
	}
	return err
}

// closedLocked returns what Close answers.
func (j *Journal) closedLocked(ctx context.Context) error {
	switch {
	case j.failed != nil:
		return j.failed
	case j.durable < j.last:
		return fmt.Errorf("journal: close: records %d to %d are not durable: %w", j.durable+1, j.last, context.Cause(ctx))
	}
	return nil
}

// drainLocked tells Close when nothing is left to be written.
func (j *Journal) drainLocked() {
	if j.phase != closing || j.busy > 0 || j.failed == nil && len(j.queue) > 0 {
		return
	}
	select {
	case <-j.drained:
	default:
		close(j.drained)
	}
}

// mark writes a run without records, which names the last record as durable: damage to it can then
// be told from a torn tail. It is written if there happens to be room, and is not needed otherwise.
func (j *Journal) mark() {
	h := runHeader{flags: flagMark, count: 0}
	j.mu.Lock()
	h.first = j.last + 1
	if j.failed != nil || j.cur.first == 0 || j.cur.off+h.size() > j.cur.ready {
		j.mu.Unlock()
		return
	}
	seg, off, err := j.placeLocked(&h)
	j.mu.Unlock()
	if err == nil {
		out := disk.GetBuf(disk.Align)
		err = j.sealAndWrite(&run{}, &h, out, seg, off)
		disk.PutBuf(out)
	}
	if err != nil {
		j.log.Warn("journal: mark not written", "error", err)
	}
}

// closeFiles closes what no reader has open.
func (j *Journal) closeFiles() {
	j.mu.Lock()
	defer j.mu.Unlock()
	segs := slices.Concat(j.held, []*segment{j.cur}, j.prepared, j.free, j.retired)
	for _, s := range segs {
		s.dropped = true
		if s.readers > 0 {
			continue
		}
		if err := s.file.Close(); err != nil {
			j.log.Warn("journal: close", "file", s.path, "error", err)
		}
	}
}
