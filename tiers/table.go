package tiers

import (
	"fmt"
	"sync/atomic"

	"zerofs/tiers/seal"
)

// table is one incarnation of a table file: a name that is created again is another table.
type table struct {
	id     seal.FileID
	object string

	// size is the plaintext's, in bytes. Set once, before whole is, and read only after it.
	size int64

	// committed says that a Commit in the log named the object: the table is clean. It never
	// becomes false again.
	committed atomic.Bool

	// sealed is the key of the object's frames, made when the first of them is read.
	sealed atomic.Pointer[seal.File]

	// Guarded by FS.mu.
	whole    bool   // written to the end and durable on the NVMe tier
	gone     bool   // no name stands for it
	deleteOp uint64 // the change of the directory that made it so
	refs     int    // the name, handles, and rounds in which it is captured; 0 lets it be removed
	offered  bool   // an upload was begun: an object may exist
	uploaded bool   // the object exists
}

// stored returns the bytes of the sealed file.
func (t *table) stored() int64 { return seal.StoredSize(t.size) }

// ref takes a reference. f.mu is held.
func (f *FS) ref(t *table) { t.refs++ }

// unref gives a reference back. A table without any is removed by tidy once the directory's
// change is durable. f.mu is held.
func (f *FS) unref(t *table) {
	t.refs--
	if t.refs > 0 {
		return
	}
	if t.whole {
		f.deadTables = append(f.deadTables, t)
		f.kickTidy()
	} else {
		delete(f.live, t) // its writer removed what there was
	}
}

// release gives a reference back.
func (f *FS) release(t *table) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unref(t)
}

// frames returns the key of the table's frames.
func (f *FS) frames(t *table) (*seal.File, error) {
	if s := t.sealed.Load(); s != nil {
		return s, nil
	}
	s, err := f.opts.Key.File(t.id)
	if err != nil {
		return nil, fmt.Errorf("tiers: key of %s: %w", t.object, err)
	}
	t.sealed.Store(s)
	return s, nil
}
