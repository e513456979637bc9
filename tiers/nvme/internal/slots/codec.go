package slots

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrIndex reports bytes that are no index, or not one that this program wrote.
var ErrIndex = errors.New("slots: bad index")

const (
	magic      = "zfsparts"
	version    = 1
	headerSize = 24
	fileSize   = 16
	recordSize = 16
	sumSize    = 4

	usesShift = 18
	mainBit   = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode appends the table's parts to dst, the oldest of each queue first. Integers are little-endian.
//
//	offset  size  field
//	0       8     "zfsparts"
//	8       4     format version, 1
//	12      4     f, the number of files
//	16      4     s, the number of parts
//	20      4     slots in the slab
//	24      16 f  file ids
//	..      16 s  parts: slot (4), index of the file (4), part (4), and in 4: bytes held (bits 0–17),
//	              uses (18–19), in the main queue (20)
//	..      4     crc32c of everything before it
func (t *Table) Encode(dst []byte) []byte {
	start := len(dst)
	le := binary.LittleEndian
	dst = append(dst, magic...)
	dst = le.AppendUint32(dst, version)
	dst = le.AppendUint32(dst, uint32(len(t.files)))
	dst = le.AppendUint32(dst, uint32(t.Ready()))
	dst = le.AppendUint32(dst, uint32(len(t.slots)))
	for i := range t.files {
		dst = append(dst, t.files[i].id[:]...)
	}
	for _, q := range []queue{t.small, t.main} {
		for s := q.oldest; s != 0; s = t.slots[s-1].next {
			e := &t.slots[s-1]
			word := e.n&lengthMask | uint32(e.uses)<<usesShift
			if e.main {
				word |= mainBit
			}
			dst = le.AppendUint32(dst, s-1)
			dst = le.AppendUint32(dst, e.file)
			dst = le.AppendUint32(dst, e.part)
			dst = le.AppendUint32(dst, word)
		}
	}
	return le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// EncodedMax returns the most bytes that Encode gives for a slab of n slots. (A file without parts
// is named as well until its number is used again, and there never were more of them than slots.)
func EncodedMax(n uint32) int64 {
	return headerSize + (fileSize+recordSize)*int64(n) + sumSize
}

// Decode returns the table that Encode wrote, of a slab that has at most slotsMax slots. Slots
// that hold no part are holes.
func Decode(data []byte, partMax, slotsMax uint32) (*Table, error) {
	le := binary.LittleEndian
	if len(data) < headerSize+sumSize || string(data[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: no header", ErrIndex)
	}
	if v := le.Uint32(data[8:]); v != version {
		return nil, fmt.Errorf("%w: version %d", ErrIndex, v)
	}
	body, sum := data[:len(data)-sumSize], le.Uint32(data[len(data)-sumSize:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("%w: checksum", ErrIndex)
	}
	files, parts, slots := le.Uint32(data[12:]), le.Uint32(data[16:]), le.Uint32(data[20:])
	if want := headerSize + fileSize*uint64(files) + recordSize*uint64(parts); want != uint64(len(body)) {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrIndex, len(body), want)
	}
	if parts > slots || slots > slotsMax {
		return nil, fmt.Errorf("%w: %d parts in %d slots of at most %d", ErrIndex, parts, slots, slotsMax)
	}
	t := New(partMax)
	t.lendAll(slots)
	ids, records := body[headerSize:headerSize+fileSize*int(files)], body[headerSize+fileSize*int(files):]
	for ; len(records) > 0; records = records[recordSize:] {
		if err := t.decodeRecord(records, ids); err != nil {
			return nil, err
		}
	}
	for s := range t.slots {
		if t.slots[s].state == busy {
			t.Punched(uint32(s))
		}
	}
	return t, nil
}

// lendAll makes n new slots, all lent.
func (t *Table) lendAll(n uint32) {
	t.slots = make([]entry, n)
	for s := range t.slots {
		t.slots[s].state = busy
	}
	t.nBusy = int(n)
}

func (t *Table) decodeRecord(record, ids []byte) error {
	le := binary.LittleEndian
	slot, num, word := le.Uint32(record), le.Uint32(record[4:]), le.Uint32(record[12:])
	n := word & lengthMask
	if uint64(slot) >= uint64(len(t.slots)) || uint64(num) >= uint64(len(ids)/fileSize) || n == 0 || n > t.partMax || word >= mainBit<<1 {
		return fmt.Errorf("%w: part in slot %d", ErrIndex, slot)
	}
	k := Key{File: [16]byte(ids[fileSize*num:]), Part: le.Uint32(record[8:])}
	if t.slots[slot].state != busy || t.Has(k) {
		return fmt.Errorf("%w: slot %d twice", ErrIndex, slot)
	}
	t.link(slot, k, n)
	t.slots[slot].uses = uint8(word >> usesShift & maxUses)
	t.push(slot, word&mainBit != 0)
	t.grow()
	return nil
}
