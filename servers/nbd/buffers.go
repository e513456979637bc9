package nbd

import (
	"math/bits"
	"sync"
	"unsafe"
)

// Buffers come in powers of two from bufferMin to MaxPayload.
const (
	bufferMinBits = 12
	bufferMin     = 1 << bufferMinBits
	bufferMaxBits = 25
	bufferAlign   = 4096

	// headroom is kept free before the payload, so that header and payload of an answer are one
	// run of memory.
	headroom = 64
)

// The classes end where the protocol's payloads do.
const _ = uint(MaxPayload-1<<bufferMaxBits) + uint(1<<bufferMaxBits-MaxPayload)

// buffer is memory for one payload. The payload begins at an aligned address.
type buffer struct {
	mem   []byte
	start int // of the payload in mem; at least headroom
	class int
}

// payload returns the first n bytes for payload.
func (b *buffer) payload(n int) []byte { return b.mem[b.start : b.start+n : b.start+n] }

// from returns the run that begins h bytes before the payload and holds n bytes of it.
func (b *buffer) from(h, n int) []byte { return b.mem[b.start-h : b.start+n] }

// size returns the payload bytes that fit.
func (b *buffer) size() int64 { return 1 << (bufferMinBits + b.class) }

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

// getBuffer returns a buffer for n bytes, 0 to MaxPayload, with whatever its last user left in it.
func getBuffer(n int) *buffer {
	class := classOf(n)
	if b, ok := buffers[class].Get().(*buffer); ok {
		return b
	}
	size := 1 << (bufferMinBits + class)
	mem := make([]byte, size+headroom+bufferAlign-1)
	first := uintptr(unsafe.Pointer(unsafe.SliceData(mem))) + headroom
	pad := -first & (bufferAlign - 1)
	return &buffer{mem: mem, start: headroom + int(pad), class: class}
}

// putBuffer gives a buffer back; nobody may use it afterwards.
func putBuffer(b *buffer) { buffers[b.class].Put(b) }
