package pipeline

import (
	"context"
	"fmt"
	"net"
	"runtime"
)

// Limits of one write to a socket.
const (
	writeMax  = 1 << 20  // bytes, unless one answer is larger: Server.Wait is asked again after so many
	gatherMax = 64 << 10 // bytes that are copied together
	gatherRaw = 512      // answers up to this size are copied together rather than written side by side
	gatherTLS = 16 << 10 // the same where one write takes one run of memory
	runsMax   = 256      // runs of memory in one writev
)

// writer is what whoever writes to the socket at the moment works with.
type writer struct {
	nc     net.Conn
	vector bool        // nc writes many runs in one system call
	small  int         // answers up to this size are gathered
	taken  []*Request  // whose answers are being written
	gather []byte      // copies of small answers
	runs   [][]byte    // what is to be written
	bufs   net.Buffers // runs, while they are consumed
}

func (w *writer) init(nc net.Conn) {
	w.nc = nc
	w.small = gatherTLS
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		w.vector, w.small = true, gatherRaw
	}
}

// Post takes a request whose answer is ready. When it returns true the caller has to call Drain next;
// it may hold locks that Post is called under, but not Drain.
func (c *Conn) Post(r *Request) (drain bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, r)
	if c.writing {
		return false
	}
	c.writing = true
	return true
}

// Drain writes what was posted until nothing is left.
func (c *Conn) Drain() {
	c.mu.Lock()
	others := c.inFlight > len(c.pending)
	c.mu.Unlock()
	if others {
		// Requests that were waiting for one thing, such as one sync of the journal, are done at the
		// same time: let them add their answers, and one write serves them all.
		runtime.Gosched()
	}
	for c.writeSome() {
	}
}

// Complete takes a request whose answer is ready. The answer is written before Complete returns
// or, if somebody is writing already, by them.
func (c *Conn) Complete(r *Request) {
	if c.Post(r) {
		c.Drain()
	}
}

// writeSome writes some of the pending answers and releases their requests. It returns false when
// there are none, after which the caller is the writer no more.
func (c *Conn) writeSome() bool {
	c.mu.Lock()
	if len(c.pending) == 0 {
		c.writing = false
		c.mu.Unlock()
		return false
	}
	c.out.take(&c.pending)
	cut := c.err != nil
	c.mu.Unlock()
	if !cut {
		if err := c.send(); err != nil {
			c.Fail(err)
		}
	}
	c.releaseTaken(!cut)
	return true
}

// take moves requests from pending to w.taken: one, and as many more as one write may hold.
func (w *writer) take(pending *[]*Request) {
	all := *pending
	k, bytes := 0, 0
	for k < len(all) && k < runsMax {
		bytes += len(all[k].Answer)
		if k > 0 && bytes > writeMax {
			break
		}
		k++
	}
	w.taken = append(w.taken[:0], all[:k]...)
	rest := copy(all, all[k:])
	clear(all[rest:])
	*pending = all[:rest]
}

// send writes the answers taken, when it is allowed.
func (c *Conn) send() error {
	bytes := 0
	for _, r := range c.out.taken {
		bytes += len(r.Answer)
	}
	if bytes == 0 {
		return nil
	}
	if err := c.svc.srv.Wait(c.ctx); err != nil {
		return fmt.Errorf("not allowed to answer: %w", err)
	}
	if c.ctx.Err() != nil { // nobody has come to cut the connection yet
		return context.Cause(c.ctx)
	}
	c.answers.arm(c.svc.now.Load(), c.svc.ioTicks, bytes)
	err := c.out.write()
	c.answers.disarm()
	if err != nil {
		return fmt.Errorf("write answers: %w", err)
	}
	return nil
}

// write writes the answers taken, in their order.
func (w *writer) write() error {
	w.gather, w.runs = w.gather[:0], w.runs[:0]
	joined := false // the last run is the end of gather
	for _, r := range w.taken {
		a := r.Answer
		switch {
		case len(a) == 0:
			continue
		case len(w.taken) == 1 || len(a) > w.small || len(w.gather)+len(a) > gatherMax:
			w.runs, joined = append(w.runs, a), false
			continue
		case w.gather == nil:
			w.gather = make([]byte, 0, gatherMax)
		}
		at := len(w.gather)
		w.gather = append(w.gather, a...)
		if joined {
			last := &w.runs[len(w.runs)-1]
			*last = (*last)[:len(*last)+len(a)]
		} else {
			w.runs, joined = append(w.runs, w.gather[at:]), true
		}
	}
	return w.writeRuns()
}

func (w *writer) writeRuns() error {
	defer clear(w.runs)
	if w.vector && len(w.runs) > 1 {
		w.bufs = w.runs
		_, err := w.bufs.WriteTo(w.nc)
		return err
	}
	for _, run := range w.runs {
		if _, err := w.nc.Write(run); err != nil {
			return err
		}
	}
	return nil
}

// releaseTaken releases the requests taken, whose answers were sent or never will be.
func (c *Conn) releaseTaken(sent bool) {
	shared := int64(0)
	for _, r := range c.out.taken {
		if r.shared {
			shared += r.held
		}
		c.session.Released(r, sent && len(r.Answer) > 0)
		c.recycle(r)
	}
	if shared > 0 {
		c.svc.srv.shared.release(shared)
	}
	c.mu.Lock()
	for _, r := range c.out.taken {
		c.uncount(r)
	}
	c.room.Signal()
	c.mu.Unlock()
}
