package disk

import (
	"fmt"
	"math/bits"
	"sync"
	"unsafe"
)

// Buffers between Align and maxPooled bytes are pooled, by powers of two.
const (
	minClass  = 12 // 1<<12 is Align
	maxClass  = 24
	maxPooled = 1 << maxClass
)

// pools holds, by size class, pointers to the first byte of free buffers of 1<<class bytes. A
// pointer fits an interface without an allocation, which a slice does not.
var pools [maxClass + 1]sync.Pool

// Alloc returns a zeroed slice of n bytes whose first byte is aligned to Align. Its capacity may
// be larger than n.
func Alloc(n int) []byte {
	if n <= 0 {
		return nil
	}
	// The runtime's size classes of whole pages are aligned already; where that ever changes,
	// or for a size in between, Align more bytes leave room to find an aligned start.
	size := (n + Align - 1) &^ (Align - 1)
	b := make([]byte, size)
	if !isAligned(b) {
		b = make([]byte, size+Align)
		skip := Align - int(uintptr(unsafe.Pointer(&b[0]))%Align)
		b = b[skip%Align:][:size:size]
	}
	return b[:n]
}

// GetBuf returns a slice of n bytes whose first byte is aligned to Align, from a pool. Its
// contents are arbitrary. PutBuf gives it back; a buffer that is not given back is garbage
// collected like any other.
func GetBuf(n int) []byte {
	if n <= 0 {
		return nil
	}
	if n > maxPooled {
		return Alloc(n)
	}
	c := classOf(n)
	if p, _ := pools[c].Get().(unsafe.Pointer); p != nil {
		return unsafe.Slice((*byte)(p), 1<<c)[:n]
	}
	return Alloc(1 << c)[:n]
}

// PutBuf gives back a buffer of GetBuf. It may be resliced to another length but must begin
// where GetBuf's did, and nobody may use it, or another slice of it, any more. Buffers that are
// not of GetBuf's sizes are left to the garbage collector.
func PutBuf(b []byte) {
	n := cap(b)
	if n < Align || n > maxPooled || n&(n-1) != 0 {
		return
	}
	b = b[:n]
	if !isAligned(b) {
		return
	}
	pools[classOf(n)].Put(unsafe.Pointer(&b[0]))
}

// CheckAligned returns an error that wraps ErrMisaligned unless p and off are fit for direct I/O.
// Implementations of File call it first; op and name are for the error.
func CheckAligned(op, name string, p []byte, off int64) error {
	if off >= 0 && off%Align == 0 && len(p)%Align == 0 && (len(p) == 0 || isAligned(p)) {
		return nil
	}
	return fmt.Errorf("disk: %s %s: %d bytes at %d: %w", op, name, len(p), off, ErrMisaligned)
}

// isAligned reports whether the first byte of b, which is not empty, is aligned to Align.
func isAligned(b []byte) bool { return uintptr(unsafe.Pointer(&b[0]))%Align == 0 }

// classOf returns the least c with 1<<c >= n and c >= minClass.
func classOf(n int) int { return max(minClass, bits.Len(uint(n-1))) }
