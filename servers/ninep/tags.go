package ninep

import (
	"errors"
	"sync"
)

// tags are the requests of a connection that have no answer yet, by their tag.
type tags struct {
	mu sync.Mutex          // taken before pipeline's
	m  map[uint16]*request // guarded by mu
}

var errTagInUse = errors.New("tag is in use")

// add notes a request. Two with the same tag could not be told apart: the connection has to go.
func (t *tags) add(r *request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[r.tag] != nil {
		return errTagInUse
	}
	t.m[r.tag] = r
	return nil
}

// complete takes a request whose answer is ready, or that has none. After it come the answers of
// the Tflush messages for it, and after each of those what was to flush that.
func (s *session) complete(r *request) {
	s.tags.mu.Lock()
	drain := s.post(r)
	s.tags.mu.Unlock()
	if drain {
		s.conn.Drain()
	}
}

// post posts a request that is in the table, and those that wait for it. s.tags.mu is held: from
// the moment that the tag is out of the table a Tflush for it is answered at once, and has to find
// the answer posted before its own.
func (s *session) post(r *request) (drain bool) {
	delete(s.tags.m, r.tag)
	if r.silent {
		r.Answer = nil
	}
	drain = s.conn.Post(&r.Request)
	for _, f := range r.flushes {
		f.out = begin(f.out)
		f.answer()
		drain = s.post(f) || drain
	}
	return drain
}

// flush does a Tflush: it cancels the request with tag old, and is answered after that was. The
// reader calls it.
func (s *session) flush(r *request, old uint16) error {
	if err := s.tags.add(r); err != nil {
		return err
	}
	s.Flush() // what it is to flush may be answered and held back
	s.tags.mu.Lock()
	target := s.tags.m[old]
	if target != nil && target != r {
		target.flushes = append(target.flushes, r)
		s.tags.mu.Unlock()
		target.ctx.flush()
		return nil
	}
	s.tags.mu.Unlock()
	r.out = begin(r.out)
	r.answer()
	s.complete(r)
	return nil
}

// abort cancels every request and leaves it without an answer.
func (s *session) abort() {
	s.tags.mu.Lock()
	defer s.tags.mu.Unlock()
	for _, r := range s.tags.m {
		r.silent = true
		r.ctx.flush()
	}
}

// unblock cancels what may wait for ever: nobody will read the message that would end it.
func (s *session) unblock() {
	s.tags.mu.Lock()
	defer s.tags.mu.Unlock()
	for _, r := range s.tags.m {
		if r.typ == msgTlock {
			r.ctx.flush()
		}
	}
}
