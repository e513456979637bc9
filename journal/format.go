package journal

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"zerofs/fence"
	"zerofs/tiers/disk"
)

const (
	segmentMagic   = "ZFS-SEG\n"
	runMagic       = "ZRUN"
	formatVersion  = 1
	keyLabel       = "journal"
	saltSize       = 16
	tagSize        = 16
	segmentHdrSize = 72 // without its tag
	runHdrSize     = 80
	runOverhead    = runHdrSize + tagSize
	lenSize        = 4 // before each record

	flagS2   = 1
	flagMark = 2

	partRun    = 0
	partMark   = 1
	partHeader = 0xffffffff

	// rawMax bounds what one run may decompress to: the largest record of the largest segment.
	rawMax = segmentMax + disk.Align
)

// errUnreadable reports bytes that are not a valid header or run. Whether that is damage or a
// torn tail is for the caller to find out.
var errUnreadable = errors.New("does not authenticate")

type salt [saltSize]byte

type nonce [12]byte

func makeNonce(n uint64, part uint32) nonce {
	var b nonce
	binary.LittleEndian.PutUint64(b[:8], n)
	binary.LittleEndian.PutUint32(b[8:], part)
	return b
}

// segmentHeader is the first block of a segment.
type segmentHeader struct {
	salt    salt
	seq     uint64
	epoch   fence.Epoch
	kept    LSN
	oldest  LSN
	durable LSN
}

// encode writes the header to the first block of b, whose bytes are zero.
func (h *segmentHeader) encode(b []byte, aead cipher.AEAD) {
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	copy(b[16:], h.salt[:])
	binary.LittleEndian.PutUint64(b[32:], h.seq)
	binary.LittleEndian.PutUint64(b[40:], uint64(h.epoch))
	binary.LittleEndian.PutUint64(b[48:], uint64(h.kept))
	binary.LittleEndian.PutUint64(b[56:], uint64(h.oldest))
	binary.LittleEndian.PutUint64(b[64:], uint64(h.durable))
	n := makeNonce(h.seq, partHeader)
	aead.Seal(b[segmentHdrSize:segmentHdrSize], n[:], nil, b[:segmentHdrSize])
}

// decodeSegmentHeader reads a segment's first block. It returns errUnreadable for what is no
// valid header, and another error for a header of a version that it does not know.
func decodeSegmentHeader(b []byte, keys *keyring) (segmentHeader, error) {
	var h segmentHeader
	if len(b) < disk.Align || string(b[:8]) != segmentMagic {
		return h, errUnreadable
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return h, fmt.Errorf("version %d, this program reads version %d", v, formatVersion)
	}
	copy(h.salt[:], b[16:])
	h.seq = binary.LittleEndian.Uint64(b[32:])
	h.epoch = fence.Epoch(binary.LittleEndian.Uint64(b[40:]))
	h.kept = LSN(binary.LittleEndian.Uint64(b[48:]))
	h.oldest = LSN(binary.LittleEndian.Uint64(b[56:]))
	h.durable = LSN(binary.LittleEndian.Uint64(b[64:]))
	aead, err := keys.aead(h.salt)
	if err != nil {
		return h, err
	}
	n := makeNonce(h.seq, partHeader)
	if _, err := aead.Open(nil, n[:], b[segmentHdrSize:segmentHdrSize+tagSize], b[:segmentHdrSize]); err != nil {
		return h, errUnreadable
	}
	if !isZero(b[segmentHdrSize+tagSize : disk.Align]) {
		return h, errUnreadable
	}
	return h, nil
}

// runHeader is what stands before the sealed records of a run.
type runHeader struct {
	flags   uint16
	salt    salt
	seq     uint64
	first   LSN
	count   uint32
	raw     uint32
	stored  uint32
	block   uint32
	epoch   fence.Epoch
	durable LSN
	oldest  LSN
}

// size returns the bytes that the run takes on disk.
func (h *runHeader) size() int64 { return alignUp(runOverhead + int64(h.stored)) }

// last returns the run's last LSN; for a mark the one before its first.
func (h *runHeader) last() LSN { return h.first + LSN(h.count) - 1 }

func (h *runHeader) nonce() nonce {
	if h.flags&flagMark != 0 {
		return makeNonce(uint64(h.first), partMark)
	}
	return makeNonce(uint64(h.first), partRun)
}

func (h *runHeader) encode(b []byte) {
	copy(b, runMagic)
	binary.LittleEndian.PutUint16(b[4:], h.flags)
	binary.LittleEndian.PutUint16(b[6:], 0)
	copy(b[8:], h.salt[:])
	binary.LittleEndian.PutUint64(b[24:], h.seq)
	binary.LittleEndian.PutUint64(b[32:], uint64(h.first))
	binary.LittleEndian.PutUint32(b[40:], h.count)
	binary.LittleEndian.PutUint32(b[44:], h.raw)
	binary.LittleEndian.PutUint32(b[48:], h.stored)
	binary.LittleEndian.PutUint32(b[52:], h.block)
	binary.LittleEndian.PutUint64(b[56:], uint64(h.epoch))
	binary.LittleEndian.PutUint64(b[64:], uint64(h.durable))
	binary.LittleEndian.PutUint64(b[72:], uint64(h.oldest))
}

// decodeRunHeader reads a run's first block without authenticating it; space is what is left of
// the segment from there. ok is false for what cannot be a run.
func decodeRunHeader(b []byte, space int64) (h runHeader, ok bool) {
	if len(b) < runHdrSize || string(b[:4]) != runMagic || binary.LittleEndian.Uint16(b[6:]) != 0 {
		return h, false
	}
	h.flags = binary.LittleEndian.Uint16(b[4:])
	copy(h.salt[:], b[8:])
	h.seq = binary.LittleEndian.Uint64(b[24:])
	h.first = LSN(binary.LittleEndian.Uint64(b[32:]))
	h.count = binary.LittleEndian.Uint32(b[40:])
	h.raw = binary.LittleEndian.Uint32(b[44:])
	h.stored = binary.LittleEndian.Uint32(b[48:])
	h.block = binary.LittleEndian.Uint32(b[52:])
	h.epoch = fence.Epoch(binary.LittleEndian.Uint64(b[56:]))
	h.durable = LSN(binary.LittleEndian.Uint64(b[64:]))
	h.oldest = LSN(binary.LittleEndian.Uint64(b[72:]))
	return h, h.plausible(space)
}

// plausible checks what must hold of any run before its lengths are used.
func (h *runHeader) plausible(space int64) bool {
	if h.flags&^(flagS2|flagMark) != 0 || h.first == 0 || h.first+LSN(h.count) < h.first {
		return false
	}
	if h.flags&flagMark != 0 {
		return h.count == 0 && h.stored == 0 && h.raw == 0 && h.flags == flagMark && h.size() <= space
	}
	if h.count == 0 || h.raw > rawMax || uint64(h.count)*lenSize > uint64(h.raw) {
		return false
	}
	if h.flags&flagS2 == 0 && h.stored != h.raw {
		return false
	}
	return h.size() <= space
}

// openRun authenticates the run in b, which is h.size() bytes, and returns its records as they
// were sealed, decrypted into dst's spare capacity.
func openRun(dst, b []byte, h *runHeader, aead cipher.AEAD) ([]byte, error) {
	end := runOverhead + int(h.stored)
	if !isZero(b[end:]) {
		return nil, errUnreadable
	}
	n := h.nonce()
	out, err := aead.Open(dst, n[:], b[runHdrSize:end], b[:runHdrSize])
	if err != nil {
		return nil, errUnreadable
	}
	return out, nil
}

// runCost returns the bytes that a record of n bytes takes on disk at most.
func runCost(n int) int64 { return alignUp(runOverhead + lenSize + int64(n)) }

func alignUp(n int64) int64 { return (n + disk.Align - 1) &^ (disk.Align - 1) }

var zeros [disk.Align]byte

func isZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
