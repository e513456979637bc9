package slots

// smallShare is the part of the slots that is the small queue: one in smallShare.
const smallShare = 10

func (t *Table) queueOf(e *entry) *queue {
	if e.main {
		return &t.main
	}
	return &t.small
}

// push makes the slot the newest of a queue.
func (t *Table) push(slot uint32, main bool) {
	e := &t.slots[slot]
	e.main = main
	q := t.queueOf(e)
	e.prev, e.next = q.newest, 0
	if q.newest != 0 {
		t.slots[q.newest-1].next = slot + 1
	} else {
		q.oldest = slot + 1
	}
	q.newest = slot + 1
	q.n++
}

// remove takes the slot out of its queue.
func (t *Table) remove(slot uint32) {
	e := &t.slots[slot]
	q := t.queueOf(e)
	if e.prev != 0 {
		t.slots[e.prev-1].next = e.next
	} else {
		q.oldest = e.next
	}
	if e.next != 0 {
		t.slots[e.next-1].prev = e.prev
	} else {
		q.newest = e.prev
	}
	e.prev, e.next = 0, 0
	q.n--
}

// evict picks the part that makes way, unlinks it and returns its slot.
func (t *Table) evict() (uint32, bool) {
	for t.Ready() > 0 {
		if t.small.n > t.Ready()/smallShare || t.main.n == 0 {
			slot := t.small.oldest - 1
			e := &t.slots[slot]
			if e.uses > 0 {
				t.remove(slot)
				e.uses = 0
				t.push(slot, true)
				continue
			}
			t.addGhost(Key{File: t.files[e.file].id, Part: e.part}.hash())
			t.unlink(slot)
			return slot, true
		}
		slot := t.main.oldest - 1
		if e := &t.slots[slot]; e.uses > 0 {
			t.remove(slot)
			e.uses--
			t.push(slot, true)
			continue
		}
		t.unlink(slot)
		return slot, true
	}
	return 0, false
}

// fingerprint is never zero.
func fingerprint(h uint64) uint32 { return uint32(h>>32) | 1 }

func (t *Table) addGhost(h uint64) { t.ghost[h&uint64(len(t.ghost)-1)] = fingerprint(h) }

// forgetGhost reports whether the ghost of h was there, and removes it.
func (t *Table) forgetGhost(h uint64) bool {
	g := &t.ghost[h&uint64(len(t.ghost)-1)]
	if *g != fingerprint(h) {
		return false
	}
	*g = 0
	return true
}
