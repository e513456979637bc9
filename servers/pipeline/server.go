package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("pipeline: server closed")

// Limits that hold where a Server's fields are zero.
const (
	DefaultMaxConns     = 512
	DefaultMaxBytes     = 64 << 20
	DefaultStartTimeout = 30 * time.Second
	DefaultIOTimeout    = 60 * time.Second
)

// Limits of one connection.
const (
	maxInFlight = 256       // requests
	reserve     = 256 << 10 // payload bytes that are its own, whatever others hold
	maxShared   = 32 << 20  // payload bytes of those that all share, unless it is one request
)

// Session is a protocol's side of one connection.
type Session interface {
	// Serve reads requests and sees to them until the client ends in good order or Conn.Stopping
	// (nil), or the connection fails. It is called once, and everything that Conn says of "the
	// reader" happens in it.
	Serve() error

	// NewRequest makes a request for reuse; its Op is set to what the session keeps with it.
	NewRequest() *Request

	// Run does a request on a goroutine of its own, and has Complete called for it in the end.
	Run(*Request)

	// Flush posts what the reader answered itself and holds back for one write. It is called by the
	// reader before it waits for anything.
	Flush()

	// Released is told that a request's answer was written, or never will be, before the request is
	// used again.
	Released(r *Request, sent bool)

	// Cut is told that the connection is cut and the context of its requests has ended. It must not
	// block. It may come at any time, and does not come for a connection that ended well.
	Cut()

	// Close ends the session, after its last request was released.
	Close()
}

// Server serves sessions over any number of listeners. Its exported fields are set before the first
// Serve and not changed after it.
type Server struct {
	// Open makes the session of a new connection. It must not block.
	Open func(*Conn) Session

	// Wait returns when an answer may be sent now (the lease holds), else why it never will.
	// It is called immediately before each write of answers and is cheap when it need not wait.
	Wait func(context.Context) error

	Logger *slog.Logger // nil: nothing is logged

	// MaxConns is the number of connections beyond which new ones are closed at once.
	MaxConns int
	// MaxBytes bounds the buffers of the requests of all connections together, beyond 256 KiB that
	// each connection has of its own. At least BufferMax.
	MaxBytes int64
	// StartTimeout is how long a client may take from its connect to what makes the session call
	// Conn.Started.
	StartTimeout time.Duration
	// IOTimeout is how long a client may take to send the rest of a request that it has begun, or to
	// take answers, and one second more for each 128 KiB. Between requests it may be silent for ever.
	// The grain of both limits is a second.
	IOTimeout time.Duration

	once     sync.Once // fills in what the zero value lacks
	log      *slog.Logger
	shared   budget // buffer bytes of all connections beyond their reserves
	accepted atomic.Int64
	refused  atomic.Int64
	conns    atomic.Int64
	stop     chan struct{} // closed when Shutdown begins
	kill     chan struct{} // closed when Shutdown ran out of time
	mu       sync.Mutex
	closing  bool           // guarded by mu
	serving  sync.WaitGroup // calls of Serve; Add under mu while not closing
}

func (s *Server) init() {
	s.once.Do(func() {
		s.log = s.Logger
		if s.log == nil {
			s.log = slog.New(slog.DiscardHandler)
		}
		s.shared.free = max(orDefault(s.MaxBytes, DefaultMaxBytes), BufferMax)
		s.stop, s.kill = make(chan struct{}), make(chan struct{})
	})
}

func orDefault[T ~int | ~int64](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// Serve accepts connections from ln and serves them. It closes ln, and returns when all of its
// connections have ended: with ErrServerClosed after Shutdown, with the cause when ctx ends
// (connections are then cut, the requests in flight with them), or with why ln failed.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.init()
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return errors.Join(ErrServerClosed, ln.Close())
	}
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	return newService(ctx, s).serve(ln)
}

// Shutdown stops accepting and reading requests, waits until those in flight are answered, and
// until every Serve has returned. If ctx ends first, connections are cut and it returns at once
// with ctx's error; Serve still returns when everything has ended.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.stop)
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	select {
	case <-s.kill:
	default:
		close(s.kill)
	}
	s.mu.Unlock()
	return fmt.Errorf("pipeline: shutdown: %w", context.Cause(ctx))
}

// Stats are counts of connections.
type Stats struct {
	Conns    int64 // now
	Accepted int64 // since the Server was made, as Refused
	Refused  int64 // over MaxConns
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{Conns: s.conns.Load(), Accepted: s.accepted.Load(), Refused: s.refused.Load()}
}
