package tiers

import (
	"encoding/binary"
	"errors"
	"fmt"

	"zerofs/tiers/seal"
)

// mapVersion is the version of the map's records.
const mapVersion = 1

// Bounds of what a map record may hold.
const (
	nameMax   = 255     // bytes
	objectMax = 1024    // bytes
	sizeMax   = 1 << 56 // bytes
)

// The operations of a map record.
const (
	opTable  = 1 // name, id, object, size: a complete table file
	opMeta   = 2 // name, id: a meta file; an id of zeros has no bytes and no file
	opDelete = 3 // name
	opLength = 4 // name, bytes: the meta file was synced up to there
)

// tableEntry is what the map says of one table file.
type tableEntry struct {
	id     seal.FileID
	object string
	size   int64 // bytes of plaintext
}

// directory is what the map says: the names, and how far the meta files were synced.
type directory struct {
	seq     uint64 // of the last record
	tables  map[string]tableEntry
	metas   map[string]seal.FileID
	lengths map[string]int64 // bytes of plaintext, by name of a meta file
}

func newDirectory() *directory {
	return &directory{
		tables:  map[string]tableEntry{},
		metas:   map[string]seal.FileID{},
		lengths: map[string]int64{},
	}
}

// appendMapRecord appends a record of the map with the given number and operations.
func appendMapRecord(dst []byte, seq uint64, ops []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(1+8+len(ops)))
	dst = append(dst, mapVersion)
	dst = binary.LittleEndian.AppendUint64(dst, seq)
	return append(dst, ops...)
}

func appendTableOp(dst []byte, name string, e tableEntry) []byte {
	dst = appendString(append(dst, opTable), name)
	dst = appendString(append(dst, e.id[:]...), e.object)
	return binary.AppendUvarint(dst, uint64(e.size))
}

func appendMetaOp(dst []byte, name string, id seal.FileID) []byte {
	return append(appendString(append(dst, opMeta), name), id[:]...)
}

func appendDeleteOp(dst []byte, name string) []byte {
	return appendString(append(dst, opDelete), name)
}

func appendLengthOp(dst []byte, name string, n int64) []byte {
	return binary.AppendUvarint(appendString(append(dst, opLength), name), uint64(n))
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// errMap is the cause of a map that authenticates and still makes no sense.
var errMap = errors.New("malformed map record")

// decodeMap reads the records of a map, joined. An error wraps seal.ErrCorrupt.
func decodeMap(plain []byte) (*directory, error) {
	d := newDirectory()
	for n := 0; len(plain) > 0; n++ {
		record, rest, err := cutRecord(plain)
		if err == nil {
			err = d.applyRecord(record, n == 0)
		}
		if err != nil {
			return nil, fmt.Errorf("record %d: %w: %w", n, seal.ErrCorrupt, err)
		}
		plain = rest
	}
	return d, nil
}

// cutRecord splits off a record that is preceded by its length in four bytes.
func cutRecord(p []byte) (record, rest []byte, err error) {
	if len(p) < 4 {
		return nil, nil, errMap
	}
	n := uint64(binary.LittleEndian.Uint32(p))
	if n > uint64(len(p)-4) {
		return nil, nil, errMap
	}
	return p[4 : 4+n], p[4+n:], nil
}

// applyRecord applies one record. Any number may come first, every later one follows its predecessor.
func (d *directory) applyRecord(p []byte, first bool) error {
	if len(p) < 9 {
		return errMap
	}
	if p[0] != mapVersion {
		return fmt.Errorf("version %d is unknown", p[0])
	}
	seq := binary.LittleEndian.Uint64(p[1:])
	if !first && seq != d.seq+1 {
		return fmt.Errorf("number %d follows %d", seq, d.seq)
	}
	d.seq = seq
	r := mapReader{p: p[9:]}
	for len(r.p) > 0 && !r.bad {
		d.applyOp(&r)
	}
	if r.bad {
		return errMap
	}
	return nil
}

// applyOp applies one operation. Deleting a name that is not there, or giving one a length, does nothing.
func (d *directory) applyOp(r *mapReader) {
	op, name := r.byte(), r.string(nameMax)
	if r.bad || name == "" {
		r.bad = true
		return
	}
	switch op {
	case opTable:
		e := tableEntry{id: r.id(), object: r.string(objectMax), size: r.size()}
		if !r.bad {
			d.remove(name)
			d.tables[name] = e
		}
	case opMeta:
		if id := r.id(); !r.bad {
			d.remove(name)
			d.metas[name] = id
		}
	case opDelete:
		d.remove(name)
	case opLength:
		n := r.size()
		if _, ok := d.metas[name]; ok && !r.bad {
			d.lengths[name] = n
		}
	default:
		r.bad = true
	}
}

func (d *directory) remove(name string) {
	delete(d.tables, name)
	delete(d.metas, name)
	delete(d.lengths, name)
}

// mapReader takes fields off the front of p; bad is set once one is missing or out of bounds.
type mapReader struct {
	p   []byte
	bad bool
}

func (r *mapReader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.p)) {
		r.bad = true
		return nil
	}
	p := r.p[:n]
	r.p = r.p[n:]
	return p
}

func (r *mapReader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *mapReader) uvarint(most uint64) uint64 {
	n, used := binary.Uvarint(r.p)
	if r.bad || used <= 0 || n > most {
		r.bad = true
		return 0
	}
	r.p = r.p[used:]
	return n
}

func (r *mapReader) size() int64            { return int64(r.uvarint(sizeMax)) }
func (r *mapReader) string(most int) string { return string(r.take(r.uvarint(uint64(most)))) }
func (r *mapReader) id() (id seal.FileID)   { copy(id[:], r.take(uint64(len(id)))); return id }
