package seal

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// FormatVersion is the volume format that this program writes, and the newest that it reads.
const FormatVersion = 1

const (
	volumeKey     = "volume"
	volumeMagic   = "ZFSVOLM\n"
	volumeNonceAt = 16
	volumeHeader  = 40 // bytes before the sealed part: the additional data
	volumeFixed   = 22 // bytes of the plaintext before the compression's name
	volumeMax     = volumeHeader + volumeFixed + 255 + Overhead
)

// Chunk sizes in bytes: powers of two between these.
const (
	MinChunkSize = 4 << 10
	MaxChunkSize = 64 << 10
)

// compressions are those that a volume may name.
var compressions = []string{"minlz", "none"}

// VolumeID names a volume for good.
type VolumeID [16]byte

// String returns the id in hexadecimal digits.
func (id VolumeID) String() string { return fmt.Sprintf("%x", id[:]) }

// Volume is what the objects keyring/<n> and volume say.
type Volume struct {
	ID          VolumeID
	Format      uint32
	ChunkSize   uint32 // bytes
	Cipher      Cipher
	Compression string // of Pebble's blocks: "minlz", "none"
	Key         *Key
}

// check returns an error that wraps ErrFormat if v is none that this program can serve.
func (v *Volume) check() error {
	switch {
	case v.Format != FormatVersion:
		return fmt.Errorf("volume of format %d, this program knows up to %d: %w", v.Format, FormatVersion, ErrFormat)
	case v.ChunkSize < MinChunkSize || v.ChunkSize > MaxChunkSize || v.ChunkSize&(v.ChunkSize-1) != 0:
		return fmt.Errorf("chunk size %d: %w", v.ChunkSize, ErrFormat)
	case !v.Cipher.known():
		return fmt.Errorf("cipher %d: %w", v.Cipher, ErrFormat)
	case !slices.Contains(compressions, v.Compression):
		return fmt.Errorf("compression %q: %w", v.Compression, ErrFormat)
	}
	return nil
}

// encodeVolume returns the object volume.
func encodeVolume(v *Volume, root [keySize]byte, rand io.Reader) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("seal: make volume: %w", err)
	}
	raw := make([]byte, volumeHeader, volumeMax)
	copy(raw, volumeMagic)
	binary.BigEndian.PutUint32(raw[8:], v.Format)
	if _, err := io.ReadFull(rand, raw[volumeNonceAt:]); err != nil {
		return nil, fmt.Errorf("seal: random bytes for volume: %w", err)
	}
	plain := append([]byte(nil), v.ID[:]...)
	plain = binary.BigEndian.AppendUint32(plain, v.ChunkSize)
	plain = append(plain, byte(v.Cipher), byte(len(v.Compression)))
	plain = append(plain, v.Compression...)
	aead, err := NewKey(root, v.Cipher).XAEAD("volume")
	if err != nil {
		return nil, err
	}
	return aead.Seal(raw, raw[volumeNonceAt:volumeHeader], plain, raw[:volumeHeader]), nil
}

// decodeVolume opens the object volume. An error wraps ErrCorrupt, or ErrFormat if the bytes are
// authentic but of a format not known here.
func decodeVolume(raw []byte, root [keySize]byte) (*Volume, error) {
	if len(raw) < volumeHeader+Overhead || string(raw[:8]) != volumeMagic {
		return nil, fmt.Errorf("seal: object %s: %w", volumeKey, ErrCorrupt)
	}
	aead, err := NewKey(root, 0).XAEAD("volume")
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, raw[volumeNonceAt:volumeHeader], raw[volumeHeader:], raw[:volumeHeader])
	if err != nil {
		return nil, fmt.Errorf("seal: object %s: %w", volumeKey, ErrCorrupt)
	}
	v := &Volume{Format: binary.BigEndian.Uint32(raw[8:])}
	if v.Format == FormatVersion {
		if len(plain) < volumeFixed || len(plain) != volumeFixed+int(plain[21]) {
			return nil, fmt.Errorf("seal: object %s: %d bytes inside: %w", volumeKey, len(plain), ErrCorrupt)
		}
		v.ID = VolumeID(plain[:16])
		v.ChunkSize = binary.BigEndian.Uint32(plain[16:])
		v.Cipher = Cipher(plain[20])
		v.Compression = string(plain[volumeFixed:])
	}
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("seal: object %s: %w", volumeKey, err)
	}
	v.Key = NewKey(root, v.Cipher)
	return v, nil
}
