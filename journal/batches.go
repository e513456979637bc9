package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
)

const (
	bodyVersion = 1
	bodyHdrSize = 20
	// bodyMost bounds the payload of a Ship's body, and bodyRawMax what one decompresses to.
	bodyMost   = 64 << 20
	bodyRawMax = 4 * bodyMost
)

// errStop ends a walk that has enough.
var errStop = errors.New("stop")

// Batches returns durable records from the given LSN on, encoded as a Ship's body of at most
// max bytes of payload (but at least one record), and the last LSN in it. ErrGone if from was
// released. With nothing durable from there on it returns no body, and from-1.
//
// Recent records come from memory, others from disk; writes do not wait for it.
func (j *Journal) Batches(ctx context.Context, from LSN, max int) (body []byte, last LSN, err error) {
	b := bodyBuilder{first: from, most: min(max, bodyMost)}
	j.mu.Lock()
	switch {
	case j.phase == reading:
		err = errors.New("journal: not started")
	case j.phase == closed:
		err = ErrClosed
	case from == 0 || from < j.oldestLocked():
		err = fmt.Errorf("%w: lsn %d, the first held is %d", ErrGone, from, j.oldestLocked())
	}
	if err != nil || from > j.durable {
		j.mu.Unlock()
		return nil, from - 1, err
	}
	if runs := j.pinLocked(from, b.most); runs != nil {
		j.mu.Unlock()
		err = b.addRuns(runs)
		j.mu.Lock()
		for _, r := range runs {
			j.unrefLocked(r)
		}
		j.mu.Unlock()
	} else {
		err = j.readLocked(ctx, &b)
	}
	if err != nil {
		return nil, from - 1, fmt.Errorf("journal: batches from lsn %d: %w", from, err)
	}
	return b.body(), b.next() - 1, nil
}

// readLocked adds records to b from disk. It is called with mu held and returns without.
func (j *Journal) readLocked(ctx context.Context, b *bodyBuilder) error {
	exts := j.extentsLocked(b.first)
	sc := j.scannerLocked()
	j.mu.Unlock()

	next, at, err := walk(ctx, sc, exts, b.first, b.add)

	j.mu.Lock()
	gone := b.first < j.oldestLocked()
	for _, e := range exts {
		e.seg.readers--
		if e.seg.readers == 0 && e.seg.dropped {
			_ = e.seg.file.Close()
		}
	}
	if len(j.scans) < 2 {
		j.scans = append(j.scans, sc)
	}
	j.mu.Unlock()
	switch {
	case errors.Is(err, errStop):
		return nil
	case gone:
		return ErrGone // and its segment perhaps written again
	case err != nil:
		return err
	case b.count == 0:
		return fmt.Errorf("%w: %v: lsn %d cannot be read", ErrCorrupt, at, next)
	}
	return nil
}

// extentsLocked returns where the durable records from the given LSN on are, and counts a reader
// of each segment.
func (j *Journal) extentsLocked(from LSN) (exts []extent) {
	add := func(s *segment, hi LSN) {
		if s.first == 0 || hi < from || s.first > hi {
			return
		}
		s.readers++
		exts = append(exts, extent{seg: s, hdr: s.hdr, size: s.off, off: s.places.find(from), hi: hi})
	}
	for _, s := range j.held {
		add(s, min(s.last, j.durable))
	}
	add(j.cur, j.durable)
	return exts
}

// scannerLocked returns a scanner that nobody uses.
func (j *Journal) scannerLocked() *scanner {
	if n := len(j.scans); n > 0 {
		sc := j.scans[n-1]
		j.scans = j.scans[:n-1]
		return sc
	}
	return &scanner{keys: newKeyring(j.opts.Key)}
}

// bodyBuilder collects the records of a Ship's body.
type bodyBuilder struct {
	first LSN
	most  int // bytes of payload
	count uint32
	bytes int // of payload
	raw   []byte
}

func (b *bodyBuilder) next() LSN { return b.first + LSN(b.count) }

// add takes the next record, or returns errStop.
func (b *bodyBuilder) add(_ LSN, payload []byte) error {
	if b.count > 0 && b.bytes+len(payload) > b.most {
		return errStop
	}
	b.raw = appendRecord(b.raw, payload)
	b.bytes += len(payload)
	b.count++
	return nil
}

// addRuns takes records from runs in memory.
func (b *bodyBuilder) addRuns(runs []*run) error {
	for _, r := range runs {
		err := eachRecord(r.raw, r.first, r.count(), func(lsn LSN, payload []byte) error {
			if lsn < b.first {
				return nil
			}
			return b.add(lsn, payload)
		})
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// body encodes what was collected.
func (b *bodyBuilder) body() []byte {
	out := make([]byte, bodyHdrSize, bodyHdrSize+s2.MaxEncodedLen(len(b.raw)))
	out[0] = bodyVersion
	binary.LittleEndian.PutUint32(out[4:], b.count)
	binary.LittleEndian.PutUint64(out[8:], uint64(b.first))
	binary.LittleEndian.PutUint32(out[16:], uint32(len(b.raw)))
	if packed := s2.Encode(out[bodyHdrSize:cap(out)], b.raw); len(packed) < len(b.raw) {
		out[1] = flagS2
		return out[:bodyHdrSize+len(packed)]
	}
	return append(out, b.raw...)
}

// DecodeBatches calls fn for each record of a Ship's body. payload is valid during the call only.
// A body that is not as Batches makes them is ErrCorrupt; records before the place where that
// shows may have been passed to fn. An error of fn ends it and is returned.
func DecodeBatches(body []byte, fn func(lsn LSN, payload []byte) error) error {
	if len(body) < bodyHdrSize {
		return fmt.Errorf("%w: batches of %d bytes", ErrCorrupt, len(body))
	}
	if body[0] != bodyVersion {
		return fmt.Errorf("%w: batches of version %d, this program reads version %d", ErrCorrupt, body[0], bodyVersion)
	}
	count := binary.LittleEndian.Uint32(body[4:])
	first := LSN(binary.LittleEndian.Uint64(body[8:]))
	n := binary.LittleEndian.Uint32(body[16:])
	raw := body[bodyHdrSize:]
	if body[1]&^flagS2 != 0 || body[2] != 0 || body[3] != 0 || first == 0 || count == 0 ||
		first+LSN(count) < first || n > bodyRawMax || uint64(count)*lenSize > uint64(n) {
		return fmt.Errorf("%w: batches: bad header", ErrCorrupt)
	}
	if body[1]&flagS2 != 0 {
		var err error
		if raw, err = unpack(raw, int(n)); err != nil {
			return fmt.Errorf("%w: batches from lsn %d: %w", ErrCorrupt, first, err)
		}
	}
	if len(raw) != int(n) {
		return fmt.Errorf("%w: batches from lsn %d: %d bytes of records, %d expected", ErrCorrupt, first, len(raw), n)
	}
	err := eachRecord(raw, first, count, fn)
	if errors.Is(err, errRecords) {
		return fmt.Errorf("%w: batches from lsn %d: %w", ErrCorrupt, first, err)
	}
	return err
}

// unpack decompresses a block that must hold n bytes.
func unpack(packed []byte, n int) ([]byte, error) {
	if got, err := s2.DecodedLen(packed); err != nil || got != n {
		return nil, errRecords
	}
	raw, err := s2.Decode(nil, packed)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return raw, nil
}
