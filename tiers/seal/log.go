package seal

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

const (
	logMagic      = "ZFSLOG1\n"
	logHeaderSize = 64
	logCheckSize  = 16
	recMagic      = "ZREC"
	recHeaderSize = 56
	recAlign      = 8
	macSize       = 12 // of nonce and check

	// Offsets in a record's header.
	recLength = 4
	recIndex  = 8
	recID     = 16
	recNonce  = 32
	recCheck  = 44
)

// MaxRecord is the limit in bytes, itself excluded, of a sealed log's record.
const MaxRecord = 1 << 30

// Log seals the records of one sealed log: a file that grows and is synced in between. A record
// must be durable before the next one is written, or ReadLog may take what a crash left for
// damage; the header may travel with the first record. Not safe for concurrent use.
type Log struct {
	header []byte
	aead   cipher.AEAD
	nonce  hash.Hash // HMAC keyed for nonces
	check  hash.Hash // HMAC keyed for checks
	index  uint64    // of the next record
	offset uint64    // of the next record in the file
}

// NewLog begins a sealed log with a new id; Header is what the file starts with.
func (k *Key) NewLog(id FileID) (*Log, error) {
	header, err := k.logHeader(id)
	if err != nil {
		return nil, fmt.Errorf("seal: log %v: %w", id, err)
	}
	l := &Log{header: header, offset: logHeaderSize}
	if l.aead, err = k.AEAD("log seal", l.header); err != nil {
		return nil, fmt.Errorf("seal: log %v: %w", id, err)
	}
	if l.nonce, err = k.mac("log nonce", l.header); err != nil {
		return nil, fmt.Errorf("seal: log %v: %w", id, err)
	}
	if l.check, err = k.mac("log check", l.header); err != nil {
		return nil, fmt.Errorf("seal: log %v: %w", id, err)
	}
	return l, nil
}

// mac returns HMAC-SHA256 under the sub-key of label and salt.
func (k *Key) mac(label string, salt []byte) (hash.Hash, error) {
	sub, err := k.derive("hmac-sha256", label, salt)
	if err != nil {
		return nil, err
	}
	return hmac.New(sha256.New, sub), nil
}

// logHeader returns the header of the log with the given id.
func (k *Key) logHeader(id FileID) ([]byte, error) {
	h := make([]byte, 0, logHeaderSize)
	h = append(h, logMagic...)
	h = append(h, byte(k.cipher), 0, 0, 0, 0, 0, 0, 0)
	h = append(h, id[:]...)
	mac, err := k.mac("log header", nil)
	if err != nil {
		return nil, err
	}
	mac.Write(h)
	h = append(h, mac.Sum(nil)[:logCheckSize]...)
	return h[:logHeaderSize], nil
}

// Header returns the log file's first bytes.
func (l *Log) Header() []byte { return append([]byte(nil), l.header...) }

// Seal appends to dst the next record, which carries payload (less than MaxRecord bytes; more is
// a mistake of the caller's, and Seal panics). It belongs right behind the record, or the
// header, before it.
func (l *Log) Seal(dst, payload []byte) []byte {
	if len(payload) >= MaxRecord {
		panic(fmt.Sprintf("seal: log record of %d bytes", len(payload)))
	}
	start := len(dst)
	dst = append(dst, recMagic...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.BigEndian.AppendUint64(dst, l.index)
	dst = append(dst, l.header[16:32]...)
	dst = l.appendNonce(dst, payload)
	dst = l.appendCheck(dst, dst[start:], l.offset)
	head := dst[start:]
	dst = l.aead.Seal(dst, head[recNonce:recCheck], payload, head)
	for (len(dst)-start)%recAlign != 0 {
		dst = append(dst, 0)
	}
	l.index++
	l.offset += uint64(len(dst) - start)
	return dst
}

// appendNonce appends the next record's nonce. All that is sealed or authenticated goes into it:
// two records have the same nonce only if they are the same record.
func (l *Log) appendNonce(dst, payload []byte) []byte {
	l.nonce.Reset()
	var place [16]byte
	binary.BigEndian.PutUint64(place[:8], l.index)
	binary.BigEndian.PutUint64(place[8:], l.offset)
	l.nonce.Write(place[:])
	l.nonce.Write(payload)
	var sum [sha256.Size]byte
	return append(dst, l.nonce.Sum(sum[:0])[:macSize]...)
}

// appendCheck appends the check of the record header head, which lies at offset.
func (l *Log) appendCheck(dst, head []byte, offset uint64) []byte {
	l.check.Reset()
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], offset)
	l.check.Write(at[:])
	l.check.Write(head[:recCheck])
	var sum [sha256.Size]byte
	return append(dst, l.check.Sum(sum[:0])[:macSize]...)
}

// recordSize returns the bytes that a record of n bytes of plaintext takes in the file.
func recordSize(n uint64) uint64 {
	return (recHeaderSize + n + Overhead + recAlign - 1) &^ (recAlign - 1)
}
