package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// What a client did too slowly.
var (
	errSlowHandshake = errors.New("client did not finish the handshake in time")
	errSlowPayload   = errors.New("client did not send a payload in time")
	errSlowReader    = errors.New("client did not take its answers in time")
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// conn is one connection. One goroutine, serve, reads; see the package on who writes.
type conn struct {
	svc    *service
	raw    net.Conn // what was accepted; for closing from anywhere
	nc     net.Conn // the same, or TLS over it
	in     *wireReader
	log    *slog.Logger
	ctx    context.Context // of its requests
	cancel context.CancelCauseFunc

	handshake, payload, answers watch

	// Set by the handshake, constant afterwards.
	name       string // of the export
	dev        Device
	fast       FastReader // nil if dev is none
	release    func()
	size       uint64 // of the device when it was opened, which is what the client knows
	structured bool
	status     bool // BLOCK_STATUS was negotiated

	batch *request // READs answered by the reader, not yet given to the writer; the reader's own

	out writer // what the writer alone uses

	mu       sync.Mutex
	room     sync.Cond  // of mu; signalled when a request was released. The reader alone waits
	inFlight int        // guarded by mu; requests admitted and not released
	own      int64      // guarded by mu; free bytes of the reserve
	shared   int64      // guarded by mu; bytes held of the server's budget
	pending  []*request // guarded by mu; done, answer not yet written
	writing  bool       // guarded by mu; somebody is the writer
	err      error      // guarded by mu; why the connection is cut, nil while it is not
	free     *request   // guarded by mu; for reuse, linked by next
}

func newConn(v *service, nc net.Conn) *conn {
	c := &conn{svc: v, raw: nc, nc: nc, in: newWireReader(nc, negotiateBuffer), own: reserve}
	c.room.L = &c.mu
	c.log = v.srv.log.With("client", nc.RemoteAddr())
	c.ctx, c.cancel = context.WithCancelCause(v.ctx)
	return c
}

// serve runs the connection from the first byte to the last.
func (c *conn) serve() {
	err := c.negotiate()
	if err == nil {
		c.log = c.log.With("export", c.name)
		c.log.Debug("connected")
		c.in.resize(requestBuffer)
		c.out.init(c.nc)
		err = c.readRequests()
		c.finish(err)
	}
	if err == nil {
		// With TLS this says goodbye. The errors of Close tell nothing that was not known: whatever was
		// to be sent has been, or failed.
		_ = c.nc.Close()
	}
	cut := c.fail(err)
	if c.release != nil {
		c.release()
	}
	c.logEnd(cut)
}

// finish waits until nothing is in flight. Unless the client ended in good order nobody waits for
// the answers, and the requests are cancelled.
func (c *conn) finish(err error) {
	c.flushBatch()
	if err != nil && !c.svc.stopping.Load() {
		c.fail(err)
	}
	c.mu.Lock()
	for c.inFlight > 0 {
		c.room.Wait()
	}
	c.mu.Unlock()
}

// fail cuts the connection, unless it is cut already, and returns why it was cut; err may be nil
// when it has ended well.
func (c *conn) fail(err error) error {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		if err == nil {
			c.err = io.EOF
		}
	}
	cause := c.err
	c.room.Broadcast()
	c.mu.Unlock()
	if first {
		c.cancel(cause)
		_ = c.raw.Close() // it is cut, whatever Close says
	}
	return cause
}

// interrupt makes the reader stop at the request that it is in.
func (c *conn) interrupt() {
	if err := c.raw.SetReadDeadline(longAgo); err != nil && !errors.Is(err, net.ErrClosed) {
		c.fail(fmt.Errorf("interrupt: %w", err))
	}
}

// late returns why the connection has to be cut, if a time limit has passed at tick now.
func (c *conn) late(now int64) error {
	switch {
	case c.handshake.late(now):
		return errSlowHandshake
	case c.payload.late(now):
		return errSlowPayload
	case c.answers.late(now):
		return errSlowReader
	}
	return nil
}

// logEnd says why the connection ended: loud when it is the client's fault or ours, quiet when
// it came to its end.
func (c *conn) logEnd(err error) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, errAborted), errors.Is(err, ErrServerClosed), c.svc.stopping.Load():
		c.log.Debug("disconnected", "cause", err)
	case c.ctx.Err() != nil && c.svc.ctx.Err() != nil:
		c.log.Info("disconnected", "cause", err)
	default:
		c.log.Warn("connection ended", "err", err)
	}
}
