package nvme

import (
	"sync"
	"unsafe"

	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

// Buffers are aligned, in four sizes: one to three frames for small reads, a part, and the block
// in which files are written and long reads go.
var bufferFrames = [...]int{1, 4, 16, blockFrames}

// blockFrames is the number of frames in the largest buffer.
const blockFrames = 32

var buffers [len(bufferFrames)]sync.Pool

// buffer is a pooled aligned buffer.
type buffer struct {
	b     []byte
	class int
}

// getBuffer returns a buffer of at least n bytes, at most blockFrames frames. Its content is arbitrary.
func getBuffer(n int) *buffer {
	for class, frames := range bufferFrames {
		if size := frames * seal.FrameSize; n <= size {
			if b, ok := buffers[class].Get().(*buffer); ok {
				return b
			}
			return &buffer{b: disk.Alloc(size), class: class}
		}
	}
	panic("nvme: buffer of more than a block")
}

func (b *buffer) put() { buffers[b.class].Put(b) }

// alignedTo reports whether direct I/O can use p at off.
func alignedTo(p []byte, off int64) bool {
	return len(p) > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%disk.Align == 0 &&
		len(p)%disk.Align == 0 && off%disk.Align == 0
}
