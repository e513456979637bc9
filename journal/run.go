package journal

import "math/bits"

// run is the records that one write puts on disk. The goroutine that took it from the queue owns
// it until it is written; its other fields are guarded by Journal.mu.
type run struct {
	first, last LSN
	cost        int64 // bytes on disk at most
	raw         []byte
	wanted      bool // someone waits for it
	written     bool
	done        chan struct{} // made by the first who waits; closed when answered
	refs        int           // the tail and Batches
	nonce       nonce
}

func (r *run) count() uint32 { return uint32(r.last - r.first + 1) }

// waitLocked returns the channel that is closed when the run is answered.
func (r *run) waitLocked() <-chan struct{} {
	if r.done == nil {
		r.done = make(chan struct{})
	}
	return r.done
}

// answerLocked wakes those who wait for the run.
func (r *run) answerLocked() {
	if r.done != nil {
		close(r.done)
		r.done = nil
	}
}

const (
	spareRunsMax = 64
	rawMin       = 8 << 10   // bytes of the smallest buffer
	spareRawMax  = 2 << 20   // bytes of the largest buffer that is kept
	spareOfClass = 512 << 10 // bytes that are kept of a class, or two buffers
)

// spareRuns keeps runs and their buffers for reuse. Guarded by Journal.mu.
type spareRuns struct {
	runs []*run
	bufs [bits.UintSize][][]byte // by class; the capacity is a power of two
}

func (s *spareRuns) get() *run {
	if n := len(s.runs); n > 0 {
		r := s.runs[n-1]
		s.runs = s.runs[:n-1]
		return r
	}
	return &run{}
}

// put takes back a run that nobody refers to.
func (s *spareRuns) put(r *run) {
	s.putBuf(r.raw)
	if len(s.runs) < spareRunsMax {
		*r = run{}
		s.runs = append(s.runs, r)
	}
}

// grow returns b with room for n more bytes, in a buffer of the same contents.
func (s *spareRuns) grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	class := bits.Len(uint(max(len(b)+n, rawMin) - 1))
	var next []byte
	if k := len(s.bufs[class]); k > 0 {
		next = s.bufs[class][k-1]
		s.bufs[class] = s.bufs[class][:k-1]
	} else {
		next = make([]byte, 0, 1<<class)
	}
	next = append(next, b...)
	s.putBuf(b)
	return next
}

func (s *spareRuns) putBuf(b []byte) {
	if cap(b) == 0 || cap(b) > spareRawMax {
		return
	}
	class := bits.Len(uint(cap(b) - 1))
	if len(s.bufs[class]) < max(spareOfClass/cap(b), 2) {
		s.bufs[class] = append(s.bufs[class], b[:0])
	}
}
