package fence

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

const (
	slotSize     = disk.Align
	slotCount    = 2
	copySize     = slotSize / 2 // a slot holds the same bytes twice: one damaged byte loses nothing
	lineageMagic = "ZFLN"
	lineagePlain = copySize - recordHead - sealNonce - sealTag
	lineageFixed = 8 + 8 + 8 + 32 + 4 + 4
	pendingMax   = (lineagePlain - lineageFixed) / (8 + 16)
)

// Lineage is the local file that remembers which log this directory belongs to. Any goroutine may
// call its methods.
type Lineage struct {
	path   string
	file   disk.File
	aead   cipher.AEAD
	volume seal.VolumeID
	rand   io.Reader

	mu      sync.Mutex // guards what follows, and orders the writes
	mem     memory     // as on disk, adopted apart, which may be ahead
	counter uint64     // of the newest slot
	slot    int        // the newest slot; the next write goes to the other one
	buf     []byte     // one slot, aligned
}

// OpenLineage opens the lineage file, or makes an empty one where there is none. An error wraps ErrCorrupt and names the
// file when neither of its slots can be read. rand gives nonces and must be unpredictable.
func OpenLineage(fs disk.FS, path string, key *seal.Key, volume seal.VolumeID, rand io.Reader) (*Lineage, error) {
	aead, err := key.XAEAD("lineage")
	if err != nil {
		return nil, fmt.Errorf("fence: key of %s: %w", path, err)
	}
	f, err := fs.OpenDirect(path, true)
	if err != nil {
		return nil, fmt.Errorf("fence: open %s: %w", path, err)
	}
	if err := fs.SyncDir(fs.PathDir(path)); err != nil {
		return nil, errors.Join(fmt.Errorf("fence: sync the directory of %s: %w", path, err), f.Close())
	}
	l := &Lineage{path: path, file: f, aead: aead, volume: volume, rand: rand, buf: disk.Alloc(slotSize)}
	if err := l.load(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// load reads both slots and keeps the one with the higher counter.
func (l *Lineage) load() error {
	var bad []error
	for slot := range slotCount {
		m, counter, err := l.readSlot(slot)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		if counter > l.counter {
			l.mem, l.counter, l.slot = m, counter, slot
		}
	}
	if len(bad) == slotCount {
		return fmt.Errorf("%w: %w", ErrCorrupt, errors.Join(bad...))
	}
	return nil
}

// readSlot returns what a slot says. One that was never written has counter zero. A slot whose two
// copies differ was torn: the newer copy counts, and nothing was sent on its word.
func (l *Lineage) readSlot(slot int) (memory, uint64, error) {
	n, err := l.file.ReadAt(l.buf, int64(slot)*slotSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return memory{}, 0, fmt.Errorf("fence: read %s, slot %d: %w", l.path, slot, err)
	}
	clear(l.buf[n:])
	if !slices.ContainsFunc(l.buf, func(c byte) bool { return c != 0 }) {
		return memory{}, 0, nil
	}
	var best memory
	var bestCounter uint64
	var firstErr error
	for i := range slotSize / copySize {
		m, counter, err := l.openCopy(l.buf[i*copySize:(i+1)*copySize], slot)
		switch {
		case err != nil:
			firstErr = err
		case counter > bestCounter:
			best, bestCounter = m, counter
		}
	}
	if bestCounter == 0 {
		return memory{}, 0, fmt.Errorf("%s, slot %d: %w", l.path, slot, firstErr)
	}
	return best, bestCounter, nil
}

func (l *Lineage) aad(head []byte, slot int) []byte {
	b := append(make([]byte, 0, recordHead+16+1), head...)
	b = append(b, l.volume[:]...)
	return append(b, byte(slot))
}

func (l *Lineage) openCopy(p []byte, slot int) (memory, uint64, error) {
	head, n, sealed := p[:recordHead], p[recordHead:recordHead+sealNonce], p[recordHead+sealNonce:]
	if string(head[:4]) != lineageMagic || head[4] != recordVersion {
		return memory{}, 0, errors.New("is no lineage of a version that this program knows")
	}
	plain, err := l.aead.Open(nil, n, sealed, l.aad(head, slot))
	if err != nil {
		return memory{}, 0, errors.New("does not authenticate")
	}
	return decodeLineage(plain)
}

func encodeLineage(m memory, counter uint64) []byte {
	b := make([]byte, 0, lineagePlain)
	b = putU64(b, counter)
	b = putU64(b, uint64(m.seen))
	b = putU64(b, uint64(m.adopted.seq))
	b = append(b, m.adopted.hash[:]...)
	b = putU32(b, uint32(len(m.pending)))
	b = putU32(b, 0)
	for _, p := range m.pending {
		b = putU64(b, uint64(p.seq))
		b = append(b, p.nonce[:]...)
	}
	return b[:lineagePlain]
}

func decodeLineage(plain []byte) (memory, uint64, error) {
	d := &reader{b: plain}
	counter := d.u64()
	m := memory{seen: Seq(d.u64()), adopted: mark{Seq(d.u64()), d.array32()}}
	n := d.u32()
	d.zeros(4)
	if n > pendingMax {
		d.fail(fmt.Errorf("%d pending nonces", n))
		n = 0
	}
	for range n {
		m.pending = append(m.pending, intent{Seq(d.u64()), d.array16()})
	}
	d.zeros(uint64(len(d.b)))
	if counter == 0 {
		d.fail(errors.New("counter is zero"))
	}
	if err := d.done(); err != nil {
		return memory{}, 0, err
	}
	return m, counter, nil
}

// memory returns what the directory remembers.
func (l *Lineage) memory() memory {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.mem
	m.pending = slices.Clone(m.pending)
	return m
}

// update makes what change returns durable and then the lineage's word. change must not alter its
// argument's pending. On an error the file says either that or what it said before, and the next
// write goes to the same slot again.
func (l *Lineage) update(change func(m memory) memory) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writeLocked(change(l.mem))
}

func (l *Lineage) writeLocked(m memory) error {
	if len(m.pending) > pendingMax {
		return fmt.Errorf("fence: %s: %d unfinished records do not fit", l.path, len(m.pending))
	}
	slot, counter := (l.slot+1)%slotCount, l.counter+1
	head := append([]byte(lineageMagic), recordVersion, 0, 0, 0)
	p := append(l.buf[:0], head...)
	p = p[:recordHead+sealNonce]
	if _, err := io.ReadFull(l.rand, p[recordHead:]); err != nil {
		return fmt.Errorf("fence: %s: nonce: %w", l.path, err)
	}
	p = l.aead.Seal(p, p[recordHead:], encodeLineage(m, counter), l.aad(head, slot))
	copy(l.buf[copySize:], p)
	if _, err := l.file.WriteAtSync(l.buf, int64(slot)*slotSize); err != nil {
		return fmt.Errorf("fence: write %s: %w", l.path, err)
	}
	l.mem, l.counter, l.slot = m, counter, slot
	return nil
}

// Close closes the file.
func (l *Lineage) Close() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("fence: close %s: %w", l.path, err)
	}
	return nil
}
