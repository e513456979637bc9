// Package seal turns bytes that leave the process into sealed bytes, and back.
package seal

import (
	"context"
	"crypto/cipher"
	"errors"
	"io"

	"zerofs/tiers/object"
)

// Cipher names an AEAD. Values are part of the format.
type Cipher uint8

// The ciphers.
const (
	ChaCha20Poly1305 Cipher = 1
	AES256GCM        Cipher = 2
)

// Sizes in bytes of a sealed file's parts. See File.
const (
	HeaderSize = 4096
	FrameSize  = 16384 // on disk, tag included; the last frame may be shorter
	Overhead   = 16    // of a frame: the tag
	FrameData  = FrameSize - Overhead
)

var (
	// ErrPassword reports that no keyring entry opens with the password.
	ErrPassword = errors.New("seal: wrong password")
	// ErrCorrupt reports that sealed bytes do not authenticate. It is wrapped with file and place.
	ErrCorrupt = errors.New("seal: corrupt")
	// ErrFormat reports a volume of a format that this program does not know.
	ErrFormat = errors.New("seal: unknown volume format")
	// ErrNoVolume reports that the store holds no volume and Create was not asked for.
	ErrNoVolume = errors.New("seal: no volume")
)

// Key is a volume's data key, from which every other key is derived (HKDF-SHA256, one label per use).
type Key struct{}

// NewKey returns the key of the given root secret and cipher.
func NewKey(root [32]byte, c Cipher) *Key { panic("not built") }

// Cipher returns the volume's cipher.
func (k *Key) Cipher() Cipher { panic("not built") }

// AEAD returns the volume's cipher under the sub-key of label and salt. Its nonces have 96 bits
// and must not repeat for the same label and salt.
func (k *Key) AEAD(label string, salt []byte) (cipher.AEAD, error) { panic("not built") }

// XAEAD returns XChaCha20-Poly1305 under the sub-key of label: random 192-bit nonces are safe.
func (k *Key) XAEAD(label string) (cipher.AEAD, error) { panic("not built") }

// FileID is the random name that a sealed file's key is derived from.
type FileID [16]byte

// File seals and opens the frames of one sealed file: a header of HeaderSize bytes, then frames
// of FrameSize bytes each of which holds FrameData bytes of plaintext; the last one may be
// shorter, is marked as last in its nonce, and is there even when the file is empty.
type File struct{}

// File returns the sealed file of the given id. Any goroutine may use it.
func (k *Key) File(id FileID) (*File, error) { panic("not built") }

// Header returns the file's header, HeaderSize bytes. It follows from the id and the cipher.
func (f *File) Header() []byte { panic("not built") }

// Seal appends to dst the sealed frame with the given index and plaintext (exactly FrameData
// bytes unless last). dst and plain must not overlap, unless dst's spare capacity begins exactly
// at plain (in-place sealing).
func (f *File) Seal(dst, plain []byte, frame uint64, last bool) []byte { panic("not built") }

// Open appends to dst the plaintext of the sealed frame. An error wraps ErrCorrupt and names the
// file id and frame. In-place opening into sealed[:0] is allowed.
func (f *File) Open(dst, sealed []byte, frame uint64, last bool) ([]byte, error) { panic("not built") }

// StoredSize returns the size in bytes of the sealed file of n bytes of plaintext.
func StoredSize(n int64) int64 { panic("not built") }

// Frames returns the number of frames of a sealed file of n bytes of plaintext; at least 1.
func Frames(n int64) uint64 { panic("not built") }

// Log seals the records of one sealed log: a file that grows and is synced in between. Not safe
// for concurrent use.
type Log struct{}

// NewLog begins a sealed log with a new id; Header is what the file starts with.
func (k *Key) NewLog(id FileID) (*Log, error) { panic("not built") }

// Header returns the log file's first bytes.
func (l *Log) Header() []byte { panic("not built") }

// Seal appends to dst the next record, which carries payload (less than 1 GiB).
func (l *Log) Seal(dst, payload []byte) []byte { panic("not built") }

// ReadLog reads a sealed log of the given stored size and name (for errors). It returns the
// joined payloads, the stored length that they took, and a Log ready to append there. A torn
// record at the very end is dropped; one that is followed by another valid record, or that
// begins below captured bytes of plaintext, is an error that wraps ErrCorrupt.
func (k *Key) ReadLog(name string, r io.ReaderAt, size, captured int64) (plain []byte, stored int64, l *Log, err error) {
	panic("not built")
}

// VolumeID names a volume for good.
type VolumeID [16]byte

// Volume is what the objects keyring/<n> and volume say.
type Volume struct {
	ID          VolumeID
	Format      uint32
	ChunkSize   uint32 // bytes
	Cipher      Cipher
	Compression string // of Pebble's blocks: "minlz", "none"
	Key         *Key
}

// VolumeOptions says how OpenVolume creates.
type VolumeOptions struct {
	Create      bool // make the volume if the store holds none
	ChunkSize   uint32
	Cipher      Cipher
	Compression string
	Rand        io.Reader // of secrets: crypto/rand.Reader
}

// OpenVolume opens the keyring with password and reads the volume's description, or, with
// Create, makes both. Two creators at once, and a creator that crashed half-way, end with one volume.
func OpenVolume(ctx context.Context, store object.Store, password []byte, opts VolumeOptions) (*Volume, error) {
	panic("not built")
}

// ChangePassword makes the volume open with next instead of password.
func ChangePassword(ctx context.Context, store object.Store, password, next []byte, rand io.Reader) error {
	panic("not built")
}
