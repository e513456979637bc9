package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/tiers/memory"
)

// A cold run of many chunks is read in pieces, several at once: the store answers slowly, and many
// at a time.
const (
	pieceChunks = 64
	piecesMax   = 8 // at once, for one request
)

// read fills p from off, which is below the end of the file as far as it matters. No lock is held.
func (e *Engine) read(ctx context.Context, n *node, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if err := e.guard.enter(); err != nil {
		return err
	}
	defer e.guard.exit()
	w := e.window(n.ino, p, off)
	_, err := e.readWindow(ctx, &w, n)
	return err
}

// readWindow fills w.p and reports whether the memory tier missed any of it. If it is a request's,
// and not ahead of one, n is its node.
func (e *Engine) readWindow(ctx context.Context, w *window, n *node) (missed bool, err error) {
	run := 0 // chunks before i that the memory tier did not have, not yet read
	for i := w.first; i <= w.last; i++ {
		if !e.readCached(w, i) {
			run++
			continue
		}
		if run > 0 {
			missed = true
			if err := e.readRun(ctx, w, i-ChunkIndex(run), i-1); err != nil {
				return true, err
			}
			run = 0
		}
	}
	missed = missed || run > 0
	if n != nil {
		e.noteRead(n, w, missed)
	}
	if run == 0 {
		return missed, nil
	}
	return true, e.readRun(ctx, w, w.last+1-ChunkIndex(run), w.last)
}

// window is a request seen as chunks: p is the file's bytes from off.
type window struct {
	ino         Ino
	p           []byte
	off         int64
	size        int // of a chunk
	first, last ChunkIndex
}

func (e *Engine) window(ino Ino, p []byte, off int64) window {
	size := int64(e.opts.ChunkSize)
	return window{ino: ino, p: p, off: off, size: int(size),
		first: ChunkIndex(off / size), last: ChunkIndex((off + int64(len(p)) - 1) / size)}
}

// part returns the part of p that falls into chunk i, and where in the chunk it begins.
func (w *window) part(i ChunkIndex) (part []byte, within int) {
	start := int64(i)*int64(w.size) - w.off // of the chunk, in p
	end := min(start+int64(w.size), int64(len(w.p)))
	if start < 0 {
		return w.p[:end:end], int(-start)
	}
	return w.p[start:end:end], 0
}

// place copies what falls into p of chunk i, of which data is the beginning and the rest is zeros.
func (w *window) place(i ChunkIndex, data []byte) (part []byte, whole bool) {
	part, within := w.part(i)
	k := 0
	if within < len(data) {
		k = copy(part, data[within:])
	}
	clear(part[k:])
	return part, len(part) == w.size
}

// readCached fills in chunk i if the memory tier has it.
func (e *Engine) readCached(w *window, i ChunkIndex) bool {
	part, _ := w.part(i)
	if len(part) == w.size {
		got, ok := e.cache.Get(part[:0], uint64(w.ino), uint64(i))
		if !ok {
			return false
		}
		k := len(got)
		if k > 0 && &got[0] != &part[0] {
			k = copy(part, got)
		}
		clear(part[k:])
		return true
	}
	c := e.pools.chunk()
	defer e.pools.putChunk(c)
	got, ok := e.cache.Get(c.b[:0], uint64(w.ino), uint64(i))
	if ok {
		w.place(i, got)
	}
	return ok
}

// fill offers chunk i, which was read since tok, to the memory tier.
func (e *Engine) fill(w *window, tok memory.Token, i ChunkIndex, data, part []byte, whole bool) {
	switch {
	case whole:
		e.cache.Fill(tok, uint64(w.ino), uint64(i), part)
	case len(data) == w.size:
		e.cache.Fill(tok, uint64(w.ino), uint64(i), data)
	default:
		c := e.pools.chunk()
		k := copy(c.b, data)
		clear(c.b[k:])
		e.cache.Fill(tok, uint64(w.ino), uint64(i), c.b)
		e.pools.putChunk(c)
	}
}

// readRun reads chunks first to last, which the memory tier did not have, from the tree.
func (e *Engine) readRun(ctx context.Context, w *window, first, last ChunkIndex) error {
	if first == last {
		return e.readOne(w, first)
	}
	if last-first < 2*pieceChunks {
		return e.readPiece(ctx, w, first, last)
	}
	return e.readPieces(ctx, *w, first, last)
}

func (e *Engine) readPieces(ctx context.Context, w window, first, last ChunkIndex) error {
	pieces := uint64(last-first)/pieceChunks + 1
	var (
		wg   sync.WaitGroup
		errs [piecesMax]error
	)
	workers := min(pieces, piecesMax)
	for g := range workers {
		wg.Go(func() {
			for k := g; k < pieces && errs[g] == nil; k += workers {
				a := first + ChunkIndex(k)*pieceChunks
				errs[g] = e.readPiece(ctx, &w, a, min(a+pieceChunks-1, last))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// readOne reads one chunk. A point read is cheaper than an iterator, and bloom filters spare it levels.
func (e *Engine) readOne(w *window, i ChunkIndex) error {
	tok := e.cache.BeginFill(uint64(w.ino), uint64(i))
	s := e.pools.runs.Get().(*runScratch)
	defer e.pools.runs.Put(s)
	putChunkKey(s.lower[:], w.ino, i)
	e.counts.pointReads.Add(1)
	v, closer, err := e.db.Get(s.lower[:])
	if errors.Is(err, pebble.ErrNotFound) {
		w.place(i, nil)
		e.cache.Fill(tok, uint64(w.ino), uint64(i), nil)
		return nil
	}
	if err != nil {
		return chunkError(w.ino, i, err)
	}
	defer closer.Close()
	data, err := decodeFull(v, w.size)
	if err != nil {
		return chunkError(w.ino, i, err)
	}
	part, whole := w.place(i, data)
	e.fill(w, tok, i, data, part, whole)
	return nil
}

func chunkError(ino Ino, i ChunkIndex, err error) error {
	return fmt.Errorf("engine: inode %d: chunk %d: %w", ino, i, err)
}

// runScratch is what reading a run needs.
type runScratch struct {
	lower, upper [chunkKeyLen]byte
	opts         pebble.IterOptions
	tokens       []memory.Token
}

// iter returns an iterator over the keys of chunks first to last.
func (e *Engine) iter(ctx context.Context, s *runScratch, ino Ino, first, last ChunkIndex) (*pebble.Iterator, error) {
	putChunkKey(s.lower[:], ino, first)
	putChunkKey(s.upper[:], ino, last+1)
	s.opts = pebble.IterOptions{LowerBound: s.lower[:], UpperBound: s.upper[:]}
	return e.db.NewIterWithContext(ctx, &s.opts)
}

// readPiece reads chunks first to last with one iterator.
func (e *Engine) readPiece(ctx context.Context, w *window, first, last ChunkIndex) (err error) {
	s := e.pools.runs.Get().(*runScratch)
	defer e.pools.runs.Put(s)
	s.tokens = s.tokens[:0]
	for i := first; i <= last; i++ {
		s.tokens = append(s.tokens, e.cache.BeginFill(uint64(w.ino), uint64(i)))
	}
	e.counts.runReads.Add(1)
	it, err := e.iter(ctx, s, w.ino, first, last)
	if err != nil {
		return chunkError(w.ino, first, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	next := first // not filled in yet
	for ok := it.First(); ok; ok = it.Next() {
		i, err := chunkOfKey(it.Key())
		if err != nil || i < next || i > last {
			return chunkError(w.ino, next, fmt.Errorf("%w: found key %x", ErrCorrupt, it.Key()))
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return chunkError(w.ino, i, err)
		}
		data, err := decodeFull(v, w.size)
		if err != nil {
			return chunkError(w.ino, i, err)
		}
		for ; next < i; next++ {
			w.place(next, nil)
		}
		part, whole := w.place(i, data)
		e.fill(w, s.tokens[i-first], i, data, part, whole)
		next++
	}
	if err := it.Error(); err != nil {
		return chunkError(w.ino, next, err)
	}
	for ; next <= last; next++ {
		w.place(next, nil)
	}
	return nil
}
