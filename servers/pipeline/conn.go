package pipeline

import (
	"context"
	"crypto/tls"
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
	errSlowStart   = errors.New("client did not begin in time")
	errSlowRequest = errors.New("client did not send the rest of a request in time")
	errSlowReader  = errors.New("client did not take its answers in time")
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// Conn is one connection.
type Conn struct {
	svc     *service
	session Session
	raw     net.Conn // what was accepted; for closing from anywhere
	nc      net.Conn // the same, or TLS over it
	in      *wireReader
	log     *slog.Logger
	ctx     context.Context // of its requests
	cancel  context.CancelCauseFunc

	start, rest, answers watch

	out writer // what the writer alone uses

	mu       sync.Mutex
	room     sync.Cond  // of mu; signalled when a request was released. The reader alone waits
	inFlight int        // guarded by mu; requests admitted and not released
	own      int64      // guarded by mu; free bytes of the reserve
	shared   int64      // guarded by mu; bytes held of the server's budget
	pending  []*Request // guarded by mu; done, answer not yet written
	writing  bool       // guarded by mu; somebody is the writer
	err      error      // guarded by mu; why the connection is cut, nil while it is not
	free     *Request   // guarded by mu; for reuse, linked by next
}

func newConn(v *service, nc net.Conn) *Conn {
	c := &Conn{svc: v, raw: nc, nc: nc, in: newWireReader(nc, startBuffer), own: reserve}
	c.room.L = &c.mu
	c.log = v.srv.log.With("client", nc.RemoteAddr())
	c.ctx, c.cancel = context.WithCancelCause(v.ctx)
	c.out.init(nc)
	c.session = v.srv.Open(c)
	return c
}

// Context is the one that all requests of the connection run under. It ends when the connection is cut.
func (c *Conn) Context() context.Context { return c.ctx }

// Logger says who the client is.
func (c *Conn) Logger() *slog.Logger { return c.log }

// RemoteAddr returns the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Stopping reports whether no more requests are to be read.
func (c *Conn) Stopping() bool { return c.svc.stopping.Load() }

// serve runs the connection from the first byte to the last.
func (c *Conn) serve() {
	c.start.arm(c.svc.now.Load(), c.svc.startTicks, 0)
	err := c.session.Serve()
	c.start.disarm()
	c.finish(err)
	if err == nil {
		// With TLS this says goodbye. The errors of Close tell nothing that was not known: whatever was
		// to be sent has been, or failed.
		_ = c.nc.Close()
	}
	cut := c.Fail(err)
	c.session.Close()
	c.logEnd(cut)
}

// Started says that the client has begun as the protocol asks: its time for that is no longer
// limited, and up to Buffered bytes may be taken at once. The reader calls it, once.
func (c *Conn) Started() {
	c.start.disarm()
	c.in.resize(Buffered)
}

// StartTLS makes everything from the bytes that the reader takes next on TLS. The reader calls it
// before Started.
func (c *Conn) StartTLS(conf *tls.Config) error {
	nc := tls.Server(&replay{Conn: c.raw, first: c.in.rest()}, conf)
	if err := nc.HandshakeContext(c.ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.nc, c.in = nc, newWireReader(nc, startBuffer)
	c.out.init(nc)
	return nil
}

// replay is a connection of which some bytes were read already.
type replay struct {
	net.Conn
	first []byte
}

func (r *replay) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

// Idle waits until every request that was admitted is released. The reader calls it.
func (c *Conn) Idle() {
	c.session.Flush()
	c.mu.Lock()
	for c.inFlight > 0 {
		c.room.Wait()
	}
	c.mu.Unlock()
}

// finish waits until nothing is in flight. Unless the client ended in good order nobody waits for
// the answers, and the requests are cancelled.
func (c *Conn) finish(err error) {
	c.session.Flush()
	if err != nil && !c.Stopping() {
		c.Fail(err)
	}
	c.Idle()
}

// Fail cuts the connection, unless it is cut already, and returns why it was cut. A nil err is that
// of one that has ended well.
func (c *Conn) Fail(err error) error {
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
		if err != nil {
			c.session.Cut()
		}
		_ = c.raw.Close() // it is cut, whatever Close says
	}
	return cause
}

// interrupt makes the reader stop at the request that it is in.
func (c *Conn) interrupt() {
	if err := c.raw.SetReadDeadline(longAgo); err != nil && !errors.Is(err, net.ErrClosed) {
		c.Fail(fmt.Errorf("interrupt: %w", err))
	}
}

// late returns why the connection has to be cut, if a time limit has passed at tick now.
func (c *Conn) late(now int64) error {
	switch {
	case c.start.late(now):
		return errSlowStart
	case c.rest.late(now):
		return errSlowRequest
	case c.answers.late(now):
		return errSlowReader
	}
	return nil
}

// logEnd says why the connection ended: loud when it is the client's fault or ours, quiet when
// it came to its end.
func (c *Conn) logEnd(err error) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, ErrServerClosed), c.Stopping():
		c.log.Debug("disconnected", "cause", err)
	case c.svc.ctx.Err() != nil:
		c.log.Info("disconnected", "cause", err)
	default:
		c.log.Warn("connection ended", "err", err)
	}
}
