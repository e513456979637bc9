package s3

import (
	"errors"
	"io"
	"sync"

	"zerofs/tiers/object"
)

// errReturned ends reads of a body after its Put has returned.
var errReturned = errors.New("the request is over")

// reader reads a range of a Body for one request. The HTTP transport may go on reading for a
// moment after the request has failed; end makes sure that it does not touch the Body then.
type reader struct {
	off, size int64

	mu   sync.Mutex // held while body is read, so that end waits for it
	body io.ReaderAt
	pos  int64
	err  error // the first error of body itself
}

func newReader(body object.Body, off, size int64) *reader {
	return &reader{body: body, off: off, size: size}
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body == nil {
		return 0, errReturned
	}
	if r.pos >= r.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.size-r.pos)]
	n, err := r.body.ReadAt(p, r.off+r.pos)
	r.pos += int64(n)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	r.err = err
	return n, err
}

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	r.pos = offset
	return offset, nil
}

// end takes the body away and returns the error that reading it met, if any.
func (r *reader) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.body = nil
	return r.err
}
