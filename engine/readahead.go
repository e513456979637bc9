package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

const (
	streamsMax  = 4        // sequential readers of one inode that are told apart
	aheadAfter  = 2        // reads one after the other, after which one reads ahead
	aheadMin    = 1 << 20  // bytes that the first reading ahead covers
	aheadMax    = 8 << 20  // and a long stream's
	aheadsMax   = 4        // under way at once
	prefetchMax = 32 << 20 // bytes of one request to prefetch: the memory tier would hardly keep more
)

// streams remembers where recent sequential reads of an inode ended. The zero value is ready.
type streams struct {
	mu   sync.Mutex // held for a few comparisons only
	s    [streamsMax]stream
	next int // the one to forget
}

type stream struct {
	end    int64 // furthest byte read
	reads  int   // that followed one another; 0 for no stream
	ahead  int64 // read ahead up to here
	window int64 // of the last reading ahead
	cold   bool  // what it reads is not all in the memory tier
}

// note records a read of a file of size bytes and returns what should be read ahead of it; nothing
// if from == to. Reads that are under way at once may come a little out of order.
func (t *streams) note(off, end, size int64, missed bool) (from, to int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slack := min(4*(end-off), aheadMin)
	var s *stream
	for i := range t.s {
		if t.s[i].reads > 0 && off >= t.s[i].end-slack && off <= t.s[i].end+slack {
			s = &t.s[i]
			break
		}
	}
	if s == nil {
		t.s[t.next] = stream{end: end, reads: 1, cold: missed}
		t.next = (t.next + 1) % streamsMax
		return 0, 0
	}
	s.end = max(s.end, end)
	s.reads++
	s.cold = s.cold || missed
	if s.reads <= aheadAfter || !s.cold || s.ahead-s.end > s.window/2 {
		return 0, 0
	}
	s.window = min(max(aheadMin, 2*s.window), aheadMax)
	from, to = max(s.ahead, s.end), min(s.end+s.window, size)
	if from >= to {
		return 0, 0
	}
	s.ahead = to
	return from, to
}

// warm says that all that was read ahead up to to was in the memory tier already.
func (t *streams) warm(to int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.s {
		if t.s[i].ahead == to {
			t.s[i].cold = false
		}
	}
}

// noteRead is told of each read of a request, and whether it missed the memory tier. Meanwhile what a
// sequential reader of cold data will want next is fetched into the memory tier.
func (e *Engine) noteRead(n *node, w *window, missed bool) {
	if e.aheads == nil {
		return
	}
	from, to := n.streams.note(w.off, w.off+int64(len(w.p)), int64(n.attr.Load().Size), missed)
	if from == to {
		return
	}
	select {
	case e.aheads <- struct{}{}:
	default:
		return // enough of it is under way
	}
	e.bg.Go(func() {
		defer func() { <-e.aheads }()
		if missed, err := e.prefetch(e.life, n.ino, from, to-from); err == nil && !missed {
			n.streams.warm(to)
		}
	})
}

// prefetch reads a range into the memory tier, in pieces, several at once. It reports whether
// anything was not there yet.
func (e *Engine) prefetch(ctx context.Context, ino Ino, off, length int64) (missed bool, err error) {
	if err := e.guard.enter(); err != nil {
		return false, err
	}
	defer e.guard.exit()
	const piece = pieceChunks * minChunkSize
	pieces := (length + piece - 1) / piece
	workers := min(pieces, piecesMax)
	var (
		wg   sync.WaitGroup
		any  atomic.Bool
		errs [piecesMax]error
	)
	for g := range workers {
		wg.Go(func() {
			buf := e.pools.piece.Get().(*chunkBuf)
			defer e.pools.piece.Put(buf)
			for k := g; k < pieces && errs[g] == nil && ctx.Err() == nil; k += workers {
				n := min(piece, length-k*piece)
				w := e.window(ino, buf.b[:n], off+k*piece)
				var m bool
				m, errs[g] = e.readWindow(ctx, &w, nil)
				if m {
					any.Store(true)
					e.counts.prefetched.Add(n)
				}
			}
		})
	}
	wg.Wait()
	return any.Load(), errors.Join(errs[:]...)
}
