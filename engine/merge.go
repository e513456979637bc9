package engine

import (
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// mergerName is stored by Pebble and must never change for a value format.
const mergerName = "zerofs.chunk.1"

// newMerger returns the merger of chunk values.
//
// It does not implement pebble.DeletableValueMerger: Pebble says that the base is included as soon
// as it met one Set, and older Sets of the key may lie in levels below the compaction's. Dropping an
// all-zero result would bring those back. A chunk that was folded to zeros stays as a value of one byte.
func newMerger(chunkSize int) *pebble.Merger {
	pool := &sync.Pool{New: func() any { return &fold{size: chunkSize, buf: make([]byte, chunkSize)} }}
	return &pebble.Merger{
		Name: mergerName,
		Merge: func(key, value []byte) (pebble.ValueMerger, error) {
			if len(key) != chunkKeyLen || key[0] != prefixChunk {
				return nil, fmt.Errorf("%w: merge operand at key %x", ErrCorrupt, key)
			}
			f := pool.Get().(*fold)
			f.pool = pool
			if err := f.add(value, false); err != nil {
				f.Close()
				return nil, fmt.Errorf("key %x: %w", key, err)
			}
			return f, nil
		},
	}
}

// fold gathers values of one chunk. What is covered does not depend on the order or grouping in
// which values were added, and the result depends on nothing else.
type fold struct {
	size    int
	buf     []byte // zeros where not covered
	covered []span // ordered, neither overlapping nor touching
	out     []byte
	pool    *sync.Pool
}

// MergeNewer implements pebble.ValueMerger.
func (f *fold) MergeNewer(value []byte) error { return f.add(value, true) }

// MergeOlder implements pebble.ValueMerger.
func (f *fold) MergeOlder(value []byte) error { return f.add(value, false) }

// Finish implements pebble.ValueMerger: with the base included, or everything covered, the
// result is a full value, otherwise one operand.
func (f *fold) Finish(includesBase bool) ([]byte, io.Closer, error) {
	f.out = f.append(f.out[:0], includesBase)
	return f.out, f, nil
}

// Close implements io.Closer: the result is no longer used.
func (f *fold) Close() error {
	clear(f.buf)
	f.covered = f.covered[:0]
	f.pool.Put(f)
	return nil
}

// add takes in a value that is newer, or older, than all before it.
func (f *fold) add(value []byte, newer bool) error {
	if len(value) == 0 {
		return fmt.Errorf("%w: empty chunk value", ErrCorrupt)
	}
	body, kind := value[:len(value)-1], value[len(value)-1]
	switch kind {
	case kindFull:
		if len(body) > f.size {
			return fmt.Errorf("%w: chunk value of %d bytes", ErrCorrupt, len(body))
		}
		f.put(span{0, len(body)}, body, newer)
		f.put(span{len(body), f.size}, nil, newer)
		return nil
	case kindRuns:
		return decodeRuns(body, f.size, func(r run) { f.put(r.span, r.data, newer) })
	}
	return fmt.Errorf("%w: chunk value of kind %d", ErrCorrupt, kind)
}

// put writes data, or zeros if nil, to s: over everything if it is newer, else only where nothing is yet.
func (f *fold) put(s span, data []byte, newer bool) {
	if s.start >= s.end {
		return
	}
	if newer {
		f.copy(s, s.start, data)
	} else {
		pos := s.start
		for _, c := range f.covered {
			if c.end <= pos {
				continue
			}
			if c.start >= s.end {
				break
			}
			f.copy(span{pos, max(pos, c.start)}, s.start, data)
			pos = c.end
		}
		f.copy(span{pos, max(pos, s.end)}, s.start, data)
	}
	f.cover(s)
}

// copy writes the part of data, whose first byte belongs at from, that falls into s.
func (f *fold) copy(s span, from int, data []byte) {
	if s.start >= s.end {
		return
	}
	if data == nil {
		clear(f.buf[s.start:s.end])
		return
	}
	copy(f.buf[s.start:s.end], data[s.start-from:])
}

// cover adds s to what is covered, joined with what it overlaps or touches.
func (f *fold) cover(s span) {
	i := 0
	for i < len(f.covered) && f.covered[i].end < s.start {
		i++
	}
	j := i
	for j < len(f.covered) && f.covered[j].start <= s.end {
		s.start = min(s.start, f.covered[j].start)
		s.end = max(s.end, f.covered[j].end)
		j++
	}
	if i == j {
		f.covered = append(f.covered, span{})
		copy(f.covered[i+1:], f.covered[i:])
		f.covered[i] = s
		return
	}
	f.covered[i] = s
	f.covered = append(f.covered[:i+1], f.covered[j:]...)
}

func (f *fold) append(dst []byte, includesBase bool) []byte {
	if includesBase || len(f.covered) == 1 && f.covered[0] == (span{0, f.size}) {
		dst = append(dst, f.buf[:trimZeros(f.buf)]...)
		return append(dst, kindFull)
	}
	e := runsEncoder{dst: dst}
	for _, c := range f.covered {
		e.bytes(c.start, f.buf[c.start:c.end])
	}
	return e.finish()
}
