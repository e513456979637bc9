//go:build linux

package fuse

import (
	"sync"
	"sync/atomic"

	"zerofs/engine/locks"
)

// handles knows through which open file a lock was set last. A process's locks end with FLUSH, which names their
// owner. The owner of an open file description's lock (F_OFD_SETLK) is named nowhere: its locks end with the RELEASE
// of the open file, through which alone they can have been set.
type handles struct {
	last atomic.Uint64 // handle given out

	mu     sync.Mutex
	locked map[uint64][]lockedBy // guarded by mu; by handle
	latest map[lockedBy]uint64   // guarded by mu; the handle
}

type lockedBy struct {
	ino   uint64
	owner locks.Owner
}

// next returns a handle for an open file.
func (h *handles) next() uint64 { return h.last.Add(1) }

// used notes that owner sets a lock through handle.
func (h *handles) used(handle, ino uint64, owner locks.Owner) {
	by := lockedBy{ino, owner}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.latest == nil {
		h.locked, h.latest = make(map[uint64][]lockedBy), make(map[lockedBy]uint64)
	}
	if h.latest[by] == handle {
		return
	}
	h.latest[by] = handle
	h.locked[handle] = append(h.locked[handle], by)
}

// released returns the owners that set locks through handle, and through none later.
func (h *handles) released(handle uint64) []lockedBy {
	h.mu.Lock()
	defer h.mu.Unlock()
	all, ok := h.locked[handle]
	if !ok {
		return nil
	}
	delete(h.locked, handle)
	var mine []lockedBy
	for _, by := range all {
		if h.latest[by] == handle {
			delete(h.latest, by)
			mine = append(mine, by)
		}
	}
	return mine
}
