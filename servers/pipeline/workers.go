package pipeline

import (
	"sync"
	"sync/atomic"
)

// idleMax is the number of workers kept waiting for work; the others end when they have none.
const idleMax = 128

// workers runs requests of all connections of one Serve. There are never more than requests that
// were admitted. A goroutine is kept for the next request, since one that has run the engine has
// the stack for it.
type workers struct {
	jobs chan *Request
	wg   sync.WaitGroup
	idle atomic.Int32 // workers that wait at jobs, or are about to
}

func newWorkers() *workers { return &workers{jobs: make(chan *Request)} }

// do runs r on another goroutine, at once.
func (w *workers) do(r *Request) {
	select {
	case w.jobs <- r:
		return
	default:
	}
	w.wg.Go(func() { w.work(r) })
}

func (w *workers) work(r *Request) {
	for {
		r.conn.session.Run(r)
		if w.idle.Add(1) > idleMax {
			w.idle.Add(-1)
			return
		}
		next, ok := <-w.jobs
		w.idle.Add(-1)
		if !ok {
			return
		}
		r = next
	}
}

// close ends the workers and waits for them. Nothing may be given to do any more.
func (w *workers) close() {
	close(w.jobs)
	w.wg.Wait()
}
