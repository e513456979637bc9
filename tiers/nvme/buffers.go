package nvme

import (
	"unsafe"

	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

// blockFrames is the number of frames, blockSize their bytes, that one write or read of a table
// file takes at most.
const (
	blockFrames = 32
	blockSize   = blockFrames * seal.FrameSize
)

// onDisk returns the bytes that a file of size bytes takes, and that direct I/O moves.
func onDisk(size int64) int64 { return (size + disk.Align - 1) &^ (disk.Align - 1) }

// alignedTo reports whether direct I/O can use p at off.
func alignedTo(p []byte, off int64) bool {
	return len(p) > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%disk.Align == 0 &&
		len(p)%disk.Align == 0 && off%disk.Align == 0
}
