package ninep

import (
	"context"
	"encoding/binary"
	"sync"

	"zerofs/servers/pipeline"
)

// request is one message from its admission until its answer is written, or a batch of answers to
// Tread that the reader gave itself.
type request struct {
	pipeline.Request
	s       *session
	typ     uint8
	tag     uint16
	io      tio    // of Tread, Twrite and Treaddir
	body    []byte // of other messages, after the header; kept for reuse
	out     []byte // the answer, unless it is in Buffer; kept for reuse
	ctx     *ctx
	failed  bool
	payload int // bytes read or written, for the counters
	answers int // in a batch

	// Guarded by session.tags.mu.
	flushes []*request // Tflush messages that are answered after this one
	silent  bool       // the session was reset: there is no answer
}

// keepMax is the largest memory in bytes that a request keeps for its next use.
const keepMax = 8 << 10

// reset prepares a request for its next use.
func (r *request) reset() {
	if cap(r.body) > keepMax {
		r.body = nil
	}
	if cap(r.out) > keepMax {
		r.out = nil
	}
	if !r.ctx.fresh() {
		r.ctx = &ctx{Context: r.s.conn.Context()}
	}
	r.body, r.out = r.body[:0], r.out[:0]
	r.flushes, r.silent, r.failed, r.payload, r.answers = r.flushes[:0], false, false, 0, 0
}

// answer makes what was appended to out, after begin, the answer.
func (r *request) answer() {
	putHeader(r.out, len(r.out), r.typ+1, r.tag)
	r.Answer = r.out
}

// fail makes the answer an error.
func (r *request) fail(err error) {
	r.failed = true
	r.out = begin(r.out)
	r.out = binary.LittleEndian.AppendUint32(r.out, uint32(wireErrno(err)))
	putHeader(r.out, len(r.out), msgRlerror, r.tag)
	r.Answer = r.out
}

// ctx is the context of a request: that of its connection, which Tflush ends too. What it takes to
// wait for its end is made only when somebody waits.
type ctx struct {
	context.Context // of the connection

	mu      sync.Mutex
	inner   context.Context         // guarded by mu; nil until Done is called
	cancel  context.CancelCauseFunc // guarded by mu; of inner
	flushed bool                    // guarded by mu
}

// flush ends the context.
func (c *ctx) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushed = true
	if c.cancel != nil {
		c.cancel(errInterrupted)
	}
}

// fresh reports whether nobody can tell that the context was used. If somebody can, it is ended.
func (c *ctx) fresh() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel(nil)
	}
	return c.cancel == nil && !c.flushed
}

// current returns the inner context; made makes it if there is none.
func (c *ctx) current(made bool) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil && (made || c.flushed) {
		c.inner, c.cancel = context.WithCancelCause(c.Context)
		if c.flushed {
			c.cancel(errInterrupted)
		}
	}
	if c.inner == nil {
		return c.Context
	}
	return c.inner
}

// Done is that of a context.Context, as are Err and Value.
func (c *ctx) Done() <-chan struct{} { return c.current(true).Done() }

// Err returns why the context ended.
func (c *ctx) Err() error { return c.current(false).Err() }

// Value returns what the connection's context has, and lets context.Cause find the cause.
func (c *ctx) Value(key any) any { return c.current(false).Value(key) }
