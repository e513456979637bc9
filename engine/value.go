package engine

import (
	"encoding/binary"
	"fmt"
)

// Kinds of chunk value, in its last byte.
const (
	kindFull byte = 1 // bytes of the chunk from its start; what is missing at the end is zeros
	kindRuns byte = 2 // ordered disjoint runs of bytes or zeros; the rest is as it was
)

// zeroRunMin is the shortest stretch of zeros that is worth a run of its own.
const zeroRunMin = 16

// span is a range of bytes within a chunk: from start to before end.
type span struct{ start, end int }

// trimZeros returns the length of b without the zeros at its end.
func trimZeros(b []byte) int {
	n := len(b)
	for n >= 8 && binary.LittleEndian.Uint64(b[n-8:n]) == 0 {
		n -= 8
	}
	for n > 0 && b[n-1] == 0 {
		n--
	}
	return n
}

// leadingZeros returns the length of the run of zeros that b begins with.
func leadingZeros(b []byte) int {
	n := 0
	for n+8 <= len(b) && binary.LittleEndian.Uint64(b[n:]) == 0 {
		n += 8
	}
	for n < len(b) && b[n] == 0 {
		n++
	}
	return n
}

// runsEncoder appends runs to a value. Its zero value, with dst set, is at the chunk's start.
type runsEncoder struct {
	dst []byte
	pos int // end of the last run
}

func (e *runsEncoder) head(off, n int, zero uint64) {
	e.dst = binary.AppendUvarint(e.dst, uint64(off-e.pos))
	e.dst = binary.AppendUvarint(e.dst, uint64(n)<<1|zero)
	e.pos = off + n
}

// zeros appends a run of zeros.
func (e *runsEncoder) zeros(off, n int) { e.head(off, n, 1) }

// bytes appends data as runs, long stretches of zeros in it as such.
func (e *runsEncoder) bytes(off int, data []byte) {
	begin := 0 // of the run of bytes that has not been appended yet
	for i := 0; i < len(data); {
		if data[i] != 0 {
			i++
			continue
		}
		n := leadingZeros(data[i:])
		if n >= zeroRunMin {
			e.literal(off+begin, data[begin:i])
			e.zeros(off+i, n)
			begin = i + n
		}
		i += n
	}
	e.literal(off+begin, data[begin:])
}

func (e *runsEncoder) literal(off int, data []byte) {
	if len(data) > 0 {
		e.head(off, len(data), 0)
		e.dst = append(e.dst, data...)
	}
}

// finish ends the value.
func (e *runsEncoder) finish() []byte { return append(e.dst, kindRuns) }

// run is one run of an operand; data is nil for zeros.
type run struct {
	span
	data []byte
}

// decodeRuns calls fn for each run of a value of kindRuns whose last byte was cut off. Only what
// runsEncoder can have written is accepted; data is part of b.
func decodeRuns(b []byte, chunkSize int, fn func(run)) error {
	pos, lastZero, first := 0, false, true
	for len(b) > 0 {
		gap, n := canonicalUvarint(b)
		if n <= 0 || gap > uint64(chunkSize-pos) {
			return fmt.Errorf("%w: operand's gap at %d", ErrCorrupt, pos)
		}
		b = b[n:]
		head, n := canonicalUvarint(b)
		length, zero := head>>1, head&1 == 1
		pos += int(gap)
		if n <= 0 || length == 0 || length > uint64(chunkSize-pos) {
			return fmt.Errorf("%w: operand's run at %d", ErrCorrupt, pos)
		}
		if !first && gap == 0 && zero == lastZero {
			return fmt.Errorf("%w: operand's run at %d is not maximal", ErrCorrupt, pos)
		}
		b = b[n:]
		r := run{span: span{pos, pos + int(length)}}
		if !zero {
			if uint64(len(b)) < length {
				return fmt.Errorf("%w: operand's run at %d ends early", ErrCorrupt, pos)
			}
			r.data, b = b[:length:length], b[length:]
		}
		fn(r)
		pos, lastZero, first = r.end, zero, false
	}
	return nil
}

// canonicalUvarint is binary.Uvarint, which takes 0x80 0x00 for a zero too; that gives n = 0 here.
func canonicalUvarint(b []byte) (v uint64, n int) {
	v, n = binary.Uvarint(b)
	if n > 1 && b[n-1] == 0 {
		return 0, 0
	}
	return v, n
}

// decodeFull returns the bytes of a chunk's folded value. They are at most chunkSize; the rest is zeros.
func decodeFull(v []byte, chunkSize int) ([]byte, error) {
	n := len(v) - 1
	if n < 0 || v[n] != kindFull || n > chunkSize {
		return nil, fmt.Errorf("%w: chunk value of %d bytes", ErrCorrupt, len(v))
	}
	return v[:n], nil
}
