package fence

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"
	"unsafe"
)

// The model of the protocol: one store, two hosts each with a directory and a process, a network
// that loses answers and delivers puts late, and clocks. Every decision is taken by the functions of
// rules.go, through mrules so that a test can weaken one and see that the model notices. Everything
// else here is what the world does, and ghosts that know the truth.
//
// A state holds ages in place of times, cut off above every threshold, so that there are finitely
// many; record ids (which stand for nonces and hashes) are renamed in the order of appearance.

const (
	// The unit of time is a lease: at age 0 it holds and no check is needed, from 1 on it is over and
	// a check is needed, a claimant's wait is over at 2, a record is old enough to be trimmed at 3.
	mUnit      = time.Duration(100)
	mLease     = mUnit
	mRetention = 3 // units
	mWaited    = 2
	mStale     = 1
	mSlots     = 7 // seqs 1..mSlots-1
	mPending   = 5
)

type mrec struct {
	id, prev uint8
	kind     kind
	epoch    uint8
	author   uint8 // the host whose epoch it is
	holders  uint8 // ghost: the directories that contain what it says
}

type mslot struct {
	rec    mrec // id zero: empty
	isTrue bool // ghost: it is part of the log, not in a slot that was trimmed
	age    uint8
}

type mphase uint8

const (
	mDown mphase = iota
	mWaiting
	mClaiming
	mOwner
)

type mreqPhase uint8

const (
	mNone mreqPhase = iota
	mSent
	mWon
	mExists
	mCheck
)

// mreq is the one append that a process has under way.
type mreq struct {
	phase  mreqPhase
	seq    uint8
	rec    mrec
	start  uint8 // age by the process's clock
	since  uint8 // from the look to the store's answer, by the store's clock
	landed uint8 // age of the landing, by the store's clock
	isTrue bool  // ghost: the slot that it won was the log's next one
}

type mproc struct {
	phase              mphase
	epoch              uint8
	lookBoot, lookDate uint8 // ages
	noDate             bool
	head, headID       uint8
	waited             uint8 // age by the process's clock
	atOnce, wins       bool
	adopted, stopped   bool
	ownerEpoch         uint8 // of the head that a claimant read
	surprised          bool  // ghost: the store was rolled back after the last read
	req                mreq
}

type mintent struct{ seq, id uint8 }

// mdir is a data directory.
type mdir struct {
	seen, adopted, adoptedID uint8
	pending                  [mPending]mintent
	n                        uint8
	complete                 bool // ghost: it contains all that the true log says
}

type mlate struct {
	seq uint8
	rec mrec
	age uint8
}

type mbudget struct{ crashes, lates, losses, clones, rollbacks, freezes uint8 }

type mstate struct {
	slots    [mSlots]mslot
	trueHead uint8 // ghost
	rolled   bool  // ghost: the store was rolled back
	frozen   bool  // ghost: a process's clock stood still for a while
	procs    [2]mproc
	dirs     [2]mdir
	late     [2]mlate
	left     mbudget
}

// mrules are the decisions.
type mrules struct {
	needsCheck     func(last, now look, lease time.Duration) bool
	checkPasses    func(seq Seq, prev, below hash, found, above bool) bool
	localWins      func(below mark, run []entry, m memory) bool
	mayClaimAtOnce func(run []entry, m memory, owner Epoch, claimant, me Identity) bool
	waitOver       func(since, now, lease time.Duration) bool
	leaseHolds     func(started, now, lease time.Duration) bool
	ours           func(got, sent mrec) bool
	stopsFirst     bool // an owner answers nothing once it releases
	lookAtCheck    bool // a check counts as a look
	trimUnderBase  bool // only what lies below a Base is deleted
	keepSeen       bool // the highest sequence number is remembered
}

func realRules() mrules {
	return mrules{
		needsCheck: needsCheck, checkPasses: checkPasses, localWins: localWins, mayClaimAtOnce: mayClaimAtOnce,
		waitOver: waitOver, leaseHolds: leaseHolds,
		ours:       func(got, sent mrec) bool { return got.id == sent.id },
		stopsFirst: true, trimUnderBase: true, keepSeen: true,
	}
}

type mconfig struct {
	name     string
	maxSeq   uint8
	maxEpoch uint8
	ships    bool
	release  bool
	bases    bool
	large    bool // explored on demand only
	mute     bool // owners do not renew, which spares states
	lineage  bool // directories remember, crash, are cloned
	trim     bool // records grow old and are trimmed
	dates    bool // the store's clock is told apart from the processes'
	ordered  bool // trims in strictly ascending order
	budget   mbudget
	rules    mrules
}

// model explores one configuration.
type model struct {
	cfg   mconfig
	out   []mstep
	from  *mstate
	wrong string
}

type mstep struct {
	what  string
	state mstate
}

func (m *model) violate(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, args...)
	}
}

// emit adds a successor.
func (m *model) emit(s *mstate, format string, p int) {
	m.check(s)
	m.out = append(m.out, mstep{format, *s})
	_ = p
}

// check is the invariant on states: no two owners whose answers both count.
func (m *model) check(s *mstate) {
	if s.rolled || s.frozen {
		return // nothing timed can be promised to a running owner then
	}
	if m.valid(s, 0) && m.valid(s, 1) {
		m.violate("both processes answer requests")
	}
}

func (m *model) valid(s *mstate, p int) bool {
	pr := &s.procs[p]
	if pr.phase != mOwner || pr.stopped {
		return false
	}
	return m.cfg.rules.leaseHolds(-units(pr.lookBoot), 0, mLease) // the look is the append that renewed the lease
}

func units(age uint8) time.Duration { return time.Duration(age) * mUnit }

var mEpochDate = time.Unix(1e9, 0)

func date(age uint8) time.Time { return mEpochDate.Add(-units(age)) }

func midentity(p int) Identity { return Identity{Dir: [16]byte{1}, Ino: uint64(p), Local: true} }

func mhash(id uint8) hash   { return hash{id} }
func mnonce(id uint8) nonce { return nonce{id} }

func (d *mdir) memory() memory {
	m := memory{seen: Seq(d.seen)}
	if d.adopted != 0 {
		m.adopted = mark{Seq(d.adopted), mhash(d.adoptedID)}
	}
	for _, i := range d.pending[:d.n] {
		m.pending = append(m.pending, intent{Seq(i.seq), mnonce(i.id)})
	}
	return m
}

func (d *mdir) set(m memory) {
	d.seen, d.adopted, d.adoptedID = uint8(m.seen), uint8(m.adopted.seq), m.adopted.hash[0]
	d.pending, d.n = [mPending]mintent{}, uint8(len(m.pending))
	for i, p := range m.pending {
		d.pending[i] = mintent{uint8(p.seq), p.nonce[0]}
	}
}

// mview is what a read found.
type mview struct {
	below mark
	run   []entry
	err   string
}

func (v *mview) head() (seq, id uint8) {
	if len(v.run) == 0 {
		return 0, 0
	}
	e := v.run[len(v.run)-1]
	return uint8(e.seq), e.hash[0]
}

func (s *mstate) entry(q uint8) entry {
	r := s.slots[q].rec
	return entry{Seq(q), r.kind, Epoch(r.epoch), mnonce(r.id), mhash(r.prev), mhash(r.id)}
}

// read is what logStore.read does, with the same rules. It fails only when the store was rolled back.
func (m *model) read(s *mstate, p int) mview {
	v := m.readRun(s, p)
	if v.err != "" && !s.rolled {
		m.violate("process %d cannot read the log: %s", p, v.err)
	}
	return v
}

func (m *model) readRun(s *mstate, p int) mview {
	var seqs []Seq
	for q := 1; q < mSlots; q++ {
		if s.slots[q].rec.id != 0 {
			seqs = append(seqs, Seq(q))
		}
	}
	low, high := highestRun(seqs)
	if err := rolledBack(high, Seq(s.dirs[p].seen)); err != nil {
		return mview{err: "head below what was seen"}
	}
	var v mview
	floor := Seq(1)
	based := false
	for q := high; q >= floor && high > 0; q-- {
		if q < low || len(v.run) > 0 && !follows(mhash(s.slots[q].rec.id), v.run[len(v.run)-1]) {
			return mview{err: "gap"}
		}
		e := s.entry(uint8(q))
		v.run = append(v.run, e)
		if e.kind == kindBase && !based {
			based, floor = true, q // stands for the record below it
		}
	}
	slices.Reverse(v.run)
	if based {
		v.below = mark{v.run[0].seq - 1, v.run[0].prev}
	}
	m.checkRead(s, &v)
	return v
}

// checkRead is the invariant on reads: what is found is the end of the true log.
func (m *model) checkRead(s *mstate, v *mview) {
	for _, e := range v.run {
		if !s.slots[e.seq].isTrue {
			m.violate("a read takes stray record %d for the log's", e.seq)
		}
	}
	if seq, _ := v.head(); seq != s.trueHead && !s.rolled {
		m.violate("a read takes %d for the head, it is %d", seq, s.trueHead)
	}
}

// land makes a put happen; it reports whether the slot was free.
func (m *model) land(s *mstate, seq uint8, r mrec) bool {
	sl := &s.slots[seq]
	if sl.rec.id != 0 {
		return false
	}
	*sl = mslot{rec: r}
	prev := uint8(0)
	if s.trueHead > 0 {
		prev = s.slots[s.trueHead].rec.id
	}
	if seq != s.trueHead+1 {
		return true // a slot that was trimmed, or lies beyond a roll-back
	}
	if r.prev != prev {
		if !s.rolled {
			m.violate("a record that does not follow the head took its place")
		}
		return true
	}
	sl.isTrue = true
	s.trueHead = seq
	for d := range s.dirs {
		if r.kind == kindShip && r.holders&(1<<d) == 0 {
			s.dirs[d].complete = false
		}
	}
	return true
}

// successors fills m.out with all that may happen next.
func (m *model) successors(s *mstate) {
	m.out, m.from = m.out[:0], s
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
	if m.cfg.rules.lookAtCheck {
		rq.start, rq.landed = 0, 0
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
		m.emit(&n, "a late put arrives", i)
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
			if s.slots[q].rec.id != 0 && m.cfg.ordered {
				return
			}
			continue
		}
		n := *s
		n.slots[q] = mslot{}
		m.emit(&n, "a record is trimmed", int(q))
		if m.cfg.ordered {
			return
		}
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
		m.emit(&n, "the store is rolled back", 0)
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
		m.emit(&n, "time passes", 0)
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

// result is what exploring found.
type mresult struct {
	states, steps int
	wrong         string
	trace         []string
}

var mSeed = maphash.MakeSeed()

// bytes returns s as it lies in memory: every field is one byte, so that there is no padding.
func (s *mstate) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s))
}

func (s *mstate) key() [2]uint64 {
	return [2]uint64{maphash.Bytes(mSeed, s.bytes()), maphash.Bytes(mSeed2, s.bytes())}
}

var mSeed2 = maphash.MakeSeed()

type mparent struct {
	from [2]uint64
	what string
}

// explore visits every state that can be reached, nearest first, until one is wrong or more than
// limit were seen.
func (cfg mconfig) explore(limit int, trace bool) mresult {
	m := &model{cfg: cfg}
	first := mstate{left: cfg.budget}
	seen := map[[2]uint64]struct{}{first.key(): {}}
	parents := map[[2]uint64]mparent{}
	level := []mstate{first}
	res := mresult{states: 1}
	for len(level) > 0 {
		var next []mstate
		for i := range level {
			m.successors(&level[i])
			for k := range m.out {
				st := &m.out[k]
				res.steps++
				st.state.canonical()
				key := st.state.key()
				if _, ok := seen[key]; !ok {
					seen[key] = struct{}{}
					if trace {
						parents[key] = mparent{level[i].key(), st.what}
					}
					next = append(next, st.state)
				}
			}
			if m.wrong != "" {
				res.wrong = m.wrong
				res.trace = path(parents, level[i].key())
				return res
			}
		}
		level = next
		if res.states = len(seen); res.states > limit {
			res.wrong = fmt.Sprintf("more than %d states", limit)
			return res
		}
	}
	return res
}

func path(parents map[[2]uint64]mparent, key [2]uint64) []string {
	var steps []string
	for {
		p, ok := parents[key]
		if !ok {
			slices.Reverse(steps)
			return steps
		}
		steps = append(steps, p.what)
		key = p.from
	}
}

func (r mresult) String() string {
	return fmt.Sprintf("%d states, %d steps; %s\n  %s", r.states, r.steps, r.wrong, strings.Join(r.trace, "\n  "))
}
