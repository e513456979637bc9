// Package slots is the index of the part cache: which slot of the slab holds which part, and
// which part makes way for the next. It does no I/O.
//
// # Replacement
//
// S3-FIFO: a part enters a small queue (a tenth of the slots). One that is read again before it
// reaches the end moves to the main queue, one that is not is forgotten but leaves a fingerprint
// among the ghosts; a part that comes back while its ghost is there enters the main queue at once.
// The main queue gives parts that were read another round, at most three. So a scan flows through the
// small queue alone. Reads of one part in quick succession (eight frames, one after the other)
// are one use: a hit counts only when a twentieth of the slots was filled since the last that did.
//
// # Memory
//
// 32 bytes a slot, 4 to 8 for the hash chains, 4 to 8 for the ghosts, and some 50 for each file that has
// a part in the cache. Everything grows with the slots in use.
//
// # Concurrency
//
// A Table is not safe for concurrent use.
package slots

import (
	"encoding/binary"
	"math/bits"
)

// Key names a part of a stored file.
type Key struct {
	File [16]byte
	Part uint32
}

// hash spreads keys; file ids are random, so that mixing them with the part is enough.
func (k Key) hash() uint64 {
	h := binary.LittleEndian.Uint64(k.File[:]) ^ (uint64(k.Part)+1)*0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	return h
}

// state is what a slot is at the moment.
type state uint8

const (
	hole  state = iota // holds nothing and takes no space
	free               // holds nothing, takes space
	busy               // lent to the caller, who writes or punches it
	ready              // holds a part
)

const (
	maxUses   = 3 // uses that are remembered
	chainLoad = 1 // slots per hash chain, at most, on average
)

// entry is one slot. Links are slot numbers plus one; zero is none.
type entry struct {
	file       uint32 // index into Table.files
	part       uint32
	chain      uint32 // next in the hash chain; in the list of free slots or of holes when not ready
	prev, next uint32 // neighbours in the queue: towards the oldest, towards the newest
	used       uint32 // Table.filled at the last use that counted
	n          uint32 // bytes held, below 1<<18; the version in the bits above
	uses       uint8
	state      state
	main       bool // in the main queue, not in the small one
}

const (
	lengthBits = 18
	lengthMask = 1<<lengthBits - 1
)

// file is a file with parts in the table.
type file struct {
	id      [16]byte
	parts   uint32 // ready slots
	highest uint32 // no ready slot has a higher part
}

// queue is a FIFO of slots.
type queue struct {
	oldest, newest uint32 // slot plus one
	n              int
}

// Table is the index.
type Table struct {
	partMax uint32 // bytes

	slots []entry
	heads []uint32 // of the hash chains; a power of two
	ghost []uint32 // fingerprints of parts that left the small queue; a power of two

	files    []file
	fileOf   map[[16]byte]uint32
	fileFree []uint32

	small, main         queue
	freeList, holeList  uint32
	nFree, nHole, nBusy int
	filled              uint32 // parts published so far, wrapping
}

// New returns an empty table of parts of at most partMax bytes (below 1<<18).
func New(partMax uint32) *Table {
	return &Table{partMax: partMax, fileOf: map[[16]byte]uint32{}, heads: make([]uint32, 16), ghost: make([]uint32, 16)}
}

// Slots returns the number of slots that were ever used: the slab's length.
func (t *Table) Slots() int { return len(t.slots) }

// Occupied returns the number of slots that take space in the slab.
func (t *Table) Occupied() int { return len(t.slots) - t.nHole }

// Ready returns the number of parts held.
func (t *Table) Ready() int { return t.small.n + t.main.n }

// Ref names the content of a slot at one time.
type Ref struct {
	Slot    uint32
	N       uint32 // bytes
	version uint32
}

// Get returns where the part is and counts a use.
func (t *Table) Get(k Key) (Ref, bool) {
	s, ok := t.find(k)
	if !ok {
		return Ref{}, false
	}
	e := &t.slots[s]
	if e.uses < maxUses && t.filled-e.used >= uint32(t.Ready()/20) {
		e.uses++
		e.used = t.filled
	}
	return Ref{Slot: s, N: e.n & lengthMask, version: e.n >> lengthBits}, true
}

// Has reports whether the table holds the part.
func (t *Table) Has(k Key) bool {
	_, ok := t.find(k)
	return ok
}

// Still reports whether the slot holds what it held when Get returned r.
func (t *Table) Still(r Ref) bool {
	e := &t.slots[r.Slot]
	return e.state == ready && e.n>>lengthBits == r.version
}

// Take lends a slot: an empty one, a new one if grow is set, or else that of the part which
// makes way. The caller gives it back with Publish, Release or Punched.
func (t *Table) Take(grow bool) (slot uint32, ok bool) {
	switch {
	case t.freeList != 0:
		slot = t.popFree()
	case grow && t.holeList != 0:
		slot = t.holeList - 1
		t.holeList = t.slots[slot].chain
		t.nHole--
	case grow:
		slot = uint32(len(t.slots))
		t.slots = append(t.slots, entry{})
	default:
		if slot, ok = t.evict(); !ok {
			return 0, false
		}
	}
	t.slots[slot].state = busy
	t.slots[slot].chain = 0
	t.nBusy++
	return slot, true
}

// NeedsGrowth reports whether Take would have to grow or to evict.
func (t *Table) NeedsGrowth() bool { return t.freeList == 0 }

// TakeAny lends up to n slots that take space, empty ones first, then those of parts which make way.
func (t *Table) TakeAny(n int) []uint32 {
	n = min(n, t.nFree+t.Ready())
	taken := make([]uint32, 0, n)
	for len(taken) < n {
		slot, ok := t.Take(false)
		if !ok {
			break
		}
		taken = append(taken, slot)
	}
	return taken
}

// Publish says that the lent slot holds n bytes of k now. A part that is there already stays
// and the slot is released.
func (t *Table) Publish(slot uint32, k Key, n uint32) {
	if n == 0 || n > t.partMax || t.Has(k) {
		t.Release(slot)
		return
	}
	h := k.hash()
	t.link(slot, k, n)
	e := &t.slots[slot]
	e.uses, e.used = 0, t.filled
	t.filled++
	t.push(slot, t.forgetGhost(h))
	t.grow()
}

// Release says that the lent slot holds nothing and takes space.
func (t *Table) Release(slot uint32) {
	t.nBusy--
	t.pushFree(slot)
}

// Punched says that the lent slot takes no space any more.
func (t *Table) Punched(slot uint32) {
	e := &t.slots[slot]
	e.state = hole
	e.chain = t.holeList
	t.holeList = slot + 1
	t.nBusy--
	t.nHole++
}

// Delete forgets a part.
func (t *Table) Delete(k Key) bool {
	s, ok := t.find(k)
	if !ok {
		return false
	}
	t.unlink(s)
	t.pushFree(s)
	return true
}

// DeleteFile forgets all parts of a file and returns how many there were.
func (t *Table) DeleteFile(id [16]byte) int {
	num, ok := t.fileOf[id]
	if !ok {
		return 0
	}
	f := t.files[num]
	if uint64(f.highest) < uint64(len(t.slots)) {
		for part := uint32(0); part <= f.highest; part++ {
			t.Delete(Key{File: id, Part: part})
		}
		return int(f.parts)
	}
	for s := range t.slots { // parts far apart: cheaper to look at each slot
		if e := &t.slots[s]; e.state == ready && e.file == num {
			t.unlink(uint32(s))
			t.pushFree(uint32(s))
		}
	}
	return int(f.parts)
}

// Clear forgets all parts; all slots that are not lent are holes afterwards.
func (t *Table) Clear() {
	for {
		slot, ok := t.Take(false)
		if !ok {
			return
		}
		t.Punched(slot)
	}
}

// Empty returns the runs of slots that hold nothing, as first slot and count.
func (t *Table) Empty(run func(first, n uint32)) {
	first, n := uint32(0), uint32(0)
	for s := range t.slots {
		if st := t.slots[s].state; st == hole || st == free {
			if n == 0 {
				first = uint32(s)
			}
			n++
			continue
		}
		if n > 0 {
			run(first, n)
			n = 0
		}
	}
	if n > 0 {
		run(first, n)
	}
}

func (t *Table) find(k Key) (uint32, bool) {
	num, ok := t.fileOf[k.File]
	if !ok {
		return 0, false
	}
	for s := t.heads[k.hash()&uint64(len(t.heads)-1)]; s != 0; s = t.slots[s-1].chain {
		if e := &t.slots[s-1]; e.file == num && e.part == k.Part {
			return s - 1, true
		}
	}
	return 0, false
}

// link makes the slot ready and findable; it is in no queue yet.
func (t *Table) link(slot uint32, k Key, n uint32) {
	num := t.intern(k.File)
	f := &t.files[num]
	f.parts++
	f.highest = max(f.highest, k.Part)
	e := &t.slots[slot]
	head := &t.heads[k.hash()&uint64(len(t.heads)-1)]
	e.file, e.part, e.chain = num, k.Part, *head
	e.n = e.n&^lengthMask | n
	e.state = ready
	*head = slot + 1
	t.nBusy--
}

// unlink takes a ready slot out of chain, queue and file; its state is the caller's to set.
func (t *Table) unlink(slot uint32) {
	e := &t.slots[slot]
	k := Key{File: t.files[e.file].id, Part: e.part}
	at := &t.heads[k.hash()&uint64(len(t.heads)-1)]
	for *at != slot+1 {
		at = &t.slots[*at-1].chain
	}
	*at = e.chain
	t.remove(slot)
	t.drop(e.file)
	e.chain = 0
	e.n += 1 << lengthBits // another version, wrapping
}

// intern returns the number of a file, which must get a part next.
func (t *Table) intern(id [16]byte) uint32 {
	if num, ok := t.fileOf[id]; ok {
		return num
	}
	var num uint32
	if n := len(t.fileFree); n > 0 {
		num = t.fileFree[n-1]
		t.fileFree = t.fileFree[:n-1]
	} else {
		num = uint32(len(t.files))
		t.files = append(t.files, file{})
	}
	t.files[num] = file{id: id}
	t.fileOf[id] = num
	return num
}

// drop takes one part from a file, and forgets the file with its last.
func (t *Table) drop(num uint32) {
	f := &t.files[num]
	f.parts--
	if f.parts == 0 {
		delete(t.fileOf, f.id)
		t.fileFree = append(t.fileFree, num)
	}
}

func (t *Table) popFree() uint32 {
	slot := t.freeList - 1
	t.freeList = t.slots[slot].chain
	t.nFree--
	return slot
}

func (t *Table) pushFree(slot uint32) {
	e := &t.slots[slot]
	e.state = free
	e.chain = t.freeList
	t.freeList = slot + 1
	t.nFree++
}

// grow keeps chains short and enough ghosts.
func (t *Table) grow() {
	if t.Ready() <= len(t.heads)*chainLoad {
		return
	}
	size := 1 << bits.Len(uint(t.Ready()))
	t.heads = make([]uint32, size)
	for s := range t.slots {
		e := &t.slots[s]
		if e.state != ready {
			continue
		}
		h := Key{File: t.files[e.file].id, Part: e.part}.hash()
		head := &t.heads[h&uint64(size-1)]
		e.chain = *head
		*head = uint32(s) + 1
	}
	old := t.ghost
	t.ghost = make([]uint32, size)
	for i, g := range old { // a fingerprint has no place in the larger table: each takes both
		for at := i; at < size; at += len(old) {
			t.ghost[at] = g
		}
	}
}
