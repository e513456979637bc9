package nbd

import (
	"context"
	"fmt"
	"net"
	"runtime"
)

// Limits of one write to a socket.
const (
	writeMax  = 1 << 20  // bytes, unless one answer is larger: Exports.Wait is asked again after so many
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
	taken  []*request  // whose answers are being written
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

// complete takes a request whose answer is ready. The answer is written before complete returns
// or, if somebody is writing already, by them.
func (c *conn) complete(r *request) {
	c.mu.Lock()
	c.pending = append(c.pending, r)
	if c.writing {
		c.mu.Unlock()
		return
	}
	c.writing = true
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

// writeSome writes some of the pending answers and releases their requests. It returns false when
// there are none, after which the caller is the writer no more.
func (c *conn) writeSome() bool {
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
			c.fail(err)
		}
	}
	c.releaseTaken(!cut)
	return true
}

// take moves requests from pending to w.taken: one, and as many more as one write may hold.
func (w *writer) take(pending *[]*request) {
	all := *pending
	k, bytes := 0, 0
	for k < len(all) && k < runsMax {
		bytes += len(all[k].answer)
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
func (c *conn) send() error {
	if err := c.svc.srv.Exports.Wait(c.ctx); err != nil {
		return fmt.Errorf("not allowed to answer: %w", err)
	}
	if c.ctx.Err() != nil { // nobody has come to cut the connection yet
		return context.Cause(c.ctx)
	}
	bytes := 0
	for _, r := range c.out.taken {
		bytes += len(r.answer)
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
		a := r.answer
		switch {
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
func (c *conn) releaseTaken(sent bool) {
	stats := &c.svc.srv.stats
	shared := int64(0)
	var read, written, failed int64
	for _, r := range c.out.taken {
		if r.shared {
			shared += r.held
		}
		switch {
		case !sent:
		case r.errno != 0:
			failed++
		case r.cmd == cmdRead:
			read += r.payload
		case r.cmd == cmdWrite:
			written += r.payload
		}
		c.recycle(r)
	}
	if shared > 0 {
		c.svc.srv.shared.release(shared)
	}
	addNonZero(&stats.readBytes, read)
	addNonZero(&stats.writtenBytes, written)
	addNonZero(&stats.failed, failed)
	c.mu.Lock()
	for _, r := range c.out.taken {
		c.uncount(r)
	}
	c.room.Signal()
	c.mu.Unlock()
}
