package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	keyringPrefix  = "keyring/"
	entryMagic     = "ZFSKEYR\n"
	entryVersion   = 1
	entrySaltSize  = 32
	entryHeader    = 88 // bytes before the sealed secret: the additional data
	entryNonceAt   = 64
	entrySize      = entryHeader + keySize + Overhead
	entryNumDigits = 16
)

// KDF holds the parameters of Argon2id, which makes each guess at a password expensive. They are
// kept in each keyring entry.
type KDF struct {
	Passes    uint32 // 1 to 16
	MemoryKiB uint32 // 8 per thread, to 256 MiB
	Threads   uint32 // 1 to 16
}

// DefaultKDF takes some 135 ms on two cores.
var DefaultKDF = KDF{Passes: 3, MemoryKiB: 64 << 10, Threads: 4}

// valid bounds what an entry, which is read before it is authenticated, can make us spend.
func (p KDF) valid() bool {
	return p.Passes >= 1 && p.Passes <= 16 && p.Threads >= 1 && p.Threads <= 16 &&
		p.MemoryKiB >= 8*p.Threads && p.MemoryKiB <= 256<<10
}

// wrapping returns the AEAD under the password's key.
func (p KDF) wrapping(password, salt []byte) (cipher.AEAD, error) {
	key := argon2.IDKey(password, salt, p.Passes, p.MemoryKiB, uint8(p.Threads), keySize)
	return chacha20poly1305.NewX(key)
}

// entry is one object of the keyring, decoded but not authenticated.
type entry struct {
	kdf    KDF
	number uint64
	raw    []byte // the whole object, entrySize bytes
}

// newEntry wraps root under password as the keyring's entry number.
func newEntry(root [keySize]byte, password []byte, number uint64, kdf KDF, rand io.Reader) (*entry, error) {
	if !kdf.valid() {
		return nil, fmt.Errorf("seal: Argon2id parameters out of range: %+v", kdf)
	}
	raw := make([]byte, 0, entrySize)
	raw = append(raw, entryMagic...)
	raw = binary.BigEndian.AppendUint32(raw, entryVersion)
	raw = binary.BigEndian.AppendUint32(raw, kdf.Passes)
	raw = binary.BigEndian.AppendUint32(raw, kdf.MemoryKiB)
	raw = binary.BigEndian.AppendUint32(raw, kdf.Threads)
	raw = binary.BigEndian.AppendUint64(raw, number)
	fixed := len(raw)
	raw = raw[:entryHeader]
	if _, err := io.ReadFull(rand, raw[fixed:]); err != nil { // salt and nonce
		return nil, fmt.Errorf("seal: random bytes for %s: %w", entryKey(number), err)
	}
	aead, err := kdf.wrapping(password, raw[fixed:entryNonceAt])
	if err != nil {
		return nil, err
	}
	raw = aead.Seal(raw, raw[entryNonceAt:entryHeader], root[:], raw[:entryHeader])
	return &entry{kdf: kdf, number: number, raw: raw}, nil
}

// decodeEntry decodes the object keyring/<number>. An error wraps ErrCorrupt or, of a newer
// version, ErrFormat.
func decodeEntry(number uint64, raw []byte) (*entry, error) {
	name := entryKey(number)
	if len(raw) < 12 || string(raw[:8]) != entryMagic {
		return nil, fmt.Errorf("%s: no keyring entry: %w", name, ErrCorrupt)
	}
	if v := binary.BigEndian.Uint32(raw[8:]); v != entryVersion {
		return nil, fmt.Errorf("%s: version %d, this program knows %d: %w", name, v, entryVersion, ErrFormat)
	}
	if len(raw) != entrySize {
		return nil, fmt.Errorf("%s: %d bytes: %w", name, len(raw), ErrCorrupt)
	}
	e := &entry{
		kdf: KDF{
			Passes:    binary.BigEndian.Uint32(raw[12:]),
			MemoryKiB: binary.BigEndian.Uint32(raw[16:]),
			Threads:   binary.BigEndian.Uint32(raw[20:]),
		},
		number: binary.BigEndian.Uint64(raw[24:]),
		raw:    raw,
	}
	if e.number != number {
		return nil, fmt.Errorf("%s: says that it is entry %d: %w", name, e.number, ErrCorrupt)
	}
	if !e.kdf.valid() {
		return nil, fmt.Errorf("%s: Argon2id parameters out of range: %+v: %w", name, e.kdf, ErrCorrupt)
	}
	return e, nil
}

// open returns the root secret, or ErrPassword: a wrong password and damage look the same.
func (e *entry) open(password []byte) (root [keySize]byte, err error) {
	aead, err := e.kdf.wrapping(password, e.raw[32:entryNonceAt])
	if err != nil {
		return root, err
	}
	plain, err := aead.Open(nil, e.raw[entryNonceAt:entryHeader], e.raw[entryHeader:], e.raw[:entryHeader])
	if err != nil {
		return root, ErrPassword
	}
	copy(root[:], plain)
	return root, nil
}

// entryKey returns the object key of a keyring entry.
func entryKey(number uint64) string {
	return fmt.Sprintf("%s%0*x", keyringPrefix, entryNumDigits, number)
}

var errNotEntry = errors.New("no name of a keyring entry")

// parseEntryKey is the inverse of entryKey.
func parseEntryKey(key string) (uint64, error) {
	digits, ok := strings.CutPrefix(key, keyringPrefix)
	if !ok || len(digits) != entryNumDigits {
		return 0, errNotEntry
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	if err != nil || n == 0 || entryKey(n) != key {
		return 0, errNotEntry
	}
	return n, nil
}
