package tiers

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

// The directory is a map from names to files in memory and a sealed log of its changes, the map
// file. A change is made in memory first, is encoded into FS.pending under the same lock, and is
// durable after flush. What a crash leaves is therefore a prefix of the order of changes.

// file is what a name stands for: a *table, a *metaFile or a *scratch.
type file interface{ isFile() }

func (*table) isFile()    {}
func (*metaFile) isFile() {}
func (*scratch) isFile()  {}

// Times of the map's upkeep.
const (
	tidyDelay    = 500 * time.Millisecond // from a change that may wait to its flush
	spaceDelay   = 100 * time.Millisecond // between tries on a full disk
	failureDelay = 200 * time.Millisecond // before a failure is told to one who tries again at once
	mapSlack     = 1 << 20                // bytes of map records before a rewrite is considered
	mapGarbage   = 4                      // and as many times the last rewrite's size
	waitingLogs  = 10 * time.Second       // between log lines of something that waits
)

var errClosedMeta = errors.New("tiers: meta file is closed")

// put makes name stand for x, whatever it stood for before. f.mu is held.
func (f *FS) put(name string, x file) {
	f.remove(name)
	f.names[name] = x
	if m, ok := x.(*metaFile); ok {
		f.pending = appendMetaOp(f.pending, name, m.id)
		f.pendingOps++
		f.noteChange(name)
	}
}

// complete records that the table file t, which name stands for, is whole. f.mu is held.
func (f *FS) complete(name string, t *table) {
	f.pending = appendTableOp(f.pending, name, tableEntry{t.id, t.object, t.size})
	f.pendingOps++
	f.changes++
	f.count(t, 1)
}

// count adds n times t to the files that have a name. f.mu is held.
func (f *FS) count(t *table, n int64) {
	f.wholeFiles += n
	f.wholeBytes += n * t.size
}

// remove makes name stand for nothing and returns what it stood for, or nil. f.mu is held.
func (f *FS) remove(name string) file {
	x := f.names[name]
	if x == nil {
		return nil
	}
	delete(f.names, name)
	switch x := x.(type) {
	case *table:
		if x.whole {
			f.pending = appendDeleteOp(f.pending, name)
			f.pendingOps++
			f.changes++
			f.count(x, -1)
		}
		x.gone, x.deleteOp = true, f.pendingOps
		f.unref(x)
	case *metaFile:
		f.pending = appendDeleteOp(f.pending, name)
		f.pendingOps++
		f.noteChange(name)
		x.gone = true
		f.deadMetas = append(f.deadMetas, deadMeta{x, f.pendingOps})
	}
	return x
}

// rename makes next stand for what name stands for. f.mu is held.
func (f *FS) rename(name, next string) error {
	m, ok := f.names[name].(*metaFile)
	if !ok || !isMetaClass(name) || !isMetaClass(next) {
		return errors.ErrUnsupported
	}
	if name == next {
		return nil
	}
	f.remove(next)
	delete(f.names, name)
	f.names[next] = m
	f.pending = appendMetaOp(appendDeleteOp(f.pending, name), next, m.id)
	f.pendingOps += 2
	m.vouched = 0
	f.noteChange(name)
	f.noteChange(next)
	return nil
}

func isMetaClass(name string) bool {
	c := classify(name)
	return c == classMeta || c == classTemp
}

// noteChange counts a change of a name that a Commit carries. f.mu is held.
func (f *FS) noteChange(name string) {
	if classify(name).travels() {
		f.changes++
	}
}

// deadMeta is a meta file whose local file goes once the map says that it is gone.
type deadMeta struct {
	m  *metaFile
	op uint64
}

// flush makes every change of the directory so far durable. With force it also writes down how
// far the meta files were synced, which vouches for the last records of those.
func (f *FS) flush(force bool) error {
	f.flushMu.Lock()
	defer f.flushMu.Unlock()
	if f.mapErr != nil {
		return f.mapErr
	}
	f.mu.Lock()
	ops, upTo := f.pending, f.pendingOps
	f.pending = nil
	if force || len(ops) > 0 {
		ops = f.appendLengths(ops)
	}
	f.mu.Unlock()
	if len(ops) == 0 {
		return nil
	}
	if err := f.writeMap(ops); err != nil {
		f.mapErr = fmt.Errorf("tiers: write the map in %s: %w", f.opts.Dir, err)
		f.opts.Logger.Error("the map of table files cannot be written", "error", f.mapErr)
		return f.mapErr
	}
	f.mu.Lock()
	f.flushedOps = upTo
	f.mu.Unlock()
	return nil
}

// appendLengths appends the lengths of meta files that grew since the map last told. f.mu is held.
func (f *FS) appendLengths(ops []byte) []byte {
	for name, x := range f.names {
		if m, ok := x.(*metaFile); ok && m.synced != m.vouched {
			ops = appendLengthOp(ops, name, int64(m.synced))
			m.vouched = m.synced
		}
	}
	return ops
}

// writeMap appends a record to the map, or rewrites the map when it has grown too far past what
// it says. f.flushMu is held.
func (f *FS) writeMap(ops []byte) error {
	seq := f.flushedSeq.Load() + 1
	if f.mapStored > mapSlack && f.mapStored > mapGarbage*f.mapBase {
		return f.rewriteMap(seq)
	}
	return f.appendMap(seq, ops)
}

// appendMap appends a record to the map. f.flushMu is held.
func (f *FS) appendMap(seq uint64, ops []byte) error {
	sealed := f.mapLog.Seal(nil, appendMapRecord(nil, seq, ops))
	if err := f.writeSynced(f.mapFile, sealed, f.mapStored); err != nil {
		return err
	}
	f.mapStored += int64(len(sealed))
	f.flushedSeq.Store(seq)
	return nil
}

// rewriteMap replaces the map by one record that says all of the directory. Changes made since
// flush took the pending ones are in it, and are written once more by the next flush, which
// changes nothing. f.flushMu is held.
func (f *FS) rewriteMap(seq uint64) error {
	f.mu.Lock()
	ops := f.snapshot()
	f.mu.Unlock()
	file, log, stored, err := f.writeNewMap(appendMapRecord(nil, seq, ops))
	if err != nil {
		return err
	}
	if f.mapFile != nil {
		if err := f.mapFile.Close(); err != nil {
			f.opts.Logger.Warn("closing the old map failed", "error", err)
		}
	}
	f.mapFile, f.mapLog, f.mapStored, f.mapBase = file, log, stored, stored
	f.flushedSeq.Store(seq)
	return nil
}

// snapshot returns the operations that make the whole directory. f.mu is held.
func (f *FS) snapshot() []byte {
	ops := make([]byte, 0, 128*len(f.names))
	for name, x := range f.names {
		switch x := x.(type) {
		case *table:
			if x.whole {
				ops = appendTableOp(ops, name, tableEntry{x.id, x.object, x.size})
			}
		case *metaFile:
			ops = appendMetaOp(ops, name, x.id)
			ops = appendLengthOp(ops, name, int64(x.synced))
			x.vouched = x.synced
		}
	}
	return ops
}

// writeNewMap writes a map of one record beside the present one and puts it into its place.
func (f *FS) writeNewMap(record []byte) (file vfs.File, log *seal.Log, stored int64, err error) {
	var id seal.FileID
	if err := f.random(id[:]); err != nil {
		return nil, nil, 0, err
	}
	if log, err = f.opts.Key.NewLog(id); err != nil {
		return nil, nil, 0, err
	}
	next := f.local(mapNextName)
	if err := f.opts.Disk.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, 0, err
	}
	err = f.untilSpace(func() (err error) {
		file, err = f.opts.Disk.OpenReadWrite(next, vfs.WriteCategoryUnspecified)
		return err
	})
	if err != nil {
		return nil, nil, 0, err
	}
	sealed := log.Seal(append([]byte(nil), log.Header()...), record)
	err = f.writeSynced(file, sealed, 0)
	if err == nil {
		err = f.opts.Disk.Rename(next, f.local(mapName))
	}
	if err == nil {
		err = f.untilSpace(func() error { return f.opts.Disk.SyncDir(f.opts.Dir) })
	}
	if err != nil {
		file.Close()
		return nil, nil, 0, err
	}
	return file, log, int64(len(sealed)), nil
}

// closeMap closes the map file; later changes of the directory fail. It ends the file with a
// record that says nothing: were the last one damaged, it could not be told from a torn one, and
// now that one is no loss.
func (f *FS) closeMap() error {
	f.flushMu.Lock()
	defer f.flushMu.Unlock()
	if f.mapFile == nil {
		return nil
	}
	var err error
	if f.mapErr == nil {
		err = f.appendMap(f.flushedSeq.Load()+1, nil)
		f.mapErr = ErrClosed
	}
	err = errors.Join(err, f.mapFile.Close())
	f.mapFile = nil
	return err
}

// writeSynced writes p at off and syncs the file. On a full disk it gives the ballast free and
// writes the same bytes again until there is space, which is sound: they are sealed once, and
// the write makes the pages dirty again.
func (f *FS) writeSynced(file vfs.File, p []byte, off int64) error {
	return f.untilSpace(func() error {
		if _, err := file.WriteAt(p, off); err != nil {
			return err
		}
		return file.Sync()
	})
}

// untilSpace runs do, which may be repeated, until it ends other than with a full disk. What the
// NVMe tier can spare makes way: ballast, parts and clean copies.
func (f *FS) untilSpace(do func() error) error {
	for tries := 0; ; tries++ {
		err := do()
		if !errors.Is(err, disk.ErrFull) {
			return err
		}
		f.opts.NVMe.ReleaseBallast()
		if tries == 0 || f.opts.NVMe.Spare() {
			continue
		}
		if tries%int(waitingLogs/spaceDelay) == 1 {
			f.opts.Logger.Warn("disk is full: waiting for space", "dir", f.opts.Dir, "error", err)
		}
		if !f.pause(spaceDelay) {
			return fmt.Errorf("%w (and the file system stopped: %w)", err, f.stopped())
		}
	}
}
