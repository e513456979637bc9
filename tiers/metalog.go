package tiers

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/seal"
)

// metaFile is a meta file: MANIFEST, OPTIONS, a temporary one, or a marker. Its bytes are kept in
// memory and reach the disk at Sync, as one sealed record each time.
type metaFile struct {
	id seal.FileID // zeros for a marker, which has no bytes

	// Guarded by FS.mu. data only grows, so that a slice of it taken under the lock stays valid.
	data    []byte
	synced  int // data[:synced] is durable here
	vouched int // the map says that data[:vouched] is
	gone    bool

	// syncMu serialises Sync and guards what is below. Taken before FS.flushMu.
	syncMu sync.Mutex
	file   vfs.File // nil before the first Sync, and of a file found at Open
	log    *seal.Log
	stored int64 // bytes on disk
	err    error // of a Sync that failed: the disk's bytes are not known any more
}

// appendMetaRecord appends the payload of one sealed record of a meta file: the number of the
// last map record that was durable before it, and the bytes.
func appendMetaRecord(dst []byte, mapSeq uint64, data []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(8+len(data)))
	dst = binary.LittleEndian.AppendUint64(dst, mapSeq)
	return append(dst, data...)
}

// decodeMeta joins the bytes of a meta file's records and returns the highest map record that
// they name. An error wraps seal.ErrCorrupt.
func decodeMeta(plain []byte) (data []byte, mapSeq uint64, err error) {
	for n := 0; len(plain) > 0; n++ {
		record, rest, err := cutRecord(plain)
		if err != nil || len(record) < 8 {
			return nil, 0, fmt.Errorf("record %d: %w: malformed", n, seal.ErrCorrupt)
		}
		mapSeq = max(mapSeq, binary.LittleEndian.Uint64(record))
		data = append(data, record[8:]...)
		plain = rest
	}
	return data, mapSeq, nil
}

// syncMeta makes the bytes of m durable. A MANIFEST waits for the journal first: with the page
// cache of a killed process in mind, an edit must not even be written before what it builds on
// is durable. The map goes before as well, so that what m names is found again.
func (f *FS) syncMeta(name string, m *metaFile) error {
	if err := f.ended(); err != nil {
		return err
	}
	m.syncMu.Lock()
	defer m.syncMu.Unlock()
	if m.err != nil {
		return m.err
	}
	f.mu.Lock()
	fresh, from := m.data[m.synced:len(m.data):len(m.data)], m.synced
	f.mu.Unlock()
	if isManifest(name) {
		if err := f.opts.Barrier(); err != nil {
			return fmt.Errorf("tiers: sync %s: wait for the journal: %w", name, err)
		}
		if err := f.broken.Load(); err != nil {
			return fmt.Errorf("tiers: sync %s: a file that it may name was not written: %w", name, *err)
		}
	}
	if err := f.flush(false); err != nil {
		return err
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := f.writeMeta(m, fresh); err != nil {
		m.err = fmt.Errorf("tiers: sync %s: %w", name, err)
		return m.err
	}
	f.mu.Lock()
	m.synced = from + len(fresh)
	if classify(name).travels() {
		f.changes++
	}
	f.mu.Unlock()
	f.kickTidy()
	return nil
}

// breakManifest makes every later Sync of a MANIFEST fail, because of a file that it may name.
func (f *FS) breakManifest(err error) {
	if f.broken.CompareAndSwap(nil, &err) {
		f.opts.Logger.Error("a table file could not be written: the tree will not change any more", "error", err)
	}
}

// writeMeta appends data to m's sealed log and syncs it. m.syncMu is held.
func (f *FS) writeMeta(m *metaFile, data []byte) error {
	var buf []byte
	first := m.file == nil
	if first {
		if err := f.openMeta(m); err != nil {
			return err
		}
		buf = append(buf, m.log.Header()...)
	}
	buf = m.log.Seal(buf, appendMetaRecord(nil, f.flushedSeq.Load(), data))
	if err := f.writeSynced(m.file, buf, m.stored); err != nil {
		return err
	}
	m.stored += int64(len(buf))
	if first {
		return f.untilSpace(func() error { return f.opts.Disk.SyncDir(f.opts.Dir) })
	}
	return nil
}

// openMeta begins m's sealed log. m.syncMu is held.
func (f *FS) openMeta(m *metaFile) error {
	log, err := f.opts.Key.NewLog(m.id)
	if err != nil {
		return err
	}
	return f.untilSpace(func() error {
		file, err := f.opts.Disk.OpenReadWrite(f.local(metaName(m.id)), vfs.WriteCategoryUnspecified)
		if err == nil {
			m.file, m.log = file, log
		}
		return err
	})
}

// closeMeta closes m's local file, if it has one open.
func closeMeta(m *metaFile) error {
	m.syncMu.Lock()
	defer m.syncMu.Unlock()
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	m.file = nil
	if m.err == nil {
		m.err = errClosedMeta
	}
	return err
}
