package nvme

import (
	"fmt"
	"io"
	"sync/atomic"

	"zerofs/tiers/disk"
	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

// Reader reads a local copy. Any goroutine may use it; the copy is not removed before Close.
type Reader struct {
	table  *table
	file   *tableFile
	size   int64 // plaintext bytes
	closed atomic.Bool
}

// OpenFile opens the local copy of a table file of size bytes of plaintext, or fails with
// ErrNotLocal. A copy of another size, or with a bad header, is an error that wraps
// seal.ErrCorrupt. It is cheap enough to be called for each read, and a Reader that is kept keeps
// an evicted or removed file on the disk: close it soon.
func (t *Tier) OpenFile(id seal.FileID, size int64) (*Reader, error) {
	if t.ended() {
		return nil, fmt.Errorf("nvme: open table %v: %w", id, ErrClosed)
	}
	tb := t.acquire(id)
	if tb == nil {
		return nil, fmt.Errorf("%w: table %v", ErrNotLocal, id)
	}
	r, err := tb.reader(size)
	if err != nil {
		if rerr := t.release(tb); rerr != nil {
			t.log.Warn("remove of a table failed", "err", rerr)
		}
		return nil, err
	}
	return r, nil
}

func (tb *table) reader(size int64) (*Reader, error) {
	if size < 0 || seal.StoredSize(size) != tb.stored {
		return nil, fmt.Errorf("nvme: table %v: %w: %d bytes stored, not those of %d bytes", tb.id, seal.ErrCorrupt, tb.stored, size)
	}
	f, err := tb.open()
	if err != nil {
		return nil, err
	}
	return &Reader{table: tb, file: f, size: size}, nil
}

// Size returns the plaintext bytes of the file.
func (r *Reader) Size() int64 { return r.size }

// Close gives the reference back. It may be called twice.
func (r *Reader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.table.tier.release(r.table)
}

// ReadAt reads plaintext. A frame that does not authenticate is an error that wraps seal.ErrCorrupt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if r.closed.Load() {
		return 0, fmt.Errorf("%w: table %v", ErrClosed, r.table.id)
	}
	if off < 0 {
		return 0, fmt.Errorf("nvme: read table %v: negative offset %d", r.table.id, off)
	}
	if off >= r.size {
		return 0, eofUnlessEmpty(p)
	}
	want := p[:min(int64(len(p)), r.size-off)]
	done := 0
	for done < len(want) {
		n, err := r.readFrames(want[done:], off+int64(done))
		done += n
		if err != nil {
			return done, fmt.Errorf("nvme: read table %v: %w", r.table.id, err)
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

func eofUnlessEmpty(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	return io.EOF
}

// readFrames fills the beginning of p, which lies within the file, from a remembered frame or
// with one read of the disk.
func (r *Reader) readFrames(p []byte, off int64) (int, error) {
	first := uint64(off) / seal.FrameData
	skip := int(uint64(off) % seal.FrameData)
	frames := &r.table.tier.frames
	if n := frames.get(r.table.serial, first, skip, p); n > 0 {
		return n, nil
	}
	count := min((skip+len(p)+seal.FrameData-1)/seal.FrameData, blockFrames)
	if count < aheadFrames && first > 0 && frames.has(r.table.serial, first-1) {
		count = aheadFrames
	}
	last := seal.Frames(r.size) - 1
	count = int(min(uint64(count), last-first+1))
	at := seal.HeaderSize + int64(first)*seal.FrameSize
	stored := int(min(int64(count)*seal.FrameSize, r.table.stored-at))
	buf := disk.GetBuf(int(onDisk(int64(stored))))
	defer disk.PutBuf(buf)
	if n, err := r.file.ReadAt(buf, at); n < stored {
		return 0, fmt.Errorf("frames %d to %d: %w", first, first+uint64(count)-1, noEOF(err))
	}
	done := 0
	for i := range count {
		sealed := buf[i*seal.FrameSize : min((i+1)*seal.FrameSize, stored)]
		n, err := r.openFrame(p[done:], sealed, first+uint64(i), skip, first+uint64(i) == last)
		if err != nil && done == len(p) {
			break // ahead of what was asked for: whoever asks for it will be told
		}
		if err != nil {
			return done, err
		}
		done += n
		skip = 0
	}
	return done, nil
}

// openFrame copies the frame's plaintext from skip on to p, straight into p where all of it fits, and
// remembers what p does not take.
func (r *Reader) openFrame(p, sealed []byte, frame uint64, skip int, last bool) (int, error) {
	if n := len(sealed) - seal.Overhead; skip == 0 && len(p) >= n {
		_, err := r.file.seal.Open(p[:0:n], sealed, frame, last)
		return n, err
	}
	plain, err := r.file.seal.Open(sealed[:0], sealed, frame, last)
	if err != nil {
		return 0, err
	}
	r.table.tier.frames.put(r.table.serial, frame, plain)
	return copy(p, plain[skip:]), nil
}

// Stored returns the sealed bytes as they go to the store. It is valid until Close.
func (r *Reader) Stored() object.Body { return stored{r} }

// stored is a table's bytes on disk. Offsets, lengths and buffers need no alignment. Frames are
// authenticated before they are given out: a damaged copy must not replace in the store what it was
// made from.
type stored struct{ r *Reader }

// Size returns the file's bytes on disk.
func (s stored) Size() int64 { return s.r.table.stored }

// ReadAt reads sealed bytes. A frame that does not authenticate is an error that wraps seal.ErrCorrupt.
func (s stored) ReadAt(p []byte, off int64) (int, error) {
	r := s.r
	if r.closed.Load() {
		return 0, fmt.Errorf("%w: table %v", ErrClosed, r.table.id)
	}
	if off < 0 {
		return 0, fmt.Errorf("nvme: read table %v: negative offset %d", r.table.id, off)
	}
	if off >= r.table.stored {
		return 0, eofUnlessEmpty(p)
	}
	want := p[:min(int64(len(p)), r.table.stored-off)]
	done := 0
	for done < len(want) {
		n, err := s.readChecked(want[done:], off+int64(done))
		done += n
		if err != nil {
			return done, fmt.Errorf("nvme: read table %v: %w", r.table.id, err)
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// readChecked fills the beginning of p, which lies within the file, with the header, or with one
// read of the disk.
func (s stored) readChecked(p []byte, off int64) (int, error) {
	r := s.r
	if off < seal.HeaderSize {
		return copy(p, r.file.seal.Header()[off:]), nil
	}
	first := uint64(off-seal.HeaderSize) / seal.FrameSize
	skip := int(uint64(off-seal.HeaderSize) % seal.FrameSize)
	count := min((skip+len(p)+seal.FrameSize-1)/seal.FrameSize, blockFrames)
	at := seal.HeaderSize + int64(first)*seal.FrameSize
	size := int(min(int64(count)*seal.FrameSize, r.table.stored-at))
	buf := disk.GetBuf(int(onDisk(int64(size))))
	defer disk.PutBuf(buf)
	if n, err := r.file.ReadAt(buf, at); n < size {
		return 0, fmt.Errorf("frames %d to %d: %w", first, first+uint64(count)-1, noEOF(err))
	}
	n := copy(p, buf[skip:size])
	last := seal.Frames(r.size) - 1
	for i := range count {
		sealed := buf[i*seal.FrameSize : min((i+1)*seal.FrameSize, size)]
		if _, err := r.file.seal.Open(sealed[:0], sealed, first+uint64(i), first+uint64(i) == last); err != nil {
			return 0, err
		}
	}
	return n, nil
}
