package pipeline

import (
	"math/bits"
	"sync"
	"unsafe"
)

// Buffers come in powers of two from bufferMin to BufferMax.
const (
	bufferMinBits = 12
	bufferMin     = 1 << bufferMinBits
	bufferMaxBits = 25
	bufferAlign   = 4096

	// BufferMax is the largest payload in bytes that a request may have.
	BufferMax = 1 << bufferMaxBits

	// Headroom is how many bytes may stand before a payload, so that the header of an answer and its
	// payload are one run of memory.
	Headroom = 64
)

// Buffer is memory for the payload of one request or answer. The payload begins at an address that
// is a multiple of 4096.
type Buffer struct {
	mem   []byte
	start int // of the payload in mem; at least Headroom
	class int
}

// Payload returns the first n bytes for payload.
func (b *Buffer) Payload(n int) []byte { return b.mem[b.start : b.start+n : b.start+n] }

// From returns the run that begins h bytes before the payload, at most Headroom, and holds n bytes
// of it.
func (b *Buffer) From(h, n int) []byte { return b.mem[b.start-h : b.start+n] }

var buffers [bufferMaxBits - bufferMinBits + 1]sync.Pool

// classOf returns the class of buffers that hold n bytes.
func classOf(n int) int {
	if n <= bufferMin {
		return 0
	}
	return bits.Len(uint(n-1)) - bufferMinBits
}

// classSize returns what a buffer for n bytes counts in budgets.
func classSize(n int) int64 { return 1 << (bufferMinBits + classOf(n)) }

// getBuffer returns a buffer for n bytes, 0 to BufferMax, with whatever its last user left in it.
func getBuffer(n int) *Buffer {
	class := classOf(n)
	if b, ok := buffers[class].Get().(*Buffer); ok {
		return b
	}
	size := 1 << (bufferMinBits + class)
	mem := make([]byte, size+Headroom+bufferAlign-1)
	first := uintptr(unsafe.Pointer(unsafe.SliceData(mem))) + Headroom
	pad := -first & (bufferAlign - 1)
	return &Buffer{mem: mem, start: Headroom + int(pad), class: class}
}

// putBuffer gives a buffer back; nobody may use it afterwards.
func putBuffer(b *Buffer) { buffers[b.class].Put(b) }
