package nvme

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

// openMax is the number of files that stay open while nobody reads them.
const openMax = 512

const (
	finalSuffix = ".table"
	newSuffix   = ".new"
)

// table is a local copy.
type table struct {
	tier   *Tier
	id     seal.FileID
	stored int64  // bytes
	serial uint64 // of this table in this process

	// Guarded by Tier.mu.
	refs   int
	used   uint64 // Tier.uses at the last OpenFile
	clean  bool   // another copy is in the bucket
	doomed bool   // no OpenFile succeeds; removed at the last Close

	opening sync.Mutex // held by the one that opens the file; taken before Tier.mu
	file    atomic.Pointer[tableFile]
}

// tableFile is a table's open file. It is closed while the table has no references only.
type tableFile struct {
	disk.File
	seal *seal.File
}

func (t *Tier) newTable(id seal.FileID, stored int64) *table {
	return &table{tier: t, id: id, stored: stored, serial: t.serial.Add(1)}
}

func (t *Tier) path(id seal.FileID, suffix string) string {
	return t.disk.PathJoin(t.tables, hex.EncodeToString(id[:])+suffix)
}

// parseName returns the id in the name of a file of the table directory.
func parseName(name string) (id seal.FileID, final, ok bool) {
	digits, final := strings.CutSuffix(name, finalSuffix)
	if !final {
		if digits, ok = strings.CutSuffix(name, newSuffix); !ok {
			return id, false, false
		}
	}
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != len(id) || hex.EncodeToString(raw) != digits {
		return id, false, false
	}
	return seal.FileID(raw), final, true
}

// acquire takes a reference on a local copy.
func (t *Tier) acquire(id seal.FileID) *table {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.local[id]
	if tb == nil || tb.doomed {
		return nil
	}
	t.uses++
	tb.used = t.uses
	tb.refs++
	return tb
}

// release gives a reference back. With the last one a doomed table is removed, and after Close a
// file is closed.
func (t *Tier) release(tb *table) error {
	t.mu.Lock()
	tb.refs--
	last := tb.refs == 0
	doomed := tb.doomed
	t.mu.Unlock()
	switch {
	case last && doomed:
		return t.unlink(tb)
	case last && t.ended():
		t.closeIdle(0)
	}
	return nil
}

// open returns the table's open file; the caller holds a reference.
func (tb *table) open() (*tableFile, error) {
	if f := tb.file.Load(); f != nil {
		return f, nil
	}
	tb.opening.Lock()
	defer tb.opening.Unlock()
	if f := tb.file.Load(); f != nil {
		return f, nil
	}
	f, err := tb.openFile()
	if err != nil {
		return nil, fmt.Errorf("nvme: open table %v: %w", tb.id, err)
	}
	tb.file.Store(f)
	if tb.tier.opened.Add(1) > openMax {
		tb.tier.closeIdle(openMax * 3 / 4)
	}
	return f, nil
}

// openFile opens the file and checks size and header.
func (tb *table) openFile() (*tableFile, error) {
	sealed, err := tb.tier.key.File(tb.id)
	if err != nil {
		return nil, err
	}
	file, err := tb.tier.disk.OpenDirect(tb.tier.path(tb.id, finalSuffix), false)
	if err != nil {
		return nil, err
	}
	f := &tableFile{File: file, seal: sealed}
	if err := f.check(tb.stored); err != nil {
		_ = file.Close()
		return nil, err
	}
	return f, nil
}

func (f *tableFile) check(stored int64) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size != stored {
		return fmt.Errorf("%w: %d bytes stored, want %d", seal.ErrCorrupt, size, stored)
	}
	header := disk.GetBuf(seal.HeaderSize)
	defer disk.PutBuf(header)
	if n, err := f.ReadAt(header, 0); n < len(header) {
		return fmt.Errorf("read header: %w", noEOF(err))
	}
	if !bytes.Equal(header, f.seal.Header()) {
		return fmt.Errorf("%w: header", seal.ErrCorrupt)
	}
	return nil
}

// noEOF makes an early end of file an error that says so.
func noEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// closeIdle closes the files of tables that were not read for longest until at most keep are open.
func (t *Tier) closeIdle(keep int64) {
	t.mu.Lock()
	var idle []*table
	for _, tb := range t.local {
		if tb.refs == 0 && !tb.doomed && tb.file.Load() != nil { // a doomed one's file is unlink's
			idle = append(idle, tb)
		}
	}
	slices.SortFunc(idle, func(a, b *table) int { return cmp.Compare(a.used, b.used) })
	n := max(0, min(t.opened.Load()-keep, int64(len(idle))))
	files := make([]*tableFile, 0, n)
	for _, tb := range idle[:n] {
		files = append(files, tb.file.Swap(nil))
	}
	t.opened.Add(-n)
	t.mu.Unlock()
	for _, f := range files {
		if err := f.Close(); err != nil {
			t.log.Warn("close of a table file failed", "err", err)
		}
	}
}

// MarkDirty says that the local copy is the only one.
func (t *Tier) MarkDirty(id seal.FileID) { t.mark(id, false) }

// MarkClean says that the bucket has the file too. Clean copies are evicted when space is needed.
func (t *Tier) MarkClean(id seal.FileID) {
	t.mark(id, true)
	t.makeRoom()
}

func (t *Tier) mark(id seal.FileID, clean bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tb := t.local[id]
	if tb == nil || tb.doomed || tb.clean == clean {
		return
	}
	tb.clean = clean
	n := onDisk(tb.stored)
	if !clean {
		n = -n
	}
	t.budget.toClean(n)
}

// Remove removes the local copy and the parts of a file. No OpenFile succeeds afterwards; the
// bytes go when the last Reader closes. A file that there is no copy of is no error.
func (t *Tier) Remove(id seal.FileID) error {
	t.parts.removeFile(id)
	return t.remove(id, false)
}

// Drop removes a clean local copy which turned out bad. A dirty one stays, with ErrDirty.
func (t *Tier) Drop(id seal.FileID) error { return t.remove(id, true) }

func (t *Tier) remove(id seal.FileID, onlyClean bool) error {
	t.mu.Lock()
	tb := t.local[id]
	if tb == nil || tb.doomed {
		t.mu.Unlock()
		return nil
	}
	if onlyClean && !tb.clean {
		t.mu.Unlock()
		return fmt.Errorf("nvme: drop table %v: %w", id, ErrDirty)
	}
	idle := t.doom(tb)
	t.mu.Unlock()
	if idle {
		return t.unlink(tb)
	}
	return nil
}

// doom makes the table unreachable and reports whether nobody reads it, so that the caller has
// to unlink it. Tier.mu is held.
func (t *Tier) doom(tb *table) (idle bool) {
	tb.doomed = true
	t.budget.doom(onDisk(tb.stored), !tb.clean)
	return tb.refs == 0
}

// unlink removes a doomed table without references.
func (t *Tier) unlink(tb *table) error {
	if f := tb.file.Swap(nil); f != nil {
		t.opened.Add(-1)
		if err := f.Close(); err != nil {
			t.log.Warn("close of a table file failed", "table", hex.EncodeToString(tb.id[:]), "err", err)
		}
	}
	path := t.path(tb.id, finalSuffix)
	err := t.disk.Remove(path)
	t.mu.Lock()
	delete(t.local, tb.id)
	t.mu.Unlock()
	if err != nil {
		return fmt.Errorf("nvme: remove %s: %w", path, err) // its bytes stay counted until the next Open
	}
	t.budget.removed(onDisk(tb.stored))
	return nil
}

// evict removes clean copies of at least n bytes in all, if there are that many: those that nobody
// reads first, and of them those that were not read for longest. It reports whether there was any.
func (t *Tier) evict(n int64) bool {
	if n <= 0 {
		return false
	}
	any, idle := t.doomOldest(n)
	for _, tb := range idle {
		if err := t.unlink(tb); err != nil {
			t.log.Warn("eviction failed", "err", err)
		}
	}
	return any
}

// doomOldest dooms clean copies of n bytes and returns those that nobody reads; the others go
// with their last Close.
func (t *Tier) doomOldest(n int64) (any bool, idle []*table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var clean []*table
	for _, tb := range t.local {
		if tb.clean && !tb.doomed {
			clean = append(clean, tb)
		}
	}
	slices.SortFunc(clean, func(a, b *table) int {
		return cmp.Or(cmp.Compare(min(a.refs, 1), min(b.refs, 1)), cmp.Compare(a.used, b.used))
	})
	for _, tb := range clean {
		if n <= 0 {
			break
		}
		n -= onDisk(tb.stored)
		any = true
		t.evicted.Add(1)
		if t.doom(tb) {
			idle = append(idle, tb)
		}
	}
	return any, idle
}

// Local returns the ids and stored sizes in bytes of all local copies.
func (t *Tier) Local() map[seal.FileID]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	sizes := make(map[seal.FileID]int64, len(t.local))
	for id, tb := range t.local {
		if !tb.doomed {
			sizes[id] = tb.stored
		}
	}
	return sizes
}
