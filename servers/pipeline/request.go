package pipeline

// Request is one request from its admission until its answer is written, or answers that the reader
// put together into one.
type Request struct {
	// Op is what the session keeps with a request. It stays when the request is used again.
	Op any

	// Answer is what is written. It may lie in Buffer. Empty: there is no answer.
	Answer []byte

	// Buffer is the memory that the request was admitted with; nil if there is none.
	Buffer *Buffer

	conn   *Conn
	next   *Request // in Conn.free
	held   int64    // bytes it counts in a budget
	shared bool     // the budget is the server's, not the connection's reserve
}

// Admit makes a request which counts as in flight, with a buffer of n bytes, at most BufferMax, if
// n > 0. It waits for room, of the connection and of the server; the reader alone calls it. It
// fails when the connection is cut.
func (c *Conn) Admit(n int) (*Request, error) {
	held := int64(0)
	if n > 0 {
		held = classSize(n)
	}
	c.mu.Lock()
	if c.err == nil && !c.hasRoom(held) {
		// What the session holds back may be what takes the room, and nobody else would send it.
		c.mu.Unlock()
		c.session.Flush()
		c.mu.Lock()
	}
	for c.err == nil && !c.hasRoom(held) {
		c.room.Wait()
	}
	if err := c.err; err != nil {
		c.mu.Unlock()
		return nil, err
	}
	r := c.take(held)
	c.mu.Unlock()
	if r.shared {
		if err := c.acquireShared(held); err != nil {
			c.Drop(r)
			return nil, err
		}
	}
	if n > 0 {
		r.Buffer = getBuffer(n)
	}
	return r, nil
}

// hasRoom reports whether the connection may have one more request of so many bytes. c.mu is held.
func (c *Conn) hasRoom(held int64) bool {
	return c.inFlight < maxInFlight && (held <= c.own || c.shared == 0 || c.shared+held <= maxShared)
}

// take counts a new request as in flight. c.mu is held.
func (c *Conn) take(held int64) *Request {
	r := c.free
	if r == nil {
		r = c.session.NewRequest()
		r.conn = c
	} else {
		c.free = r.next
	}
	c.inFlight++
	r.next, r.held, r.shared = nil, held, held > c.own
	if r.shared {
		c.shared += held
	} else {
		c.own -= held
	}
	return r
}

// acquireShared takes bytes of the server's budget, and sends what is held back before it waits for them.
func (c *Conn) acquireShared(n int64) error {
	shared := &c.svc.srv.shared
	if shared.tryAcquire(n) {
		return nil
	}
	c.session.Flush()
	return shared.acquire(c.ctx, n)
}

// Do has Session.Run called with r on another goroutine, at once.
func (c *Conn) Do(r *Request) { c.svc.workers.do(r) }

// Drop releases a request which will have no answer. Session.Released is not called.
func (c *Conn) Drop(r *Request) {
	if r.shared && r.Buffer != nil { // nothing was acquired for one without a buffer
		c.svc.srv.shared.release(r.held)
	}
	c.recycle(r)
	c.mu.Lock()
	c.uncount(r)
	c.room.Signal()
	c.mu.Unlock()
}

// recycle gives a request's buffer back.
func (c *Conn) recycle(r *Request) {
	if r.Buffer != nil {
		putBuffer(r.Buffer)
	}
	r.Buffer, r.Answer = nil, nil
}

// uncount stops counting a request. c.mu is held; the caller signals room.
func (c *Conn) uncount(r *Request) {
	c.inFlight--
	if r.shared {
		c.shared -= r.held
	} else {
		c.own += r.held
	}
	r.next, c.free = c.free, r
}
