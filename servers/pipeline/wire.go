package pipeline

import (
	"errors"
	"io"
)

// Sizes of a connection's read buffer, in bytes: until the session has begun, and afterwards.
const (
	startBuffer = 4 << 10

	// Buffered is the most bytes that can be taken at once after Conn.Started.
	Buffered = 64 << 10

	// From so many missing bytes on a payload is read into place and not through the buffer: one
	// copy less. Below, a read that may bring the next requests too is worth more.
	readThrough = 16 << 10

	emptyReads = 100 // reads of nothing in a row, which io.Reader allows, before giving up
)

// wireReader reads a connection with as few system calls as it can. One goroutine uses it.
type wireReader struct {
	src  io.Reader
	buf  []byte
	r, w int // buf[r:w] is read and not yet taken
}

func newWireReader(src io.Reader, size int) *wireReader {
	return &wireReader{src: src, buf: make([]byte, size)}
}

// resize gives the reader a buffer of another size, which has to hold what is buffered.
func (b *wireReader) resize(size int) {
	buf := make([]byte, max(size, b.buffered()))
	b.w = copy(buf, b.buf[b.r:b.w])
	b.r, b.buf = 0, buf
}

// buffered returns the number of bytes that can be taken without a read.
func (b *wireReader) buffered() int { return b.w - b.r }

// rest returns what is buffered; nothing may be taken afterwards.
func (b *wireReader) rest() []byte { return b.buf[b.r:b.w] }

// take returns the next n bytes, at most the size of the buffer; they are valid until the next
// call. io.EOF means that not one byte came, io.ErrUnexpectedEOF that some did.
func (b *wireReader) take(n int) ([]byte, error) {
	for b.buffered() < n {
		if err := b.fill(); err != nil {
			if b.buffered() > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	p := b.buf[b.r : b.r+n]
	b.r += n
	return p, nil
}

// fill reads once into the free part of the buffer, which it makes if there is none.
func (b *wireReader) fill() error {
	if b.r > 0 {
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
	}
	for range emptyReads {
		n, err := b.src.Read(b.buf[b.w:])
		b.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// readFull fills p.
func (b *wireReader) readFull(p []byte) error {
	for {
		n := copy(p, b.buf[b.r:b.w])
		b.r += n
		p = p[n:]
		switch {
		case len(p) == 0:
			return nil
		case len(p) >= readThrough:
			_, err := io.ReadFull(b.src, p)
			return unexpected(err)
		}
		if err := b.fill(); err != nil {
			return unexpected(err)
		}
	}
}

// discard reads n bytes and forgets them.
func (b *wireReader) discard(n int64) error {
	for {
		k := min(int64(b.buffered()), n)
		b.r += int(k)
		n -= k
		if n == 0 {
			return nil
		}
		if err := b.fill(); err != nil {
			return unexpected(err)
		}
	}
}

// unexpected makes an end of the stream inside of something an io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
