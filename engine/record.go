package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/journal"
)

// A record of the log is a Pebble batch whose first operation sets the LSN key:
//
//	offset  size  field
//	0       8     sequence number, zero
//	8       4     number of operations, little-endian
//	12      1     1, the kind of a Set
//	13      1     4, the key's length
//	14      4     "mlsn"
//	18      1     8, the value's length
//	19      8     LSN, big-endian
//	27            further operations
//
// An operation is its kind (0 Delete, 1 Set, 2 Merge, 15 DeleteRange), its key, and except for Delete
// its value, which for DeleteRange is the end of the range. Both are a uvarint length and the bytes.
const (
	lsnKey         = string(rune(prefixState)) + stateLSN
	batchHeaderLen = 12
	lsnKeyOffset   = batchHeaderLen + 2
	lsnValueOffset = lsnKeyOffset + len(lsnKey) + 1
)

// checkRecord reports whether payload is a record that commit can have written under lsn. Pebble's
// own reader trusts its input and may panic.
func checkRecord(lsn journal.LSN, payload []byte, chunkSize int) error {
	if len(payload) < batchHeaderLen || binary.LittleEndian.Uint64(payload) != 0 {
		return fmt.Errorf("%w: record of %d bytes has no header", ErrCorrupt, len(payload))
	}
	count := binary.LittleEndian.Uint32(payload[8:])
	var n uint32
	for b := payload[batchHeaderLen:]; len(b) > 0; n++ {
		op, rest, err := decodeOp(b)
		if err == nil {
			err = op.check(chunkSize)
		}
		if err != nil {
			return fmt.Errorf("operation %d of the record: %w", n, err)
		}
		if n == 0 {
			got, err := decodeUint64(op.value)
			if err != nil || op.kind != pebble.InternalKeyKindSet || string(op.key) != lsnKey || got != uint64(lsn) {
				return fmt.Errorf("%w: record begins with %q = %x", ErrCorrupt, op.key, op.value)
			}
		}
		b = rest
	}
	if n == 0 || n != count {
		return fmt.Errorf("%w: record of %d operations holds %d", ErrCorrupt, count, n)
	}
	return nil
}

// recordOp is one operation of a record.
type recordOp struct {
	kind       pebble.InternalKeyKind
	key, value []byte
}

func decodeOp(b []byte) (op recordOp, rest []byte, err error) {
	op.kind, b = pebble.InternalKeyKind(b[0]), b[1:]
	var ok bool
	if op.key, b, ok = cutString(b); !ok || len(op.key) == 0 {
		return op, nil, fmt.Errorf("%w: bad key", ErrCorrupt)
	}
	if op.kind == pebble.InternalKeyKindDelete {
		return op, b, nil
	}
	if op.value, b, ok = cutString(b); !ok {
		return op, nil, fmt.Errorf("%w: bad value of key %x", ErrCorrupt, op.key)
	}
	return op, b, nil
}

// cutString cuts a length and so many bytes off b. Pebble decodes lengths as 32 bits in at most 5 bytes.
func cutString(b []byte) (s, rest []byte, ok bool) {
	v, n := canonicalUvarint(b)
	if n <= 0 || n > binary.MaxVarintLen32 || v > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(v)], b[n+int(v):], true
}

// check reports whether the tree can take the operation.
func (op recordOp) check(chunkSize int) error {
	switch op.kind {
	case pebble.InternalKeyKindSet, pebble.InternalKeyKindDelete:
		return nil
	case pebble.InternalKeyKindRangeDelete:
		if bytes.Compare(op.key, op.value) < 0 {
			return nil
		}
		return fmt.Errorf("%w: range from %x to %x", ErrCorrupt, op.key, op.value)
	case pebble.InternalKeyKindMerge:
		if _, err := chunkOfKey(op.key); err != nil {
			return err
		}
		k := len(op.value) - 1
		if k < 0 || op.value[k] != kindRuns {
			return fmt.Errorf("%w: operand of key %x", ErrCorrupt, op.key)
		}
		return decodeRuns(op.value[:k], chunkSize, func(run) {})
	}
	return fmt.Errorf("%w: operation of kind %d", ErrCorrupt, op.kind)
}
