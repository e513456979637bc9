package journal

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"

	"zerofs/tiers/disk"
)

// windowSize is how much a window reads at once.
const windowSize = 1 << 20

// window reads a segment in large pieces. Not safe for concurrent use.
type window struct {
	file disk.File
	path string
	size int64  // bytes of the file that may hold runs
	buf  []byte // aligned
	base int64  // offset of buf[0]
	n    int64  // valid bytes in buf
}

func (w *window) reset(file disk.File, path string, size int64) {
	w.file, w.path, w.size, w.base, w.n = file, path, size, 0, 0
}

// bytes returns the n bytes at off, both multiples of disk.Align and within size. They are valid
// until the next call.
func (w *window) bytes(off, n int64) ([]byte, error) {
	if off >= w.base && off+n <= w.base+w.n {
		return w.buf[off-w.base:][:n], nil
	}
	want := min(max(n, windowSize), w.size-off)
	if int64(len(w.buf)) < want {
		w.buf = disk.Alloc(int(want))
	}
	w.base, w.n = off, 0
	got, err := w.file.ReadAt(w.buf[:want], off)
	if int64(got) < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("journal: read %s at %d: %w", w.path, off, err)
	}
	w.n = int64(got)
	return w.buf[:n], nil
}

// scanner finds the valid runs of one segment, in order. Where it meets something else it looks
// for the next valid run at each block boundary, as far as the segment's end.
type scanner struct {
	keys *keyring
	win  window

	// own limits it to runs of one salt and sequence; nil takes every one that authenticates.
	own   *segmentHeader
	off   int64
	bad   int64 // where it last met something that is no run; the end of the runs when next says no
	plain []byte
	raw   []byte
}

// scan begins with the segment's run at off.
func (s *scanner) scan(seg *segment, own *segmentHeader, size, off int64) {
	s.win.reset(seg.file, seg.path, size)
	s.own, s.off = own, off
}

// found is a valid run.
type found struct {
	runHeader
	off    int64
	bad    int64  // offset of what is unreadable before it, -1 if nothing is
	sealed []byte // its records as they were sealed; valid until the next call of the scanner
}

// next returns the next valid run; ok is false when there is none. An error means that the disk
// could not be read, not that something there is unreadable.
func (s *scanner) next() (f found, ok bool, err error) {
	bad := int64(-1)
	for ; s.off+disk.Align <= s.win.size; s.off += disk.Align {
		f, ok, err := s.try(s.off)
		if err != nil {
			return f, false, err
		}
		if ok {
			f.bad = bad
			s.off += f.size()
			return f, true, nil
		}
		if bad < 0 {
			bad = s.off
		}
	}
	if bad < 0 {
		bad = s.off
	}
	s.bad = bad
	return found{}, false, nil
}

// try reads the run at off, if there is one.
func (s *scanner) try(off int64) (f found, ok bool, err error) {
	b, err := s.win.bytes(off, disk.Align)
	if err != nil {
		return f, false, err
	}
	h, ok := decodeRunHeader(b, s.win.size-off)
	if !ok || int64(h.block) != off/disk.Align {
		return f, false, nil
	}
	if s.own != nil && (h.salt != s.own.salt || h.seq != s.own.seq || h.epoch != s.own.epoch) {
		return f, false, nil
	}
	if b, err = s.win.bytes(off, h.size()); err != nil {
		return f, false, err
	}
	aead, err := s.keys.aead(h.salt)
	if err != nil {
		return f, false, err
	}
	sealed, err := openRun(s.plain[:0], b, &h, aead)
	if err != nil {
		return f, false, nil
	}
	s.plain = sealed
	return found{runHeader: h, off: off, sealed: sealed}, true, nil
}

// records returns the raw bytes of the run's records; valid until the next call of the scanner.
func (s *scanner) records(f *found) ([]byte, error) {
	if f.flags&flagS2 == 0 {
		return f.sealed, nil
	}
	if n, err := s2.DecodedLen(f.sealed); err != nil || n != int(f.raw) {
		return nil, errRecords
	}
	if cap(s.raw) < int(f.raw) {
		s.raw = make([]byte, f.raw)
	}
	raw, err := s2.Decode(s.raw[:cap(s.raw)], f.sealed)
	if err != nil {
		return nil, errRecords
	}
	return raw, nil
}
