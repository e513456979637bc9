package journal

import (
	"encoding/binary"
	"errors"
)

var errRecords = errors.New("records do not fill their run")

// appendRecord appends one record to a run's raw bytes.
func appendRecord(b, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// nextRecord splits the first record from raw.
func nextRecord(raw []byte) (payload, rest []byte, err error) {
	if len(raw) < lenSize {
		return nil, nil, errRecords
	}
	n := binary.LittleEndian.Uint32(raw)
	raw = raw[lenSize:]
	if uint64(n) > uint64(len(raw)) {
		return nil, nil, errRecords
	}
	return raw[:n:n], raw[n:], nil
}

// eachRecord calls fn for each of count records in raw, the first of which has LSN first. There
// must be neither fewer nor more.
func eachRecord(raw []byte, first LSN, count uint32, fn func(LSN, []byte) error) error {
	for i := range count {
		payload, rest, err := nextRecord(raw)
		if err != nil {
			return err
		}
		if err := fn(first+LSN(i), payload); err != nil {
			return err
		}
		raw = rest
	}
	if len(raw) != 0 {
		return errRecords
	}
	return nil
}
