package nbd

// admit makes a request which counts as in flight, with a buffer of n bytes if n > 0. It waits
// for room, of the connection and of the server; the reader alone calls it. It fails when the
// connection is cut.
func (c *conn) admit(n int) (*request, error) {
	held := int64(0)
	if n > 0 {
		held = classSize(n)
	}
	c.mu.Lock()
	if c.err == nil && !c.hasRoom(held) && c.batch != nil {
		// The batch may be what takes the room, and nobody else would send it.
		c.mu.Unlock()
		c.flushBatch()
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
			c.drop(r)
			return nil, err
		}
	}
	if n > 0 {
		r.buf = getBuffer(n)
	}
	return r, nil
}

// hasRoom reports whether the connection may have one more request of so many bytes. c.mu is held.
func (c *conn) hasRoom(held int64) bool {
	return c.inFlight < maxInFlight && (held <= c.own || c.shared == 0 || c.shared+held <= maxShared)
}

// take counts a new request as in flight. c.mu is held.
func (c *conn) take(held int64) *request {
	r := c.free
	if r == nil {
		r = &request{conn: c}
	} else {
		c.free = r.next
	}
	c.inFlight++
	r.next, r.held, r.shared, r.errno, r.payload = nil, held, held > c.own, 0, 0
	if r.shared {
		c.shared += held
	} else {
		c.own -= held
	}
	return r
}

// acquireShared takes bytes of the server's budget, and sends the batch before it waits for them.
func (c *conn) acquireShared(n int64) error {
	shared := &c.svc.srv.shared
	if shared.tryAcquire(n) {
		return nil
	}
	c.flushBatch()
	return shared.acquire(c.ctx, n)
}

// drop releases a request which will have no answer. Nothing was acquired for one without a buffer.
func (c *conn) drop(r *request) {
	if r.shared && r.buf != nil {
		c.svc.srv.shared.release(r.held)
	}
	c.recycle(r)
	c.mu.Lock()
	c.uncount(r)
	c.room.Signal()
	c.mu.Unlock()
}

// recycle gives a request's buffer back.
func (c *conn) recycle(r *request) {
	if r.buf != nil {
		putBuffer(r.buf)
	}
	r.buf, r.answer = nil, nil
}

// uncount stops counting a request. c.mu is held; the caller signals room.
func (c *conn) uncount(r *request) {
	c.inFlight--
	if r.shared {
		c.shared -= r.held
	} else {
		c.own += r.held
	}
	r.next, c.free = c.free, r
}
