package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Integers are little-endian and of fixed size, strings and bytes carry their length in front (4
// bytes), so that every value has one encoding: what decodes encodes to the same bytes.

var errShort = errors.New("ends early")

func putU32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func putU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func putBytes(b, p []byte) []byte         { return append(putU32(b, uint32(len(p))), p...) }
func putString(b []byte, s string) []byte { return append(putU32(b, uint32(len(s))), s...) }

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// reader takes values off the front of b. Its first failure stays; everything after it is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// take returns the next n bytes, which share b's memory, or nil.
func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail(errShort)
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *reader) array16() (a [16]byte) {
	copy(a[:], r.take(16))
	return a
}

func (r *reader) array32() (a [32]byte) {
	copy(a[:], r.take(32))
	return a
}

func (r *reader) bytes() []byte  { return r.take(uint64(r.u32())) }
func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) bool() bool {
	v := r.u8()
	if v > 1 {
		r.fail(fmt.Errorf("bool is %d", v))
	}
	return v == 1
}

func (r *reader) zeros(n uint64) {
	for _, c := range r.take(n) {
		if c != 0 {
			r.fail(errors.New("reserved bytes are not zero"))
			return
		}
	}
}

// count reads a number of items of at least size bytes each, bounded by what is left.
func (r *reader) count(size int) int {
	n := r.u32()
	if uint64(n)*uint64(size) > uint64(len(r.b)) {
		r.fail(fmt.Errorf("%d items do not fit", n))
		return 0
	}
	return int(n)
}

// done returns the first failure, or an error if bytes are left.
func (r *reader) done() error {
	if r.err == nil && len(r.b) != 0 {
		r.fail(fmt.Errorf("%d bytes too many", len(r.b)))
	}
	return r.err
}
