package fence

import (
	"fmt"
	"slices"
	"time"
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
	budget   mbudget
	rules    mrules
}

// model explores one configuration.
type model struct {
	cfg   mconfig
	out   []mstep
	wrong string
}

type mstep struct {
	who   int // process, or mWorld
	what  string
	state mstate
}

const mWorld = -1

func (m *model) violate(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, args...)
	}
}

// emit adds a successor, which who brings about.
func (m *model) emit(s *mstate, what string, who int) {
	m.check(s)
	m.out = append(m.out, mstep{who, what, *s})
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
