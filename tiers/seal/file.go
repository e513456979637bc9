package seal

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"sync"
)

// Sizes in bytes of a sealed file's parts. See File.
const (
	HeaderSize = 4096
	FrameSize  = 16384 // on disk, tag included; the last frame may be shorter
	Overhead   = 16    // of a frame: the tag
	FrameData  = FrameSize - Overhead
)

const (
	fileMagic   = "ZFSFILE\n"
	fileVersion = 1
	nonceSize   = 12
)

// FileID is the random name that a sealed file's key is derived from.
type FileID [16]byte

// String returns the id in hexadecimal digits.
func (id FileID) String() string { return fmt.Sprintf("%x", id[:]) }

// File seals and opens the frames of one sealed file: a header of HeaderSize bytes, then frames
// of FrameSize bytes each of which holds FrameData bytes of plaintext; the last one may be
// shorter, is marked as last in its nonce, and is there even when the file is empty.
type File struct {
	id     FileID
	cipher Cipher
	aead   cipher.AEAD
}

// File returns the sealed file of the given id. Any goroutine may use it.
func (k *Key) File(id FileID) (*File, error) {
	f := &File{id: id, cipher: k.cipher}
	var err error
	if f.aead, err = k.AEAD("file", f.Header()); err != nil {
		return nil, fmt.Errorf("seal: file %v: %w", id, err)
	}
	return f, nil
}

// ID returns the file's id.
func (f *File) ID() FileID { return f.id }

// Header returns the file's header, HeaderSize bytes. It follows from the id and the cipher.
func (f *File) Header() []byte { return f.AppendHeader(make([]byte, 0, HeaderSize)) }

// AppendHeader appends the file's header to dst.
func (f *File) AppendHeader(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, fileMagic...)
	dst = binary.BigEndian.AppendUint32(dst, fileVersion)
	dst = append(dst, byte(f.cipher), 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, FrameSize)
	dst = append(dst, f.id[:]...)
	return append(dst, zeros[:HeaderSize-(len(dst)-start)]...)
}

var zeros [HeaderSize]byte

// CheckHeader returns an error that wraps ErrCorrupt unless header is this file's.
func (f *File) CheckHeader(header []byte) error {
	var own [HeaderSize]byte
	if !bytes.Equal(header, f.AppendHeader(own[:0])) {
		return fmt.Errorf("seal: file %v: header: %w", f.id, ErrCorrupt)
	}
	return nil
}

// nonces lends nonces: one on the stack would escape through the interface of the AEAD.
var nonces = sync.Pool{New: func() any { return new([nonceSize]byte) }}

// frameNonce returns the nonce of a frame, from the pool.
func frameNonce(frame uint64, last bool) *[nonceSize]byte {
	n := nonces.Get().(*[nonceSize]byte)
	n[0], n[1], n[2], n[3] = 0, 0, 0, 0
	if last {
		n[0] = 0x80
	}
	binary.BigEndian.PutUint64(n[4:], frame)
	return n
}

// Seal appends to dst the sealed frame with the given index and plaintext (exactly FrameData
// bytes unless last). dst and plain must not overlap, unless dst's spare capacity begins exactly
// at plain (in-place sealing). A plaintext of another length is a mistake of the caller's, and
// Seal panics.
func (f *File) Seal(dst, plain []byte, frame uint64, last bool) []byte {
	if len(plain) > FrameData || (len(plain) < FrameData && !last) {
		panic(fmt.Sprintf("seal: file %v: frame %d of %d bytes, last %t", f.id, frame, len(plain), last))
	}
	n := frameNonce(frame, last)
	dst = f.aead.Seal(dst, n[:], plain, nil)
	nonces.Put(n)
	return dst
}

// Open appends to dst the plaintext of the sealed frame. An error wraps ErrCorrupt and names the
// file id and frame. In-place opening into sealed[:0] is allowed; after an error the sealed
// bytes are then gone.
func (f *File) Open(dst, sealed []byte, frame uint64, last bool) ([]byte, error) {
	if len(sealed) > FrameSize || len(sealed) < Overhead || (len(sealed) < FrameSize && !last) {
		return dst, fmt.Errorf("seal: file %v: frame %d: %d bytes: %w", f.id, frame, len(sealed), ErrCorrupt)
	}
	n := frameNonce(frame, last)
	plain, err := f.aead.Open(dst, n[:], sealed, nil)
	nonces.Put(n)
	if err != nil {
		return dst, fmt.Errorf("seal: file %v: frame %d: %w", f.id, frame, ErrCorrupt)
	}
	return plain, nil
}

// StoredSize returns the size in bytes of the sealed file of n bytes of plaintext.
func StoredSize(n int64) int64 { return HeaderSize + n + int64(Frames(n))*Overhead }

// PlainSize returns the bytes of plaintext of a sealed file of the given size in bytes, or an
// error that wraps ErrCorrupt when no sealed file has that size.
func PlainSize(stored int64) (int64, error) {
	frames := (stored - HeaderSize + FrameSize - 1) / FrameSize
	n := stored - HeaderSize - frames*Overhead
	if stored < HeaderSize+Overhead || n < 0 || StoredSize(n) != stored {
		return 0, fmt.Errorf("seal: a sealed file cannot have %d bytes: %w", stored, ErrCorrupt)
	}
	return n, nil
}

// Frames returns the number of frames of a sealed file of n bytes of plaintext; at least 1.
func Frames(n int64) uint64 {
	if n <= FrameData {
		return 1
	}
	return (uint64(n) + FrameData - 1) / FrameData
}
