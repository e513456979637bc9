package fence

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// logState is the volume at one record of the log, with what the owner needs beside State. It is
// changed only by apply, record by record; whoever holds it guards it.
type logState struct {
	seq   Seq // of the newest record applied
	hash  hash
	epoch Epoch

	claimSeq Seq
	claim    claimInfo // of the newest Claim
	released bool      // the newest record is a Release

	lsn    uint64
	tables map[string]Table
	meta   map[string][]byte // append-only beyond each length: a snapshot shares the bytes below
	ships  []ShipRef

	live   map[string]int           // object -> tables and Ships that name it
	bodies []bodyAt                 // objects of Commits and Bases that a reader still needs, ascending
	trash  map[string]time.Duration // object -> boot time at which it was last named

	base        Seq   // the newest Base
	asOf        Seq   // the record that it stands for
	baseBytes   int64 // of its body
	records     int   // after asOf
	commitBytes int64 // of Commit bodies after asOf
	shipBytes   int64 // of Ships since the last Commit
}

type bodyAt struct {
	seq    Seq
	object string
}

func newLogState() *logState {
	return &logState{
		tables: map[string]Table{},
		meta:   map[string][]byte{},
		live:   map[string]int{},
		trash:  map[string]time.Duration{},
	}
}

// covered returns the highest LSN that the log holds.
func (s *logState) covered() uint64 {
	if n := len(s.ships); n > 0 {
		return max(s.lsn, s.ships[n-1].Last)
	}
	return s.lsn
}

// snapshot returns what apply will not change.
func (s *logState) snapshot() *State {
	out := &State{
		Seq:    s.seq,
		LSN:    s.lsn,
		Tables: maps.Clone(s.tables),
		Meta:   make(map[string][]byte, len(s.meta)),
		Ships:  slices.Clone(s.ships),
		bodies: make(map[string]struct{}, len(s.bodies)),
	}
	for name, data := range s.meta {
		out.Meta[name] = data[:len(data):len(data)]
	}
	for _, b := range s.bodies {
		out.bodies[b.object] = struct{}{}
	}
	return out
}

// toBase returns what a Base that stands for the newest record says. Bodies that such a Base
// makes needless are among its deletions.
func (s *logState) toBase() *baseBody {
	b := &baseBody{
		lsn:      s.lsn,
		claimSeq: s.claimSeq,
		claim:    s.claim,
		tables:   sortedTables(s.tables),
		ships:    slices.Clone(s.ships),
	}
	for _, name := range slices.Sorted(maps.Keys(s.meta)) {
		data := s.meta[name]
		b.meta = append(b.meta, metaFile{name, data[:len(data):len(data)]})
	}
	for o := range s.trash {
		if s.live[o] == 0 {
			b.trash = append(b.trash, o)
		}
	}
	for _, at := range s.bodies {
		b.trash = append(b.trash, at.object)
	}
	slices.Sort(b.trash)
	b.trash = slices.Compact(b.trash)
	return b
}

// fromBase returns the state that a Base stands for. seq, hash and epoch are those of that record.
func fromBase(b *baseBody, now time.Duration) *logState {
	s := newLogState()
	s.lsn, s.claimSeq, s.claim = b.lsn, b.claimSeq, b.claim
	for _, t := range b.tables {
		s.addTable(t, now)
	}
	for _, m := range b.meta {
		s.meta[m.name] = m.data[:len(m.data):len(m.data)]
	}
	for _, sh := range b.ships {
		s.addShip(sh)
		s.shipBytes += sh.body.size
	}
	for _, o := range b.trash {
		if s.live[o] == 0 {
			s.trash[o] = now
		}
	}
	return s
}

// applied is a record on its way into the state.
type applied struct {
	seq    Seq
	hash   hash
	rec    *record
	commit *Commit // of a Commit
}

// apply moves s to the record's state. On an error, which means that no owner wrote this record,
// s is unchanged.
func (s *logState) apply(a applied, now time.Duration) error {
	r := a.rec
	if a.seq != s.seq+1 || r.prev != s.hash || r.epoch < s.epoch {
		return fmt.Errorf("%w: %s does not follow record %d of epoch %d", ErrCorrupt, logKey(a.seq), s.seq, s.epoch)
	}
	if err := s.applyKind(a, now); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, logKey(a.seq), err)
	}
	s.seq, s.hash, s.epoch = a.seq, a.hash, r.epoch
	s.released = r.kind == kindRelease
	s.records++
	return nil
}

func (s *logState) applyKind(a applied, now time.Duration) error {
	r := a.rec
	if r.kind != kindClaim && r.epoch != s.epoch {
		return fmt.Errorf("%s of epoch %d without its claim", r.kind, r.epoch)
	}
	switch r.kind {
	case kindClaim:
		if r.epoch <= s.epoch {
			return fmt.Errorf("claim of epoch %d after epoch %d", r.epoch, s.epoch)
		}
		s.claimSeq, s.claim = a.seq, r.claim
	case kindShip:
		if r.first != s.covered()+1 {
			return fmt.Errorf("ship of %d to %d after %d", r.first, r.last, s.covered())
		}
		s.addShip(ShipRef{Seq: a.seq, First: r.first, Last: r.last, hash: a.hash, body: r.body.ref()})
		s.shipBytes += r.body.size
	case kindCommit:
		if err := s.checkCommit(a.commit); err != nil {
			return err
		}
		s.applyCommit(a, now)
	case kindBase:
		if r.asOf >= a.seq || r.asOf < s.asOf {
			return fmt.Errorf("base stands for record %d, the one before it for %d", r.asOf, s.asOf)
		}
		s.applyBase(a, now)
	case kindPin, kindUnpin:
		return errors.New("snapshots are not known to this program")
	}
	return nil
}

// checkCommit refuses a Commit that does not fit the state.
func (s *logState) checkCommit(c *Commit) error {
	if c.LSN < s.lsn {
		return fmt.Errorf("commit of lsn %d after lsn %d", c.LSN, s.lsn)
	}
	lengths := map[string]int64{}
	for _, d := range c.Meta {
		n, ok := lengths[d.Name]
		if !ok {
			n = int64(len(s.meta[d.Name]))
		}
		if d.Offset < 0 || d.Offset > n {
			return fmt.Errorf("meta file %q has %d bytes, the delta begins at %d", d.Name, n, d.Offset)
		}
		lengths[d.Name] = d.Offset + int64(len(d.Data))
	}
	return nil
}

func (s *logState) applyCommit(a applied, now time.Duration) {
	c := a.commit
	s.lsn = c.LSN
	for _, name := range c.Dropped {
		s.dropTable(name, now)
	}
	for _, t := range c.Added {
		s.addTable(t, now)
	}
	for _, d := range c.Meta {
		if d.Removed {
			delete(s.meta, d.Name)
			continue
		}
		old := s.meta[d.Name]
		if d.Offset < int64(len(old)) {
			old = old[:d.Offset:d.Offset] // snapshots share what lies above
		}
		data := append(old, d.Data...)
		if data == nil {
			data = []byte{}
		}
		s.meta[d.Name] = data
	}
	for len(s.ships) > 0 && s.ships[0].Last <= c.LSN {
		s.unname(s.ships[0].body.object, now)
		s.ships = s.ships[1:]
	}
	s.shipBytes = 0
	s.commitBytes += a.rec.body.size
	s.addBody(a)
}

// applyBase forgets what a Base makes needless. The state itself does not change.
func (s *logState) applyBase(a applied, now time.Duration) {
	s.asOf = a.rec.asOf
	s.base = a.seq
	s.baseBytes = a.rec.body.size
	s.records = int(a.seq - s.asOf - 1)
	s.commitBytes = 0
	keep := s.bodies[:0]
	for _, b := range s.bodies {
		if b.seq <= s.asOf {
			s.trash[b.object] = now
		} else {
			keep = append(keep, b)
		}
	}
	s.bodies = keep
	s.addBody(a)
}

func (s *logState) addBody(a applied) {
	if o := a.rec.body.object; o != "" {
		s.bodies = append(s.bodies, bodyAt{a.seq, o})
		delete(s.trash, o)
	}
}

func (s *logState) addTable(t Table, now time.Duration) {
	s.name(t.Object)
	s.dropTable(t.Name, now)
	s.tables[t.Name] = t
}

func (s *logState) dropTable(name string, now time.Duration) {
	if t, ok := s.tables[name]; ok {
		delete(s.tables, name)
		s.unname(t.Object, now)
	}
}

func (s *logState) addShip(sh ShipRef) {
	s.ships = append(s.ships, sh)
	if sh.body.object != "" {
		s.name(sh.body.object)
	}
}

func (s *logState) name(object string) {
	s.live[object]++
	delete(s.trash, object)
}

func (s *logState) unname(object string, now time.Duration) {
	if object == "" {
		return
	}
	if s.live[object]--; s.live[object] <= 0 {
		delete(s.live, object)
		s.trash[object] = now
	}
}

// ref returns b without an inline body's bytes.
func (b bodyRef) ref() bodyRef {
	b.inline = nil
	return b
}
