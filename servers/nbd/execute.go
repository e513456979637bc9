package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"syscall"

	"zerofs/servers"
)

// run does a request and has it answered. Workers call it.
func (c *conn) run(r *request) {
	if err := c.execute(r); err != nil {
		c.report(r, err)
		r.fail(wireErrno(err))
	}
	c.complete(r)
}

// execute does what a request that passed check asks of the device, and prepares the answer of
// one that succeeded.
func (c *conn) execute(r *request) error {
	off, n := int64(r.off), int64(r.length)
	durable := r.flags&cmdFlagFUA != 0
	var err error
	switch r.cmd {
	case cmdRead:
		return c.read(r)
	case cmdBlockStatus:
		return c.blockStatus(r)
	case cmdFlush:
		err = c.dev.Flush(c.ctx)
	default:
		if n > 0 {
			err = c.change(r, off, n, durable)
		}
	}
	if err != nil {
		return err
	}
	r.succeed()
	return nil
}

// change does the commands that answer with a status alone.
func (c *conn) change(r *request, off, n int64, durable bool) error {
	switch r.cmd {
	case cmdWrite:
		r.payload = n
		return c.dev.WriteAt(c.ctx, r.buf.payload(int(n)), off, durable)
	case cmdTrim:
		return c.dev.Trim(c.ctx, off, n, durable)
	case cmdWriteZeroes:
		return c.dev.Zero(c.ctx, off, n, r.flags&cmdFlagNoHole != 0, durable)
	default:
		return c.dev.Cache(c.ctx, off, n)
	}
}

func (c *conn) read(r *request) error {
	n := int(r.length)
	if n == 0 {
		k := putReadHeader(r.small[:], c.structured, r.cookie, r.off, 0)
		r.answer = r.small[:k]
		return nil
	}
	if err := c.dev.ReadAt(c.ctx, r.buf.payload(n), int64(r.off)); err != nil {
		return err
	}
	r.answer, r.payload = r.buf.from(readHeaderSize(c.structured, r.length), n), int64(n)
	putReadHeader(r.answer, c.structured, r.cookie, r.off, r.length)
	return nil
}

// statusSize returns the bytes of an answer to BLOCK_STATUS with n extents.
func statusSize(n int) int { return structuredSize + 4 + 8*n }

// blockStatus answers with the runs of data and holes, as many as fit.
//
//	offset  size  field
//	20      4     context id, after the header of the chunk
//	24      8k    extents: length (4) and state (4), together not longer than the request
func (c *conn) blockStatus(r *request) error {
	limit := maxDescriptor
	if r.flags&cmdFlagReqOne != 0 {
		limit = 1
	}
	p := r.buf.payload(statusSize(limit))[:structuredSize+4]
	binary.BigEndian.PutUint32(p[structuredSize:], contextID)
	left, last, count := int64(r.length), uint32(0), 0
	err := c.dev.Extents(c.ctx, int64(r.off), left, func(n int64, hole bool) bool {
		n = min(n, left)
		if n <= 0 {
			return left > 0
		}
		state := uint32(0)
		if hole {
			state = stateHole | stateZero
		}
		switch {
		case count > 0 && state == last: // goes on; the sum is within the request, so within 32 bits
			tail := p[len(p)-8:]
			binary.BigEndian.PutUint32(tail, binary.BigEndian.Uint32(tail)+uint32(n))
		case count == limit:
			return false
		default:
			p = binary.BigEndian.AppendUint32(p, uint32(n))
			p = binary.BigEndian.AppendUint32(p, state)
			count, last = count+1, state
		}
		left -= n
		return left > 0
	})
	if err != nil {
		return err
	}
	if count == 0 { // nothing is known of the range: data is always true
		p = binary.BigEndian.AppendUint32(p, r.length)
		p = binary.BigEndian.AppendUint32(p, 0)
	}
	putChunk(p, replyBlockStatus, r.cookie, uint32(len(p)-structuredSize))
	r.answer = p
	return nil
}

// succeed makes the answer one without data and without error.
func (r *request) succeed() {
	putSimple(r.small[:], 0, r.cookie)
	r.answer = r.small[:simpleSize]
}

// fail makes the answer an error.
func (r *request) fail(errno uint32) {
	r.errno = errno
	if r.conn.structured && (r.cmd == cmdRead || r.cmd == cmdBlockStatus) {
		putErrorChunk(r.small[:], errno, r.cookie)
		r.answer = r.small[:errorChunkSize]
		return
	}
	putSimple(r.small[:], errno, r.cookie)
	r.answer = r.small[:simpleSize]
}

// report logs why the device failed a request, unless the connection was cut under it.
func (c *conn) report(r *request, err error) {
	if c.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(c.ctx))) {
		return
	}
	c.log.Error("request failed", "cmd", r.cmd, "offset", r.off, "length", r.length, "err", err)
}

// wireErrno returns the protocol's number for err.
func wireErrno(err error) uint32 {
	switch servers.Errno(err) {
	case syscall.EPERM, syscall.EACCES, syscall.EROFS:
		return errPerm
	case syscall.ENOMEM:
		return errNoMem
	case syscall.EINVAL:
		return errInvalid
	case syscall.ENOSPC:
		return errNoSpace
	case syscall.ENOTSUP:
		return errNotSup
	case syscall.ESHUTDOWN, syscall.ECANCELED:
		return errShutdown
	}
	return errIO
}
