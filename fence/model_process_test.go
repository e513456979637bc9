package fence

import (
	"time"
)

// successors fills m.out with all that may happen next.
func (m *model) successors(s *mstate) {
	m.out = m.out[:0]
	for p := range s.procs {
		m.process(s, p)
		m.faults(s, p)
	}
	m.world(s)
}

func (m *model) process(s *mstate, p int) {
	pr := &s.procs[p]
	switch {
	case pr.phase == mDown:
		m.start(s, p, "starts")
	case pr.req.phase != mNone:
		m.request(s, p)
	case pr.phase == mWaiting:
		m.waiting(s, p)
	case pr.phase == mOwner:
		m.owner(s, p)
	}
}

// start reads the log.
func (m *model) start(s *mstate, p int, what string) {
	n := *s
	v := m.read(&n, p)
	if v.err != "" {
		n.procs[p] = mproc{}
		if n.procs[p] != s.procs[p] {
			m.emit(&n, "reads: "+v.err, p)
		}
		return
	}
	n.procs[p] = m.claimantOf(&n, p, &v)
	m.emit(&n, what, p)
}

func (m *model) claimantOf(s *mstate, p int, v *mview) mproc {
	pr := mproc{phase: mWaiting}
	pr.head, pr.headID = v.head()
	author := 0
	if len(v.run) > 0 {
		author = int(s.slots[pr.head].rec.author)
		pr.ownerEpoch = s.slots[pr.head].rec.epoch
	}
	mem := s.dirs[p].memory()
	pr.atOnce = m.cfg.rules.mayClaimAtOnce(v.run, mem, Epoch(pr.ownerEpoch), midentity(author), midentity(p))
	pr.wins = m.cfg.rules.localWins(v.below, v.run, mem)
	return pr
}

func (m *model) waiting(s *mstate, p int) {
	pr := &s.procs[p]
	high := uint8(0)
	for q := uint8(1); q < mSlots; q++ {
		if s.slots[q].rec.id != 0 {
			high = q
		}
	}
	if high != pr.head {
		m.start(s, p, "sees the head moved")
		return
	}
	n := *s
	n.procs[p].lookBoot, n.procs[p].lookDate, n.procs[p].noDate = 0, 0, false
	if n != *s {
		m.emit(&n, "polls", p)
	}
	over := m.cfg.rules.waitOver(-units(pr.waited), 0, mLease)
	if (pr.atOnce || over) && pr.head < m.cfg.maxSeq && pr.ownerEpoch < m.cfg.maxEpoch {
		m.claim(s, p)
	}
}

// claim makes the nonce durable and sends the Claim. Crashes in between are crashes after it whose
// put was lost.
func (m *model) claim(s *mstate, p int) {
	n := *s
	pr := &n.procs[p]
	v := m.readAsOf(s, p)
	pr.phase = mClaiming
	r := mrec{id: s.fresh(), prev: pr.headID, kind: kindClaim, epoch: pr.ownerEpoch + 1, author: uint8(p), holders: 3}
	mem := remember(v.below, v.run, n.dirs[p].memory())
	mem.pending = append(mem.pending, intent{Seq(pr.head + 1), mnonce(r.id)})
	n.dirs[p].set(m.forget(mem))
	pr.req = mreq{phase: mSent, seq: pr.head + 1, rec: r}
	m.emit(&n, "sends its claim", p)
}

// readAsOf returns the view on which the claimant decided: the log up to the head that it knows.
// Where that can no longer be read, the view is empty and nothing is forgotten.
func (m *model) readAsOf(s *mstate, p int) mview {
	n := *s
	for q := s.procs[p].head + 1; q < mSlots; q++ {
		n.slots[q] = mslot{}
	}
	quiet := model{cfg: m.cfg}
	v := quiet.readRun(&n, p)
	if _, id := v.head(); id != s.procs[p].headID {
		return mview{}
	}
	return v
}

func (m *model) forget(mem memory) memory {
	if !m.cfg.lineage {
		return memory{}
	}
	if !m.cfg.rules.keepSeen {
		mem.seen = 0
	}
	return mem
}

// fresh returns an id that nothing in s has.
func (s *mstate) fresh() uint8 {
	var used [64]bool
	s.ids(func(id *uint8) { used[*id] = true })
	for i := 1; ; i++ {
		if !used[i] {
			return uint8(i)
		}
	}
}

// ids calls fn for every id in s, always in the same order.
func (s *mstate) ids(fn func(id *uint8)) {
	for q := range s.slots {
		fn(&s.slots[q].rec.id)
		fn(&s.slots[q].rec.prev)
	}
	for p := range s.procs {
		fn(&s.procs[p].headID)
		fn(&s.procs[p].req.rec.id)
		fn(&s.procs[p].req.rec.prev)
	}
	for i := range s.late {
		fn(&s.late[i].rec.id)
		fn(&s.late[i].rec.prev)
	}
	for d := range s.dirs {
		fn(&s.dirs[d].adoptedID)
		for i := range s.dirs[d].n {
			fn(&s.dirs[d].pending[i].id)
		}
	}
}

// canonical renames the ids.
func (s *mstate) canonical() {
	var names [64]uint8
	next := uint8(0)
	s.ids(func(id *uint8) {
		if *id == 0 {
			return
		}
		if names[*id] == 0 {
			next++
			names[*id] = next
		}
		*id = names[*id]
	})
}

func (m *model) owner(s *mstate, p int) {
	pr := &s.procs[p]
	if !pr.adopted {
		n := *s
		m.adopt(&n, p)
		m.emit(&n, "adopts", p)
	}
	if pr.head >= m.cfg.maxSeq {
		return
	}
	if !m.cfg.mute {
		m.append(s, p, kindRenew)
	}
	if pr.adopted && m.cfg.ships {
		m.append(s, p, kindShip)
	}
	if pr.adopted && m.cfg.bases {
		m.append(s, p, kindBase)
	}
	if m.cfg.release {
		m.append(s, p, kindRelease)
	}
}

// adopt materialises the state, if the directory did not win, and moves the lineage.
func (m *model) adopt(n *mstate, p int) {
	pr, d := &n.procs[p], &n.dirs[p]
	if !pr.wins {
		m.setAside(n, p)
		d.complete = true
		for q := range n.slots[:pr.head+1] {
			if n.slots[q].isTrue {
				n.slots[q].rec.holders |= 1 << p
			}
		}
		if n.trueHead > pr.head {
			for q := pr.head + 1; q <= n.trueHead; q++ {
				if n.slots[q].rec.kind == kindShip {
					d.complete = false // somebody else's, and we shall be fenced
				}
			}
		}
	}
	pr.adopted = true
	d.set(m.forget(d.memory().adopt(mark{Seq(pr.head), mhash(pr.headID)})))
}

// setAside takes what is still on its way out of p's directory.
func (m *model) setAside(n *mstate, p int) {
	for i := range n.late {
		n.late[i].rec.holders &^= 1 << p
	}
	for q := range n.procs {
		n.procs[q].req.rec.holders &^= 1 << p
	}
}

func (m *model) append(s *mstate, p int, k kind) {
	n := *s
	pr := &n.procs[p]
	r := mrec{id: s.fresh(), prev: pr.headID, kind: k, epoch: pr.epoch, author: uint8(p), holders: 1 << p}
	if k.substantive() {
		mem := n.dirs[p].memory()
		if pr.adopted {
			mem = mem.adopt(mark{Seq(pr.head), mhash(pr.headID)})
		}
		mem.seen = max(mem.seen, Seq(pr.head))
		mem.pending = append(mem.pending, intent{Seq(pr.head + 1), mnonce(r.id)})
		n.dirs[p].set(m.forget(mem))
	}
	if k == kindRelease && m.cfg.rules.stopsFirst {
		pr.stopped = true
	}
	pr.req = mreq{phase: mSent, seq: pr.head + 1, rec: r}
	m.emit(&n, "sends its "+k.String(), p)
}

// request moves the append under way.
func (m *model) request(s *mstate, p int) {
	n := *s
	rq := &n.procs[p].req
	switch rq.phase {
	case mSent:
		if m.land(&n, rq.seq, rq.rec) {
			rq.phase, rq.since, rq.landed = mWon, n.procs[p].lookDate, 0
			rq.isTrue = n.slots[rq.seq].isTrue
			m.emit(&n, "wins its slot at the store", p)
		} else {
			rq.phase = mExists
			m.emit(&n, "finds its slot taken at the store", p)
		}
		return
	case mWon:
		m.won(s, p)
	case mExists:
		m.exists(s, p)
	case mCheck:
		m.checkNow(s, p)
	}
	if s.left.losses > 0 && (rq.phase == mWon || rq.phase == mExists) {
		n = *s
		n.left.losses--
		n.procs[p].req.phase = mSent
		n.procs[p].req.since, n.procs[p].req.landed, n.procs[p].req.isTrue = 0, 0, false
		m.emit(&n, "does not get the answer", p)
	}
}

// won takes in the answer that the slot is ours.
func (m *model) won(s *mstate, p int) {
	n := *s
	m.learned(&n, p, n.procs[p].req.since)
	m.emit(&n, "gets the answer that it won", p)
}

func (m *model) learned(n *mstate, p int, since uint8) {
	pr := &n.procs[p]
	last := look{boot: -units(pr.lookBoot), date: date(since)}
	if pr.noDate {
		last.date = time.Time{}
	}
	if m.cfg.rules.needsCheck(last, look{date: date(0)}, mLease) {
		pr.req.phase = mCheck
		return
	}
	m.accept(n, p)
}

// exists reads back whose record took the slot.
func (m *model) exists(s *mstate, p int) {
	n := *s
	pr := &n.procs[p]
	rq := &pr.req
	sl := n.slots[rq.seq]
	if sl.rec.id == 0 || !m.cfg.rules.ours(sl.rec, rq.rec) {
		m.lost(s, p, "finds another record in its slot")
		return
	}
	rq.isTrue = sl.isTrue
	if m.cfg.dates {
		rq.landed = min(sl.age, mStale)
	}
	m.learned(&n, p, pr.lookDate)
	m.emit(&n, "finds its own record in its slot", p)
}

func (m *model) checkNow(s *mstate, p int) {
	n := *s
	rq := &n.procs[p].req
	var below hash
	found := rq.seq > 1 && n.slots[rq.seq-1].rec.id != 0
	if found {
		below = mhash(n.slots[rq.seq-1].rec.id)
	}
	above := false
	for q := rq.seq + 1; q < mSlots; q++ {
		above = above || n.slots[q].rec.id != 0
	}
	if !m.cfg.rules.checkPasses(Seq(rq.seq), mhash(rq.rec.prev), below, found, above) {
		m.lost(s, p, "finds that the log moved on")
		return
	}
	m.accept(&n, p)
	m.emit(&n, "checks its late append", p)
}

// lost ends an owner; a claimant reads on.
func (m *model) lost(s *mstate, p int, what string) {
	n := *s
	if n.procs[p].phase == mOwner {
		n.procs[p] = mproc{}
		m.emit(&n, what+": fenced", p)
		return
	}
	m.start(s, p, what)
}

// accept counts the append: from here on it is acknowledged.
func (m *model) accept(n *mstate, p int) {
	pr := &n.procs[p]
	rq := pr.req
	if !rq.isTrue && !n.rolled {
		m.violate("%s %d of process %d is acknowledged and is not in the log", rq.rec.kind, rq.seq, p)
	}
	pr.lookBoot, pr.lookDate, pr.noDate = rq.start, rq.landed, false
	pr.head, pr.headID = rq.seq, rq.rec.id
	pr.req = mreq{}
	switch rq.rec.kind {
	case kindClaim:
		m.opened(n, p, rq.rec)
	case kindRelease:
		*pr = mproc{}
	case kindRenew:
		d := &n.dirs[p]
		mem := d.memory()
		if pr.adopted {
			mem = mem.adopt(mark{Seq(pr.head), mhash(pr.headID)})
		}
		mem.seen = max(mem.seen, Seq(pr.head))
		d.set(m.forget(mem))
	}
}

// opened is the invariant on starts: a directory is used as it stands only if nothing is missing.
func (m *model) opened(n *mstate, p int, r mrec) {
	pr := &n.procs[p]
	pr.phase, pr.epoch, pr.atOnce, pr.waited = mOwner, r.epoch, false, 0
	if pr.wins && !pr.surprised && !n.dirs[p].complete {
		m.violate("the directory of process %d wins and lacks what the log says", p)
	}
}
