package fence

// faults are what befalls a process.
func (m *model) faults(s *mstate, p int) {
	pr := &s.procs[p]
	if pr.phase == mDown || s.left.crashes == 0 {
		return
	}
	n := *s
	n.left.crashes--
	n.procs[p] = mproc{}
	m.emit(&n, "crashes", p)
	if pr.req.phase == mSent && s.left.lates > 0 {
		for i := range n.late {
			if n.late[i].rec.id == 0 {
				n.left.lates--
				n.late[i] = mlate{seq: pr.req.seq, rec: pr.req.rec, age: pr.req.start} // or older: it may arrive for longer than it should
				m.emit(&n, "crashes, and its put is still on its way", p)
				return
			}
		}
	}
}

// world is what happens by itself.
func (m *model) world(s *mstate) {
	m.tick(s)
	if m.cfg.trim {
		m.trim(s)
	}
	m.lates(s)
	m.clone(s)
	m.rollback(s)
}

func (m *model) lates(s *mstate) {
	for i := range s.late {
		if s.late[i].rec.id == 0 {
			continue
		}
		n := *s
		m.land(&n, s.late[i].seq, s.late[i].rec)
		n.late[i] = mlate{}
		m.emit(&n, "a late put arrives", mWorld)
	}
}

// trim deletes any one record that may be deleted, in whatever order: that covers batches that the
// store carries out in part, and deletions sent by owners that are no more.
func (m *model) trim(s *mstate) {
	limit := Seq(0)
	for q := s.trueHead; q >= 1 && s.slots[q].rec.id != 0; q-- {
		if s.slots[q].rec.kind == kindBase {
			limit = trimLimit(Seq(q-1), nil)
			break
		}
	}
	if !m.cfg.rules.trimUnderBase && s.trueHead > 0 {
		limit = Seq(s.trueHead) - 1
	}
	for q := uint8(1); Seq(q) <= limit; q++ {
		if s.slots[q].rec.id == 0 || s.slots[q].age < mRetention {
			continue
		}
		n := *s
		n.slots[q] = mslot{}
		m.emit(&n, "a record is trimmed", mWorld)
	}
}

func (m *model) clone(s *mstate) {
	if s.left.clones == 0 {
		return
	}
	for p := range s.procs {
		q := 1 - p
		if s.procs[q].phase != mDown {
			continue
		}
		n := *s
		n.left.clones--
		n.dirs[q] = n.dirs[p]
		copyHolder := func(h *uint8) { *h = *h&^(1<<q) | (*h>>p&1)<<q }
		for i := range n.late {
			copyHolder(&n.late[i].rec.holders)
		}
		for i := range n.slots {
			copyHolder(&n.slots[i].rec.holders)
		}
		copyHolder(&n.procs[p].req.rec.holders)
		m.emit(&n, "its directory is cloned to the other host", p)
	}
}

// rollback takes the newest records away.
func (m *model) rollback(s *mstate) {
	if s.left.rollbacks == 0 {
		return
	}
	n := *s
	n.left.rollbacks--
	n.rolled = true
	for p := range n.procs {
		n.procs[p].surprised = n.procs[p].phase != mDown // nobody can tell before the next read
	}
	for n.trueHead > 0 && n.slots[n.trueHead-1].isTrue && n.slots[n.trueHead].rec.id != 0 {
		n.slots[n.trueHead] = mslot{}
		n.trueHead--
		n.recount()
		m.emit(&n, "the store is rolled back", mWorld)
	}
}

// recount finds out which directories contain all that is left of the log after a roll-back.
func (n *mstate) recount() {
	for d := range n.dirs {
		n.dirs[d].complete = true
		for _, sl := range n.slots {
			if sl.isTrue && sl.rec.kind == kindShip && sl.rec.holders&(1<<d) == 0 {
				n.dirs[d].complete = false
			}
		}
	}
}

// tick lets time pass: for all, or with one process's clock standing still.
func (m *model) tick(s *mstate) {
	n := *s
	n.pass(-1, &m.cfg)
	if n != *s {
		m.emit(&n, "time passes", mWorld)
	}
	if s.left.freezes == 0 {
		return
	}
	for p := range s.procs {
		n := *s
		n.left.freezes--
		n.frozen = true
		for range mRetention {
			n.pass(p, &m.cfg)
		}
		m.emit(&n, "is suspended, its clock too, for longer than the retention", p)
	}
}

func older(age *uint8, most uint8) { *age = min(*age+1, most) }

func (n *mstate) pass(frozen int, cfg *mconfig) {
	for q := range n.slots {
		if n.slots[q].rec.id != 0 && cfg.trim {
			older(&n.slots[q].age, mRetention)
		}
	}
	for i := range n.late {
		if n.late[i].rec.id != 0 {
			if older(&n.late[i].age, mRetention); n.late[i].age >= mRetention {
				n.late[i] = mlate{} // no request outlives the retention
			}
		}
	}
	for p := range n.procs {
		n.procs[p].pass(p == frozen, cfg.dates)
	}
}

func (pr *mproc) pass(frozen, dates bool) {
	if pr.phase == mDown {
		return
	}
	rq := &pr.req
	if dates {
		older(&pr.lookDate, mStale)
		if rq.phase == mWon || rq.phase == mCheck {
			older(&rq.landed, mStale)
		}
	}
	if frozen {
		return
	}
	older(&pr.lookBoot, mStale)
	if pr.phase == mWaiting {
		older(&pr.waited, mWaited)
	}
	if rq.phase != mNone {
		older(&rq.start, mStale)
	}
}
