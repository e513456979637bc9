package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("nbd: server closed")

// Limits that hold where a Server's fields are zero.
const (
	DefaultMaxConns         = 512
	DefaultMaxBytes         = 64 << 20
	DefaultHandshakeTimeout = 30 * time.Second
	DefaultIOTimeout        = 60 * time.Second
)

// Limits of one connection.
const (
	maxInFlight = 128       // requests
	reserve     = 256 << 10 // payload bytes that are its own, whatever others hold
	maxShared   = 32 << 20  // payload bytes of those that all share, unless it is one request
)

// Server serves the exports over any number of listeners. Its exported fields are set before the
// first Serve and not changed after it.
type Server struct {
	Exports     Exports
	TLS         *tls.Config  // nil: TLS is not offered
	TLSRequired bool         // nothing is told or done before TLS; needs TLS
	Logger      *slog.Logger // nil: nothing is logged

	// MaxConns is the number of connections beyond which new ones are closed at once.
	MaxConns int
	// MaxBytes bounds the payloads in memory of all connections together, beyond 256 KiB that each
	// connection has of its own. At least MaxPayload.
	MaxBytes int64
	// HandshakeTimeout is how long a client may take from its connect to the transmission phase.
	HandshakeTimeout time.Duration
	// IOTimeout is how long a client may take to send a payload that it has begun, or to take answers,
	// and one second more for each 128 KiB. Between requests it may be silent for ever. The grain of
	// both limits is a second.
	IOTimeout time.Duration

	once    sync.Once // fills in what the zero value lacks
	log     *slog.Logger
	shared  budget // payload bytes of all connections beyond their reserves
	stats   counters
	conns   atomic.Int64
	stop    chan struct{} // closed when Shutdown begins
	kill    chan struct{} // closed when Shutdown ran out of time
	mu      sync.Mutex
	closing bool           // guarded by mu
	serving sync.WaitGroup // calls of Serve; Add under mu while not closing
}

// Options is what one listener may have of its own.
type Options struct {
	// DefaultExport is the export that an empty name stands for; empty for none.
	DefaultExport string
}

func (s *Server) init() {
	s.once.Do(func() {
		s.log = s.Logger
		if s.log == nil {
			s.log = slog.New(slog.DiscardHandler)
		}
		s.shared.free = max(orDefault(s.MaxBytes, DefaultMaxBytes), MaxPayload)
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
func (s *Server) Serve(ctx context.Context, ln net.Listener, opts Options) error {
	s.init()
	if s.TLSRequired && s.TLS == nil {
		return errors.Join(errors.New("nbd: TLS is required and not configured"), ln.Close())
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return errors.Join(ErrServerClosed, ln.Close())
	}
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	return newService(ctx, s, opts).serve(ln)
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
	return fmt.Errorf("nbd: shutdown: %w", context.Cause(ctx))
}

// Stats are counts since the Server was made, and what is there now.
type Stats struct {
	Conns        int64 `json:"conns"` // now
	Accepted     int64 `json:"accepted"`
	Refused      int64 `json:"refused"` // over MaxConns
	Reads        int64 `json:"reads"`
	FastReads    int64 `json:"fast_reads"` // of Reads, answered from memory at once
	Writes       int64 `json:"writes"`
	Flushes      int64 `json:"flushes"`
	Others       int64 `json:"others"` // trim, write zeroes, cache, block status
	Failed       int64 `json:"failed"` // answered with an error
	ReadBytes    int64 `json:"read_bytes"`
	WrittenBytes int64 `json:"written_bytes"`
}

// counters are Stats while they count.
type counters struct {
	accepted, refused, fastReads, failed, readBytes, writtenBytes atomic.Int64
	commands                                                      [commands]atomic.Int64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.stats
	st := Stats{
		Conns: s.conns.Load(), Accepted: c.accepted.Load(), Refused: c.refused.Load(),
		Reads: c.commands[cmdRead].Load(), FastReads: c.fastReads.Load(),
		Writes: c.commands[cmdWrite].Load(), Flushes: c.commands[cmdFlush].Load(),
		Failed: c.failed.Load(), ReadBytes: c.readBytes.Load(), WrittenBytes: c.writtenBytes.Load(),
	}
	for _, cmd := range []int{cmdTrim, cmdCache, cmdWriteZeroes, cmdBlockStatus} {
		st.Others += c.commands[cmd].Load()
	}
	return st
}

func addNonZero(c *atomic.Int64, n int64) {
	if n != 0 {
		c.Add(n)
	}
}
