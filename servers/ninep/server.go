package ninep

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"zerofs/engine"
	"zerofs/servers/pipeline"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = pipeline.ErrServerClosed

// maxXattrs bounds the values of extended attributes that all connections keep for fids, in bytes;
// one of them may keep a quarter.
const maxXattrs = 32 << 20

// Server serves a file system over any number of listeners. Its exported fields are set before the
// first Serve and not changed after it.
type Server struct {
	FS    FileSystem
	Locks Locks
	// Wait returns when an answer may be sent now (the lease holds), else why it never will.
	// It is called immediately before each write of answers and is cheap when it need not wait.
	Wait func(context.Context) error
	// Users says which groups the users are in whom clients attach as. Nil: the clients know, and
	// what some group would be allowed is left to their own checks (engine.Cred.AnyGroup).
	Users Users

	TLS         *tls.Config  // for clients that begin with TLS; nil: it is not spoken
	TLSRequired bool         // others are turned away, but for those of Unix sockets; needs TLS
	Logger      *slog.Logger // nil: nothing is logged

	// As in pipeline.Server.
	MaxConns     int
	MaxBytes     int64
	StartTimeout time.Duration
	IOTimeout    time.Duration

	once                sync.Once
	conns               pipeline.Server
	clients             atomic.Uint64 // connections so far, which numbers them
	fids, holds, xattrs atomic.Int64  // see quota
	stats               counters
}

func (s *Server) init() {
	s.once.Do(func() {
		s.conns = pipeline.Server{
			Open: s.newSession, Wait: s.Wait, Logger: s.Logger,
			MaxConns: s.MaxConns, MaxBytes: s.MaxBytes, StartTimeout: s.StartTimeout, IOTimeout: s.IOTimeout,
		}
	})
}

// Serve accepts connections from ln and serves them. It closes ln, and returns when all of its
// connections have ended: with ErrServerClosed after Shutdown, with the cause when ctx ends
// (connections are then cut, the requests in flight with them), or with why ln failed.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.init()
	if s.TLSRequired && s.TLS == nil {
		return errors.Join(errors.New("ninep: TLS is required and not configured"), ln.Close())
	}
	return s.conns.Serve(ctx, ln)
}

// Shutdown stops accepting and reading messages, waits until those in flight are answered, and
// until every Serve has returned. If ctx ends first, connections are cut and it returns at once
// with ctx's error; Serve still returns when everything has ended.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	return s.conns.Shutdown(ctx)
}

// Stats are counts since the Server was made, and what is there now.
type Stats struct {
	Conns        int64 `json:"conns"` // now
	Accepted     int64 `json:"accepted"`
	Refused      int64 `json:"refused"` // over MaxConns
	Fids         int64 `json:"fids"`    // now
	Messages     int64 `json:"messages"`
	Reads        int64 `json:"reads"`
	FastReads    int64 `json:"fast_reads"` // of Reads, answered from memory at once
	Writes       int64 `json:"writes"`
	Syncs        int64 `json:"syncs"`
	Walks        int64 `json:"walks"`
	Flushes      int64 `json:"flushes"` // Tflush
	Failed       int64 `json:"failed"`  // answered with an error
	ReadBytes    int64 `json:"read_bytes"`
	WrittenBytes int64 `json:"written_bytes"`
}

// counters are Stats while they count.
type counters struct {
	fastReads, failed, readBytes, writtenBytes atomic.Int64
	messages                                   [messages]atomic.Int64
}

// count counts a request that was answered.
func (c *counters) count(r *request) {
	switch {
	case r.failed:
		c.failed.Add(1)
	case r.payload == 0:
	case r.typ == msgTread:
		c.readBytes.Add(int64(r.payload))
	case r.typ == msgTwrite:
		c.writtenBytes.Add(int64(r.payload))
	}
	if r.answers > 0 {
		c.fastReads.Add(int64(r.answers))
	}
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.init()
	c, p := &s.stats, s.conns.Stats()
	st := Stats{
		Conns: p.Conns, Accepted: p.Accepted, Refused: p.Refused, Fids: s.fids.Load(),
		Reads: c.messages[msgTread].Load(), FastReads: c.fastReads.Load(), Writes: c.messages[msgTwrite].Load(),
		Syncs: c.messages[msgTfsync].Load(), Walks: c.messages[msgTwalk].Load(), Flushes: c.messages[msgTflush].Load(),
		Failed: c.failed.Load(), ReadBytes: c.readBytes.Load(), WrittenBytes: c.writtenBytes.Load(),
	}
	for i := range c.messages {
		st.Messages += c.messages[i].Load()
	}
	return st
}

// identity is who attached: every fid that was walked to from an attach has the same.
type identity struct {
	cred *engine.Cred
	root engine.Ino // that the client attached to; walks do not leave it
}
