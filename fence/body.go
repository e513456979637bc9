package fence

import (
	"fmt"
	"math"
	"slices"

	"zerofs/tiers/seal"
)

// What the bodies of Commit and Base hold; see the package documentation for the bytes. The body
// of a Ship is the journal's.

// baseBody is everything needed to forget the records up to and with the one a Base stands for.
type baseBody struct {
	lsn      uint64
	claimSeq Seq // of the newest Claim
	claim    claimInfo
	tables   []Table // ascending by name
	meta     []metaFile
	ships    []ShipRef // not covered, ascending
	trash    []string  // objects that no state names any more, ascending
}

type metaFile struct {
	name string
	data []byte
}

const (
	tableMin = 4 + 4 + 8 + 16     // bytes of an encoded table, at least
	shipMin  = 8 + 8 + 8 + 32 + 1 // of a ship
	deltaMin = 4 + 8 + 1 + 4      // of a delta
	metaMin  = 4 + 4              // of a meta file
)

func encodeCommit(c *Commit) []byte {
	n := 16
	for _, d := range c.Meta {
		n += deltaMin + len(d.Name) + len(d.Data)
	}
	b := make([]byte, 0, n+len(c.Added)*160+len(c.Dropped)*32)
	b = putU32(b, uint32(len(c.Meta)))
	for _, d := range c.Meta {
		b = putString(b, d.Name)
		b = putU64(b, uint64(d.Offset))
		b = putBool(b, d.Removed)
		b = putBytes(b, d.Data)
	}
	b = putU32(b, uint32(len(c.Added)))
	for _, t := range c.Added {
		b = putTable(b, t)
	}
	b = putU32(b, uint32(len(c.Dropped)))
	for _, name := range c.Dropped {
		b = putString(b, name)
	}
	return b
}

func decodeCommit(lsn uint64, body []byte) (*Commit, error) {
	d := &reader{b: body}
	c := &Commit{LSN: lsn}
	for range d.count(deltaMin) {
		m := MetaDelta{Name: d.name(), Offset: d.size(), Removed: d.bool(), Data: d.bytes()}
		if m.Removed && (len(m.Data) > 0 || m.Offset != 0) {
			d.fail(fmt.Errorf("meta file %q is removed and has data", m.Name))
		}
		c.Meta = append(c.Meta, m)
	}
	for range d.count(tableMin) {
		c.Added = append(c.Added, d.table())
	}
	for range d.count(4) {
		c.Dropped = append(c.Dropped, d.name())
	}
	if err := d.done(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return c, nil
}

func encodeBase(s *baseBody) []byte {
	n := 256
	for _, m := range s.meta {
		n += metaMin + len(m.name) + len(m.data)
	}
	b := make([]byte, 0, n+len(s.tables)*160+len(s.ships)*160+len(s.trash)*64)
	b = putU64(b, s.lsn)
	b = putU64(b, uint64(s.claimSeq))
	b = putClaim(b, s.claim)
	b = putU32(b, uint32(len(s.tables)))
	for _, t := range s.tables {
		b = putTable(b, t)
	}
	b = putU32(b, uint32(len(s.meta)))
	for _, m := range s.meta {
		b = putString(b, m.name)
		b = putBytes(b, m.data)
	}
	b = putU32(b, uint32(len(s.ships)))
	for _, sh := range s.ships {
		b = putShip(b, sh)
	}
	b = putU32(b, uint32(len(s.trash)))
	for _, o := range s.trash {
		b = putString(b, o)
	}
	return b
}

func decodeBase(body []byte) (*baseBody, error) {
	d := &reader{b: body}
	s := &baseBody{lsn: d.u64(), claimSeq: Seq(d.u64()), claim: d.claim()}
	for range d.count(tableMin) {
		s.tables = append(s.tables, d.table())
	}
	for range d.count(metaMin) {
		s.meta = append(s.meta, metaFile{name: d.name(), data: d.bytes()})
	}
	for range d.count(shipMin) {
		s.ships = append(s.ships, d.ship())
	}
	for range d.count(4) {
		s.trash = append(s.trash, d.name())
	}
	if err := d.done(); err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	return s, s.check()
}

// check refuses what no owner writes: names out of order or twice.
func (s *baseBody) check() error {
	switch {
	case !ascending(s.tables, func(a, b Table) bool { return a.Name < b.Name }):
		return fmt.Errorf("base: tables are out of order")
	case !ascending(s.meta, func(a, b metaFile) bool { return a.name < b.name }):
		return fmt.Errorf("base: meta files are out of order")
	case !ascending(s.ships, func(a, b ShipRef) bool { return a.Seq < b.Seq && a.Last < b.First }):
		return fmt.Errorf("base: ships are out of order")
	case !ascending(s.trash, func(a, b string) bool { return a < b }):
		return fmt.Errorf("base: deletions are out of order")
	}
	return nil
}

func ascending[T any](s []T, less func(a, b T) bool) bool {
	for i := 1; i < len(s); i++ {
		if !less(s[i-1], s[i]) {
			return false
		}
	}
	return true
}

func putTable(b []byte, t Table) []byte {
	b = putString(b, t.Name)
	b = putString(b, t.Object)
	b = putU64(b, uint64(t.Size))
	return append(b, t.ID[:]...)
}

func (r *reader) table() Table {
	return Table{Name: r.name(), Object: r.name(), Size: r.size(), ID: seal.FileID(r.array16())}
}

// size reads a number of bytes, which fits an int64.
func (r *reader) size() int64 {
	v := r.u64()
	if v > math.MaxInt64 {
		r.fail(fmt.Errorf("size %d", v))
		return 0
	}
	return int64(v)
}

func putShip(b []byte, s ShipRef) []byte {
	b = putU64(b, uint64(s.Seq))
	b = putU64(b, s.First)
	b = putU64(b, s.Last)
	b = append(b, s.hash[:]...)
	b = putBool(b, s.body.object != "")
	if s.body.object != "" {
		return putRef(b, s.body)
	}
	return putU64(b, uint64(s.body.size))
}

func (r *reader) ship() ShipRef {
	s := ShipRef{Seq: Seq(r.u64()), First: r.u64(), Last: r.u64(), hash: r.array32()}
	if r.bool() {
		s.body = r.ref()
	} else {
		s.body.size = r.size()
	}
	if r.err == nil && (s.Seq == 0 || s.First == 0 || s.Last < s.First || s.body.size > bodyMax) {
		r.fail(fmt.Errorf("ship of %d to %d at %d", s.First, s.Last, s.Seq))
	}
	return s
}

// sortedTables returns the tables in the order that a Base has them.
func sortedTables(m map[string]Table) []Table {
	out := make([]Table, 0, len(m))
	for _, t := range m {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Table) int { return compare(a.Name, b.Name) })
	return out
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
