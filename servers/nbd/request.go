package nbd

import (
	"errors"
	"fmt"
)

// request is one request from its admission until its answer is written, or a batch of READs that
// the reader answered itself.
type request struct {
	header
	conn    *conn
	next    *request // in conn.free
	buf     *buffer  // payload of WRITE, or of the answer; nil if there is none
	held    int64    // bytes it counts in a budget
	shared  bool     // the budget is the server's, not the connection's reserve
	answer  []byte   // in buf or small
	errno   uint32   // of the answer
	payload int64    // bytes read or written, for the counters
	small   [structuredSize + offsetSize]byte
}

// Sizes of a batch of answers to READs, and of the largest READ that goes into one, in bytes.
const (
	batchSize   = 128 << 10
	batchedRead = 64 << 10
)

// errDrain reports a WRITE so long that its payload is not worth reading past.
var errDrain = errors.New("payload is too large")

// readRequests reads requests and sees to them until the client disconnects in good order (nil),
// the server stops, or the connection fails.
func (c *conn) readRequests() error {
	for !c.svc.stopping.Load() {
		if c.in.buffered() < requestSize {
			c.flushBatch() // the read may wait
		}
		p, err := c.in.take(requestSize)
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		h, ok := parseHeader(p)
		if !ok {
			return errors.New("read request: wrong magic")
		}
		if h.cmd == cmdDisc {
			return nil
		}
		if h.cmd < commands {
			c.svc.srv.stats.commands[h.cmd].Add(1)
		}
		if err := c.dispatch(h); err != nil {
			return fmt.Errorf("request %d at %d, %d bytes: %w", h.cmd, h.off, h.length, err)
		}
	}
	return nil
}

// dispatch answers a request at once or gives it to a worker.
func (c *conn) dispatch(h header) error {
	errno := h.check(c.size, c.structured, c.status)
	if errno != 0 {
		return c.refuse(h, errno)
	}
	if h.cmd == cmdRead && c.readNow(h) {
		return nil
	}
	r, err := c.admit(h.memory())
	if err != nil {
		return err
	}
	r.header = h
	if h.cmd == cmdWrite && h.length > 0 {
		if err := c.readPayload(r); err != nil {
			c.drop(r)
			return err
		}
	}
	c.svc.workers.do(r)
	return nil
}

// refuse answers a request with an error, and reads past its payload.
func (c *conn) refuse(h header, errno uint32) error {
	r, err := c.admit(0)
	if err != nil {
		return err
	}
	r.header = h
	r.fail(errno)
	if h.cmd == cmdWrite && h.length > maxDrain {
		c.complete(r)
		return errDrain
	}
	if h.cmd == cmdWrite {
		c.waitForClient(int(h.length))
		err = c.in.discard(int64(h.length))
		c.payload.disarm()
	}
	c.complete(r)
	return err
}

// readPayload reads the payload of a WRITE to where the device will take it from.
func (c *conn) readPayload(r *request) error {
	n := int(r.length)
	if c.in.buffered() < n {
		c.waitForClient(n)
		defer c.payload.disarm()
	}
	return c.in.readFull(r.buf.payload(n))
}

// waitForClient prepares for a read of n bytes that may wait: what is answered is sent first, and
// the time is limited.
func (c *conn) waitForClient(n int) {
	c.flushBatch()
	c.payload.arm(c.svc.now.Load(), c.svc.ioTicks, n)
}

// readNow answers a READ from memory, if the device can, into the batch.
func (c *conn) readNow(h header) bool {
	if c.fast == nil || h.length > batchedRead {
		return false
	}
	need := readHeaderMax + int(h.length)
	if c.batch != nil && len(c.batch.answer)+need > batchSize {
		c.flushBatch()
	}
	if c.batch == nil {
		r, err := c.admit(batchSize)
		if err != nil {
			return false // the connection is cut; admit will say so again
		}
		r.answer, r.cmd = r.buf.payload(batchSize)[:0], cmdRead
		c.batch = r
	}
	b := c.batch
	at := len(b.answer)
	data := at + readHeaderSize(c.structured, h.length)
	end := data + int(h.length)
	if !c.fast.TryReadAt(b.answer[data:end:end], int64(h.off)) {
		return false
	}
	putReadHeader(b.answer[at:end], c.structured, h.cookie, h.off, h.length)
	b.answer = b.answer[:end]
	b.payload += int64(h.length)
	c.svc.srv.stats.fastReads.Add(1)
	return true
}

// flushBatch gives the batch to the writer.
func (c *conn) flushBatch() {
	b := c.batch
	if b == nil {
		return
	}
	c.batch = nil
	if len(b.answer) == 0 { // the device did not have what it was made for
		c.drop(b)
		return
	}
	c.complete(b)
}

// check returns the error that a request deserves by itself, 0 if it may be done. size is the
// device's; structured replies and block status were negotiated or not.
func (h header) check(size uint64, structured, status bool) uint32 {
	allowed := uint16(cmdFlagFUA)
	beyond := uint32(errInvalid)
	switch h.cmd {
	case cmdRead:
		if structured {
			allowed |= cmdFlagDF
		}
	case cmdWrite:
		beyond = errNoSpace
	case cmdFlush:
		if h.off != 0 || h.length != 0 {
			return errInvalid
		}
	case cmdTrim, cmdCache:
	case cmdWriteZeroes:
		allowed |= cmdFlagNoHole | cmdFlagFastZero
		beyond = errNoSpace
	case cmdBlockStatus:
		allowed |= cmdFlagReqOne
		if !status || h.length == 0 {
			return errInvalid
		}
	default:
		return errInvalid
	}
	switch {
	case h.flags&^allowed != 0:
		return errInvalid
	case (h.cmd == cmdRead || h.cmd == cmdWrite) && h.length > MaxPayload:
		return errInvalid
	case h.off > size || uint64(h.length) > size-h.off:
		return beyond
	}
	return 0
}

// memory returns the size in bytes of the buffer that a request which passed check needs.
func (h header) memory() int {
	switch h.cmd {
	case cmdRead, cmdWrite:
		return int(h.length)
	case cmdBlockStatus:
		if h.flags&cmdFlagReqOne != 0 {
			return statusSize(1)
		}
		return statusSize(maxDescriptor)
	}
	return 0
}
