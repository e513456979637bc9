package pipeline

// Next returns the n bytes that begin a request. The client may take as long as it likes to begin
// one. The bytes are valid until the reader takes more; io.EOF means that not one byte came.
func (c *Conn) Next(n int) ([]byte, error) {
	if c.in.buffered() < n {
		c.session.Flush()
	}
	return c.in.take(n)
}

// Peek is Next for bytes that the reader will take, or look at, again.
func (c *Conn) Peek(n int) ([]byte, error) {
	p, err := c.Next(n)
	if err == nil {
		c.in.r -= n
	}
	return p, err
}

// Take returns the next n bytes of a request that has begun, at most Buffered; they are valid until
// the reader takes more.
func (c *Conn) Take(n int) ([]byte, error) {
	if c.in.buffered() < n {
		c.waitForClient(n)
		defer c.rest.disarm()
	}
	p, err := c.in.take(n)
	return p, unexpected(err)
}

// ReadFull fills p with the next bytes of a request that has begun.
func (c *Conn) ReadFull(p []byte) error {
	if c.in.buffered() < len(p) {
		c.waitForClient(len(p))
		defer c.rest.disarm()
	}
	return c.in.readFull(p)
}

// Discard reads n bytes of a request that has begun and forgets them.
func (c *Conn) Discard(n int) error {
	if c.in.buffered() < n {
		c.waitForClient(n)
		defer c.rest.disarm()
	}
	return c.in.discard(int64(n))
}

// waitForClient prepares for a read of n bytes that may wait: what is answered is sent first, and
// the time is limited.
func (c *Conn) waitForClient(n int) {
	c.session.Flush()
	c.rest.arm(c.svc.now.Load(), c.svc.ioTicks, n)
}
