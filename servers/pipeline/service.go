package pipeline

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"zerofs/servers"
)

// service is one call of Serve: a listener and its connections.
type service struct {
	srv     *Server
	ctx     context.Context // of all requests; ends when everything is to be cut
	cancel  context.CancelCauseFunc
	workers *workers
	wg      sync.WaitGroup // goroutines of the connections

	now        atomic.Int64 // ticks since the start, see watch
	startTicks int64
	ioTicks    int64

	mu       sync.Mutex
	conns    map[*Conn]struct{} // guarded by mu
	stopping atomic.Bool        // no more requests are read; set under mu, so that no new connection misses it
}

func newService(ctx context.Context, s *Server) *service {
	v := &service{srv: s, workers: newWorkers(), conns: make(map[*Conn]struct{})}
	v.ctx, v.cancel = context.WithCancelCause(ctx)
	v.startTicks = ticks(orDefault(s.StartTimeout, DefaultStartTimeout))
	v.ioTicks = ticks(orDefault(s.IOTimeout, DefaultIOTimeout))
	return v
}

// ticks returns how many ticks d is, at least one.
func ticks(d time.Duration) int64 { return int64((d + tick - 1) / tick) }

// serve accepts until it is told to stop, then waits for everything that was begun.
func (v *service) serve(ln net.Listener) error {
	var minder sync.WaitGroup
	accepted := make(chan struct{}) // closed when Accept has ended, whyever
	ended := make(chan struct{})    // closed when the last connection has
	minder.Go(func() { v.mind(ln, accepted, ended) })
	err := servers.Accept(v.ctx, ln, v.srv.log, v.start)
	close(accepted)
	v.wg.Wait()
	close(ended)
	v.workers.close()
	minder.Wait()
	v.cancel(nil)
	select {
	case <-v.srv.stop:
		return ErrServerClosed
	default:
		return err
	}
}

// mind watches over the connections: it stops or cuts them when that is asked for, and cuts those
// that exceed a time limit.
func (v *service) mind(ln net.Listener, accepted, ended <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	stop, kill, done := v.srv.stop, v.srv.kill, v.ctx.Done()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
			v.cutLate(v.now.Add(1))
		case <-stop:
			stop = nil
			v.closeListener(ln)
			v.stopReading()
		case <-accepted: // the listener failed or was closed by others: what is connected goes on
			accepted = nil
			v.closeListener(ln)
		case <-kill:
			kill = nil
			v.cancel(ErrServerClosed)
		case <-done:
			done = nil
			v.closeListener(ln)
			v.cutAll()
		}
	}
}

func (v *service) closeListener(ln net.Listener) {
	if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		v.srv.log.Warn("close listener", "on", ln.Addr(), "err", err)
	}
}

// start serves a connection on a goroutine of its own.
func (v *service) start(nc net.Conn) {
	srv := v.srv
	if srv.conns.Add(1) > int64(orDefault(srv.MaxConns, DefaultMaxConns)) {
		srv.conns.Add(-1)
		srv.refused.Add(1)
		_ = nc.Close() // it is refused whatever Close says
		return
	}
	srv.accepted.Add(1)
	c := newConn(v, nc)
	v.mu.Lock()
	v.conns[c] = struct{}{}
	switch {
	case v.ctx.Err() != nil: // cutAll may have been there already
		c.Fail(context.Cause(v.ctx))
	case v.stopping.Load():
		c.interrupt()
	}
	v.mu.Unlock()
	v.wg.Go(func() {
		c.serve()
		v.mu.Lock()
		delete(v.conns, c)
		v.mu.Unlock()
		srv.conns.Add(-1)
	})
}

// stopReading makes every connection end when what it has in flight is answered.
func (v *service) stopReading() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopping.Store(true)
	for c := range v.conns {
		c.interrupt()
	}
}

func (v *service) cutAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.conns {
		c.Fail(context.Cause(v.ctx))
	}
}

// cutLate ends the connections that have exceeded a time limit at tick now.
func (v *service) cutLate(now int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.conns {
		if err := c.late(now); err != nil {
			c.Fail(err)
		}
	}
}
