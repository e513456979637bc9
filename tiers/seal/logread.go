package seal

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ReadLog reads a sealed log of the given stored size and name (for errors). It returns the
// joined payloads, the stored length that they took, and a Log ready to append there. A torn
// record at the very end is dropped; one that is followed by another valid record, or that
// begins below captured bytes of plaintext, is an error that wraps ErrCorrupt.
//
// The header counts as part of the first record: a log whose creation was cut short is empty,
// stored is 0 and there is no Log to go on with. What follows a bad record is searched
// for headers of later records: these authenticate by themselves, and only in their place, so
// that lengths which were damaged do not hide what comes after.
func (k *Key) ReadLog(name string, r io.ReaderAt, size, captured int64) (plain []byte, stored int64, l *Log, err error) {
	if size < 0 {
		return nil, 0, nil, fmt.Errorf("seal: log %s: size %d: %w", name, size, ErrCorrupt)
	}
	buf := make([]byte, size)
	n, err := r.ReadAt(buf, 0)
	if err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return nil, 0, nil, fmt.Errorf("seal: read log %s: %w", name, err)
	}
	plain, stored, l, err = k.parseLog(buf)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("seal: log %s: %w", name, err)
	}
	if int64(len(plain)) < captured {
		return nil, 0, nil, fmt.Errorf("seal: log %s: bad or missing record at %d: %d bytes of %d that must be there: %w",
			name, stored, len(plain), captured, ErrCorrupt)
	}
	return plain, stored, l, nil
}

// parseLog opens the records in buf in place and joins them at its start.
func (k *Key) parseLog(buf []byte) (plain []byte, stored int64, l *Log, err error) {
	l, err = k.openHeader(buf)
	if err != nil {
		return nil, 0, nil, err
	}
	if l == nil {
		if at := k.laterRecord(nil, buf, 0, 0); at >= 0 {
			return nil, 0, nil, fmt.Errorf("bad header, and a record at %d: %w", at, ErrCorrupt)
		}
		return nil, 0, nil, nil
	}
	plain = buf[:0]
	for {
		at := int(l.offset)
		payload, ok := l.open(buf)
		if !ok {
			break
		}
		// Leftwards: plaintext is shorter than what held it, so nothing unread is overwritten.
		plain = append(plain, payload...)
		l.index++
		l.offset = uint64(at) + recordSize(uint64(len(payload)))
	}
	if at := k.laterRecord(l, buf, int(l.offset), l.index); at >= 0 {
		return nil, 0, nil, fmt.Errorf("bad record %d at %d, and a later one at %d: %w", l.index, l.offset, at, ErrCorrupt)
	}
	return plain, int64(l.offset), l, nil
}

// openHeader returns the Log that buf begins with, or nil if its header is bad.
func (k *Key) openHeader(buf []byte) (*Log, error) {
	if len(buf) < logHeaderSize {
		return nil, nil
	}
	l, err := k.NewLog(FileID(buf[16:32]))
	if err != nil || bytes.Equal(buf[:logHeaderSize], l.header) {
		return l, err
	}
	return nil, nil
}

// open returns the payload of the record at l.offset, decrypted in place.
func (l *Log) open(buf []byte) (payload []byte, ok bool) {
	if uint64(len(buf)) < l.offset {
		return nil, false
	}
	rec := buf[l.offset:]
	if !l.headerValid(rec, l.offset) || binary.BigEndian.Uint64(rec[recIndex:]) != l.index {
		return nil, false
	}
	n := uint64(binary.BigEndian.Uint32(rec[recLength:]))
	if n >= MaxRecord || uint64(len(rec)) < recordSize(n) {
		return nil, false
	}
	end := recHeaderSize + n + Overhead
	if padding := rec[end:recordSize(n)]; !bytes.Equal(padding, zeros[:len(padding)]) {
		return nil, false
	}
	head, body := rec[:recHeaderSize], rec[recHeaderSize:end]
	payload, err := l.aead.Open(body[:0], head[recNonce:recCheck], body, head)
	return payload, err == nil
}

// headerValid reports whether rec, which lies at offset, begins with a header of this log's.
func (l *Log) headerValid(rec []byte, offset uint64) bool {
	if len(rec) < recHeaderSize || string(rec[:recLength]) != recMagic ||
		!bytes.Equal(rec[recID:recNonce], l.header[16:32]) {
		return false
	}
	var sum [macSize]byte
	return hmac.Equal(l.appendCheck(sum[:0], rec, offset), rec[recCheck:recHeaderSize])
}

// laterRecord looks behind the bad record of the given index at from for the header of a later
// one, and returns its offset or -1. Without a Log, because the file's header is bad, each
// candidate says itself which log it is of.
func (k *Key) laterRecord(l *Log, buf []byte, from int, index uint64) int {
	guess := l == nil
	for at := from; at+recHeaderSize <= len(buf); at += recAlign {
		rec := buf[at:]
		if string(rec[:recLength]) != recMagic || binary.BigEndian.Uint64(rec[recIndex:]) <= index {
			continue
		}
		if id := FileID(rec[recID:recNonce]); l == nil || (guess && id != FileID(l.header[16:32])) {
			var err error
			if l, err = k.NewLog(id); err != nil {
				return -1
			}
		}
		if l.headerValid(rec, uint64(at)) {
			return at
		}
	}
	return -1
}
