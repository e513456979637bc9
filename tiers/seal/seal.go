// Package seal turns bytes that leave the process into sealed bytes, and back. What it seals
// is hidden, and cannot be changed without notice, from anybody who has the store or the disk but
// not the password; names and sizes of objects stay visible.
//
// # Keys
//
//	password --Argon2id(salt)--> wrapping key --opens--> root secret (256 bits, random, for good)
//	root secret --HKDF-SHA256(salt, "zerofs <cipher> <label>")--> one key per use
//
// A change of password wraps the same root secret anew: it does not help against somebody
// who copied a keyring entry and knows the old password.
//
// # Invariants
//
//   - A key and nonce seal one plaintext only. Sealed files: the key is the file's, from a random
//     128-bit id, the nonce the frame's index, and a frame is sealed once. Sealed logs: the nonce is a
//     MAC of place and payload, so that a log which is reopened after a crash, and seals
//     another record in the place of a torn one, repeats no nonce. Everything else: random 192 bits.
//   - What opens is what was sealed, in its place: frames and records cannot be moved within a
//     file or between files, a file cannot be cut at a frame without notice.
//   - Nothing here depends on file or object names, so that Pebble may rename.
//   - Input of any kind is an error at worst. Sealing a frame of the wrong length panics.
//
// # Format
//
// All integers are big-endian. Every AEAD adds a tag of 16 bytes at its end.
//
// Sealed file (table files, bodies of log records): File
//
//	offset  size   field
//	0       8      magic "ZFSFILE\n"
//	8       4      version, 1
//	12      1      cipher: 1 ChaCha20-Poly1305, 2 AES-256-GCM
//	13      3      zeros
//	16      4      frame size on disk, 16384
//	20      16     file id
//	36      4060   zeros
//	4096    16384  frame 0, 16368 bytes of plaintext
//	...            the last frame has 0 (only of an empty file) to 16368 bytes of plaintext
//
// Its key is that of label "file" with the whole header as salt. The nonce is the frame's index
// in 96 bits, with the top bit set on the last frame. There is no additional data.
//
// Sealed log (MANIFEST and the like): Log
//
//	offset  size   field
//	0       8      magic "ZFSLOG1\n"
//	8       1      cipher
//	9       7      zeros
//	16      16     log id
//	32      16     check: HMAC-SHA256("log header" key without salt, bytes 0 to 31), cut
//	48      16     zeros
//	64             records, each on a multiple of 8, padded with zeros
//
// and a record at offset o (8 bytes where it goes into a MAC)
//
//	offset  size   field
//	0       4      magic "ZREC"
//	4       4      n, bytes of plaintext, below 2^30
//	8       8      index of the record, from 0
//	16      16     log id
//	32      12     nonce: HMAC-SHA256("log nonce" key, index | o | plaintext), cut
//	44      12     check: HMAC-SHA256("log check" key, o | bytes 0 to 43), cut
//	56      n+16   plaintext, sealed with the "log seal" key; additional data: bytes 0 to 55
//
// The keys have the log's whole header as salt. ReadLog says how damage is told from a torn tail.
//
// Objects keyring/<n>, n in 16 hexadecimal digits, from 1:
//
//	offset  size   field
//	0       8      magic "ZFSKEYR\n"
//	8       4      version, 1
//	12      4      Argon2id: passes
//	16      4      Argon2id: memory in KiB
//	20      4      Argon2id: threads
//	24      8      n
//	32      32     salt
//	64      24     nonce
//	88      48     the root secret, sealed with XChaCha20-Poly1305; additional data: bytes 0 to 87
//
// Object volume:
//
//	offset  size   field
//	0       8      magic "ZFSVOLM\n"
//	8       4      format of the volume, 1
//	12      4      zeros
//	16      24     nonce
//	40      n+16   sealed with XChaCha20-Poly1305, label "volume"; additional data: bytes 0 to 39
//
// and its plaintext in format 1
//
//	0       16     volume id
//	16      4      chunk size in bytes
//	20      1      cipher
//	21      1      k, length of the name of the compression
//	22      k      the name
//
// The first 40 bytes and the sealing of volume stay the same in all formats, so that a newer
// one is refused by name and not taken for damage.
//
// # Concurrency
//
// Key and File may be used by any goroutine; a Log by one at a time.
package seal

import "errors"

// Cipher names an AEAD. Values are part of the format.
type Cipher uint8

// The ciphers.
const (
	ChaCha20Poly1305 Cipher = 1
	AES256GCM        Cipher = 2
)

// String returns the cipher's name as the configuration has it.
func (c Cipher) String() string {
	switch c {
	case ChaCha20Poly1305:
		return "chacha20poly1305"
	case AES256GCM:
		return "aes256gcm"
	}
	return "unknown cipher"
}

func (c Cipher) known() bool { return c == ChaCha20Poly1305 || c == AES256GCM }

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
