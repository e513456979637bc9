package nvme

import (
	"errors"
	"sync"
	"time"

	"zerofs/tiers/disk"
)

// budget counts bytes on disk.
type budget struct {
	size int64 // usable for what is counted here; does not change

	mu    sync.Mutex // guards what follows; no lock is taken under it
	dirty int64      // local copies that are the only ones, and files being written
	clean int64      // local copies that may be evicted
	parts int64      // slots of the slab that take space
	gone  int64      // copies that are removed when their last Reader closes
}

func (b *budget) addDirty(n int64) {
	b.mu.Lock()
	b.dirty += n
	b.mu.Unlock()
}

// toClean moves n bytes from dirty to clean; a negative n moves them back.
func (b *budget) toClean(n int64) {
	b.mu.Lock()
	b.dirty -= n
	b.clean += n
	b.mu.Unlock()
}

// doom moves n bytes of a copy to gone.
func (b *budget) doom(n int64, dirty bool) {
	b.mu.Lock()
	if dirty {
		b.dirty -= n
	} else {
		b.clean -= n
	}
	b.gone += n
	b.mu.Unlock()
}

func (b *budget) removed(n int64) {
	b.mu.Lock()
	b.gone -= n
	b.mu.Unlock()
}

// growParts counts n bytes more of parts if they fit.
func (b *budget) growParts(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dirty+b.clean+b.parts+n > b.size {
		return false
	}
	b.parts += n
	return true
}

func (b *budget) setParts(n int64) {
	b.mu.Lock()
	b.parts = n
	b.mu.Unlock()
}

func (b *budget) shrinkParts(n int64) {
	b.mu.Lock()
	b.parts -= n
	b.mu.Unlock()
}

// excess returns by how many bytes the budget is exceeded, and how many clean copies have above
// half of what dirty ones leave.
func (b *budget) excess() (over, cleanOver int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dirty + b.clean + b.parts - b.size, b.clean - max(0, b.size-b.dirty)/2
}

func (b *budget) usage() Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Usage{Dirty: b.dirty, Clean: b.clean + b.gone, Parts: b.parts, Size: b.size}
}

// makeRoom evicts clean copies and parts until the budget is kept or only dirty files are left.
// Under pressure each of the two keeps half of what dirty files leave.
func (t *Tier) makeRoom() {
	if over, _ := t.budget.excess(); over <= 0 {
		return
	}
	t.making.Lock()
	defer t.making.Unlock()
	for {
		over, cleanOver := t.budget.excess()
		switch {
		case over <= 0:
			return
		case t.evict(min(over, cleanOver)):
		case t.parts.shrink(over) > 0:
		case t.evict(over):
		default:
			return
		}
	}
}

// Spare gives space of parts and clean copies back to a full disk, and reports whether there was any
// to give. It does not touch the ballast.
func (t *Tier) Spare() bool { return !t.ended() && t.spare() }

// spare gives space back to a full disk, and reports whether there was any to give.
func (t *Tier) spare() bool {
	t.making.Lock()
	defer t.making.Unlock()
	t.parts.pauseGrowth()
	held := t.budget.usage().Parts
	return t.parts.shrink(max(held/4, 4<<20)) > 0 || t.evict(1)
}

// How long a writer waits between two tries on a full disk, and how often it says so.
const (
	fullWaitMin = 50 * time.Millisecond
	fullWaitMax = time.Second
	fullLogGap  = 10 * time.Second
)

// untilSpace runs op until it fails otherwise than for a full disk. It ends with ErrClosed when
// stop is closed or the tier is stopped.
func (t *Tier) untilSpace(stop <-chan struct{}, path string, op func() error) error {
	err := op()
	if !errors.Is(err, disk.ErrFull) {
		return err
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	leader := false // one line for all who wait
	defer func() {
		if leader {
			t.telling.Store(false)
		}
	}()
	for wait, waited, logged := fullWaitMin, time.Duration(0), -fullLogGap; ; {
		for errors.Is(err, disk.ErrFull) && t.spare() {
			err = op()
		}
		if !errors.Is(err, disk.ErrFull) {
			return err
		}
		leader = leader || t.telling.CompareAndSwap(false, true)
		if leader && waited-logged >= fullLogGap {
			t.log.Error("disk full: table writes wait", "file", path, "waited", waited, "err", err)
			logged = waited
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-stop:
			timer.Stop()
			return errors.Join(ErrClosed, err)
		case <-t.stopped:
			timer.Stop()
			return errors.Join(ErrClosed, err)
		}
		waited += wait
		wait = min(2*wait, fullWaitMax)
		err = op()
	}
}
