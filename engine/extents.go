package engine

import (
	"context"
	"errors"
)

// extents calls fn for the runs of data and holes of a file from off to off+n, which lie within it, in
// order, until fn returns false. A hole reads as zeros and takes no space. Values are not read.
func (e *Engine) extents(ctx context.Context, nd *node, off, n int64, fn func(n int64, hole bool) bool) (err error) {
	if err := e.guard.enter(); err != nil {
		return err
	}
	defer e.guard.exit()
	size := int64(e.opts.ChunkSize)
	first, last := ChunkIndex(off/size), ChunkIndex((off+n-1)/size)
	s := e.pools.runs.Get().(*runScratch)
	defer e.pools.runs.Put(s)
	it, err := e.iter(ctx, s, nd.ino, first, last)
	if err != nil {
		return chunkError(nd.ino, first, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()

	m := extentMaker{pos: off, end: off + n, fn: fn}
	steps := 0
	for ok := it.First(); ok; ok = it.Next() {
		i, err := chunkOfKey(it.Key())
		if err != nil {
			return err
		}
		if v := it.LazyValue(); v.Len() <= 1 { // folded to zeros
			continue
		}
		if !m.to(int64(i)*size, true) || !m.to(int64(i+1)*size, false) {
			return nil
		}
		if steps++; steps%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := it.Error(); err != nil {
		return chunkError(nd.ino, first, err)
	}
	if m.to(m.end, true) {
		m.flush()
	}
	return nil
}

// extentMaker joins neighbours of one kind into runs.
type extentMaker struct {
	pos, end int64
	run      int64 // bytes before pos that fn was not told of
	hole     bool  // what they are
	fn       func(n int64, hole bool) bool
}

// to adds what lies from pos to offset; false when fn wants no more.
func (m *extentMaker) to(offset int64, hole bool) bool {
	offset = min(offset, m.end)
	if offset <= m.pos {
		return true
	}
	if m.hole != hole && !m.flush() {
		return false
	}
	m.hole = hole
	m.run += offset - m.pos
	m.pos = offset
	return true
}

func (m *extentMaker) flush() bool {
	n := m.run
	m.run = 0
	return n == 0 || m.fn(n, m.hole)
}
