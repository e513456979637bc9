package tiers

import "sync"

// Sizes of readahead, in bytes of plaintext.
const (
	tailBytes    = 384 << 10 // of a table file, fetched when it is opened
	aheadMin     = 256 << 10
	aheadMax     = 8 << 20
	aheadStep    = 1 << 20   // the window is filled up in steps of this size, or half of itself
	aheadStreams = 8         // sequential readers of one handle that are told apart
	aheadGap     = 256 << 10 // that a sequential reader may skip, or go back
	aheadHits    = 2         // reads that go on, before a reader is taken for a sequential one
)

// readahead tells sequential readers of one file from others, and says what to fetch before they
// ask. Several readers may share a handle: Pebble's iterators do.
type readahead struct {
	mu      sync.Mutex // guards what follows; taken before fetcher.mu
	streams [aheadStreams]stream
	clock   uint64 // reads noted
}

// stream is one sequential reader.
type stream struct {
	next   int64  // where it should read next
	ahead  int64  // up to where its bytes are on their way
	window int64  // how far that may run before next
	used   uint64 // readahead.clock at its last read
	hits   int    // reads that went on where the one before ended
}

// note takes note of a read of n bytes at off in a file of size bytes, and calls fetch with a
// range worth fetching now, if there is one. fetch returns the end of what is on its way. A
// reader that is known to be sequential is taken for one at its first read.
func (r *readahead) note(off, n, size int64, sequential bool, fetch func(from, to int64) int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	s, known := r.find(off)
	end := off + n
	if !known {
		*s = stream{next: end, ahead: end}
		if sequential {
			s.window = aheadStep / 2
		}
	}
	s.used = r.clock
	if known && end > s.next {
		s.hits++
	}
	s.next = max(s.next, end)
	s.ahead = max(s.ahead, end)
	if s.hits < aheadHits && !sequential || s.ahead >= size {
		return
	}
	if s.window > 0 && s.ahead-end > s.window-min(s.window/2, aheadStep) {
		return
	}
	s.window = min(max(4*s.window, 2*n, aheadMin), aheadMax)
	if to := min(end+s.window, size); to > s.ahead {
		s.ahead = max(s.ahead, fetch(s.ahead, to))
	}
}

// find returns the reader that goes on at off, or the one to forget for a new reader. r.mu is held.
func (r *readahead) find(off int64) (s *stream, known bool) {
	oldest := &r.streams[0]
	for i := range r.streams {
		s := &r.streams[i]
		if s.used > 0 && off >= s.next-aheadGap && off <= s.next+aheadGap {
			return s, true
		}
		if s.used < oldest.used {
			oldest = s
		}
	}
	return oldest, false
}
