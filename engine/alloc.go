package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Which chunks of a file the tree holds must be known to count them when one is written, without a
// read. An inode says up to which chunk the file is dense: in almost all files, which are written from the
// beginning to the end, those and no others are there. Where that is not so, a group of chunks has a record,
// a bitmap, which counts instead. A record is read once before a write that falls into its group; the
// part of a file that has none is written without a look. Block devices have neither; theirs are
// counted now and then.

const (
	groupChunks = 4096
	groupOpMax  = groupKeyLen + groupChunks/8 + opOverhead
	groupsKept  = 64   // of a node, in memory
	groupsMax   = 1024 // that one change of a file's middle may cover
)

// group is a bitmap of the chunks that are there.
type group [groupChunks / 64]uint64

func (g *group) count() (n int64) {
	for _, w := range g {
		n += int64(bits.OnesCount64(w))
	}
	return n
}

func (g *group) has(i uint64) bool { return g[i/64]&(1<<(i%64)) != 0 }

// put sets or clears from to before to, which lie within the group.
func (g *group) put(from, to uint64, set bool) {
	for i := from; i < to; {
		k := min(64-i%64, to-i)
		mask := (^uint64(0) >> (64 - k)) << (i % 64)
		if set {
			g[i/64] |= mask
		} else {
			g[i/64] &^= mask
		}
		i += k
	}
}

func appendGroup(dst []byte, g *group) []byte {
	start := len(dst)
	for _, w := range g {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	for len(dst) > start && dst[len(dst)-1] == 0 {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func decodeGroup(b []byte) (*group, error) {
	if len(b) > groupChunks/8 || len(b) > 0 && b[len(b)-1] == 0 {
		return nil, fmt.Errorf("%w: allocation record of %d bytes", ErrCorrupt, len(b))
	}
	g := new(group)
	for i, v := range b {
		g[i/8] |= uint64(v) << (i % 8 * 8)
	}
	return g, nil
}

// allocs are the allocation records of a node in memory.
type allocs struct {
	mu      sync.Mutex        // taken after meta, before the commit lock
	version uint64            // counts changes of records; guarded by mu
	groups  map[uint64]*group // those that are known, nil where there is none; guarded by mu
	reads   []*groupRead      // under way; guarded by mu
}

// groupRead is a reading of groups first to last, and what became of them since it began: who writes one group all
// the time must not keep others from reading another.
type groupRead struct {
	first, last uint64
	fresh       map[uint64]*group
	cut         bool // records from somewhere on went
}

// keep remembers a record, or that there is none.
func (s *allocs) keep(i uint64, g *group) {
	if s.groups == nil || len(s.groups) >= groupsKept {
		s.groups = make(map[uint64]*group)
	}
	s.groups[i] = g
}

// groupView is what was read of a file's records: those of groups first to last.
type groupView struct {
	version     uint64
	first, last uint64
	groups      map[uint64]*group
}

// covers reports whether the view tells of groups first to last as they are at version. The file may have
// grown past it, since its size was looked at before.
func (v *groupView) covers(version, first, last uint64) bool {
	return v != nil && v.version == version && v.first <= first && last <= v.last
}

// viewGroups reads, with no lock held, the records of the groups of chunks first to last. Nil: the file has none,
// or they are all known.
func (e *Engine) viewGroups(ctx context.Context, n *node, first, last ChunkIndex) (*groupView, error) {
	a, b := uint64(first)/groupChunks, uint64(last)/groupChunks
	for {
		r := n.allocs.read(n, a, b)
		if r == nil {
			return nil, nil
		}
		v := &groupView{first: a, last: b, groups: map[uint64]*group{}}
		err := e.scanGroups(ctx, e.db, n.ino, a, b, func(i uint64, g *group) bool { v.groups[i] = g; return true })
		if n.allocs.learn(r, v, err == nil) || err != nil {
			return v, err
		}
	}
}

// read begins to read groups a to b, unless they are known. learn ends it.
func (s *allocs) read(n *node, a, b uint64) *groupRead {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.attr.Load().Flags&flagGroups == 0 || s.known(a, b) {
		return nil
	}
	r := &groupRead{first: a, last: b, fresh: map[uint64]*group{}}
	s.reads = append(s.reads, r)
	return r
}

func (s *allocs) known(a, b uint64) bool {
	if b-a >= groupsKept {
		return false
	}
	for i := a; i <= b; i++ {
		if _, ok := s.groups[i]; !ok {
			return false
		}
	}
	return true
}

// learn ends a reading and keeps what was read, brought up to date, unless it is to be done again.
func (s *allocs) learn(r *groupRead, v *groupView, ok bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads = slices.DeleteFunc(s.reads, func(o *groupRead) bool { return o == r })
	if !ok || r.cut {
		return false
	}
	for i, g := range r.fresh {
		if g == nil {
			delete(v.groups, i)
		} else {
			v.groups[i] = g
		}
	}
	v.version = s.version
	for i := r.first; r.last-r.first < groupsKept && i <= r.last; i++ {
		s.keep(i, v.groups[i])
	}
	return true
}

// scanGroups calls fn for the records of groups a to b, in order, while it returns true.
func (e *Engine) scanGroups(ctx context.Context, r pebble.Reader, ino Ino, a, b uint64, fn func(i uint64, g *group) bool) error {
	if err := e.guard.enter(); err != nil {
		return err
	}
	defer e.guard.exit()
	return scanIn(ctx, r, appendGroupKey(nil, ino, a), appendGroupKey(nil, ino, b+1), func(key, value []byte) (bool, error) {
		g, err := decodeGroup(value)
		if err != nil || len(key) != groupKeyLen {
			return false, fmt.Errorf("engine: inode %d: key %x: %w", ino, key, err)
		}
		return fn(binary.BigEndian.Uint64(key[inodeKeyLen:]), g), nil
	})
}

// mark is a run of chunks that a transaction sets or deletes, from first to before end.
type mark struct {
	first, end ChunkIndex
	set        bool
}

// mark notes what a transaction does to chunks of a file whose chunks are counted.
func (t *txn) mark(first, end ChunkIndex, set bool) {
	if !t.counted || first >= end {
		return
	}
	if k := len(t.marks); k > 0 && t.marks[k-1].end == first && t.marks[k-1].set == set {
		t.marks[k-1].end = end
		return
	}
	t.marks = append(t.marks, mark{first, end, set})
}

// allocation is what a transaction changes in the account of a file's chunks.
type allocation struct {
	n      *node // its allocs are locked; nil if nothing changes
	view   *groupView
	dense  uint64
	flags  uint32
	delta  int64 // chunks
	groups []groupRecord
	drop   uint64 // records from this one on go; 0 for all
}

type groupRecord struct {
	i uint64
	g *group // nil: the record goes
}

const dropNone = ^uint64(0)

// allocate adds what t's marks mean for the account. The chunks' stripes are held. chunks is how many the file has
// afterwards, if it shrinks. On success done must be called after the commit.
func (e *Engine) allocate(t *txn, n *node, view *groupView, shrink bool, chunks ChunkIndex) (allocation, error) {
	if len(t.marks) == 0 && !shrink {
		return allocation{}, nil
	}
	n.allocs.mu.Lock()
	a := n.attr.Load()
	al := allocation{n: n, view: view, dense: a.dense, flags: a.Flags, drop: dropNone}
	var err error
	if shrink && chunks == 0 {
		al.delta, al.dense, al.flags, al.drop = -int64(a.Blocks/uint64(e.opts.ChunkSize)), 0, a.Flags&^flagGroups, 0
	} else {
		if shrink && a.Flags&flagGroups != 0 {
			al.drop = (uint64(chunks) + groupChunks - 1) / groupChunks
		}
		for _, m := range t.marks {
			if err = al.add(m); err != nil {
				break
			}
		}
	}
	if err != nil || al.dense == a.dense && al.delta == 0 && len(al.groups) == 0 && (al.drop == dropNone || a.Flags&flagGroups == 0) {
		n.allocs.mu.Unlock()
		return allocation{}, err
	}
	al.write(t, n.ino, a.Flags&flagGroups != 0)
	t.use(usage{bytes: al.delta * int64(e.opts.ChunkSize)})
	return al, nil
}

// write adds the records to the transaction.
func (al *allocation) write(t *txn, ino Ino, had bool) {
	for i := range al.groups {
		r := &al.groups[i]
		if r.g != nil && r.g.count() == groupChunks && (r.i+1)*groupChunks <= al.dense {
			r.g = nil // dense says as much
		}
		key := appendGroupKey(nil, ino, r.i)
		if r.g == nil {
			t.delete(key)
		} else {
			t.set(key, appendGroup(nil, r.g))
			al.flags |= flagGroups
		}
	}
	if had && al.drop != dropNone {
		t.deleteGroups(ino, al.drop)
	}
}

// record returns a group's record, or nil if it has none.
func (al *allocation) record(i uint64) (*group, error) {
	for k := range al.groups {
		if al.groups[k].i == i {
			return al.groups[k].g, nil
		}
	}
	s := &al.n.allocs
	if al.n.attr.Load().Flags&flagGroups == 0 {
		return nil, nil
	}
	if g, ok := s.groups[i]; ok {
		return g, nil
	}
	if al.view.covers(s.version, i, i) {
		return al.view.groups[i], nil
	}
	return nil, errChanged
}

// add takes in a mark.
func (al *allocation) add(m mark) error {
	first, end := uint64(m.first), uint64(m.end)
	extends := m.set && first <= al.dense // the dense part grows, or is written
	cuts := !m.set && end >= al.dense     // the dense part becomes shorter, or is untouched
	stop := end
	if !m.set && al.drop != dropNone && al.drop*groupChunks < end {
		stop = al.drop * groupChunks
		if err := al.dropGroups(end); err != nil {
			return err
		}
	}
	for i := first / groupChunks; i*groupChunks < stop; i++ {
		g, err := al.record(i)
		if err != nil {
			return err
		}
		base := i * groupChunks
		from, to := max(first, base), min(stop, base+groupChunks)
		switch {
		case g == nil && extends:
			al.delta += int64(to - min(max(from, al.dense), to))
		case g == nil && cuts:
			al.delta -= int64(min(max(from, al.dense), to) - from)
		default:
			al.put(i, g, from-base, to-base, m.set)
		}
	}
	switch {
	case extends:
		al.dense = max(al.dense, end)
		return al.catchUp()
	case cuts:
		al.dense = min(al.dense, first)
	}
	return nil
}

// dropGroups takes off what the groups from drop on count, up to the end of the file at end. Only their records are
// looked at: a sparse file may have as many groups as there are numbers.
func (al *allocation) dropGroups(end uint64) error {
	s, first, last := &al.n.allocs, al.drop, (end-1)/groupChunks
	records := map[uint64]*group{}
	switch {
	case al.n.attr.Load().Flags&flagGroups == 0:
	case al.view.covers(s.version, first, last):
		records = al.view.groups
	case s.known(first, last):
		records = s.groups
	default:
		return errChanged
	}
	start := first * groupChunks
	al.delta -= int64(max(al.dense, start) - start)
	for i, g := range records {
		if i < first || g == nil {
			continue
		}
		base := i * groupChunks
		al.delta -= g.count() - int64(min(max(al.dense, base)-base, groupChunks))
	}
	return nil
}

// put changes bits of a group, which may have no record yet.
func (al *allocation) put(i uint64, old *group, from, to uint64, set bool) {
	g := new(group)
	if old != nil {
		*g = *old
	} else if base := i * groupChunks; al.dense > base {
		g.put(0, min(al.dense-base, groupChunks), true)
	}
	before := g.count()
	g.put(from, to, set)
	if g.count() == before {
		return
	}
	al.delta += g.count() - before
	for k := range al.groups {
		if al.groups[k].i == i {
			al.groups[k].g = g
			return
		}
	}
	al.groups = append(al.groups, groupRecord{i, g})
}

// catchUp moves the end of the dense part over chunks that a record says are there.
func (al *allocation) catchUp() error {
	for {
		i := al.dense / groupChunks
		g, err := al.record(i)
		if err == errChanged { // it is not known, which is no harm
			return nil
		}
		if err != nil || g == nil {
			return err
		}
		within := al.dense % groupChunks
		for within < groupChunks && g.has(within) {
			within++
		}
		al.dense = i*groupChunks + within
		if within < groupChunks {
			return nil
		}
	}
}

// apply changes the attributes, at commit.
func (al *allocation) apply(a *Attr, chunkSize int) {
	if al.n == nil {
		return
	}
	a.dense = al.dense
	a.Blocks = uint64(int64(a.Blocks) + al.delta*int64(chunkSize))
	a.Flags = a.Flags&^flagGroups | al.flags&flagGroups
}

// done ends it: the change was committed, or not.
func (al *allocation) done(ok bool) {
	if al.n == nil {
		return
	}
	s := &al.n.allocs
	defer s.mu.Unlock()
	if !ok {
		return
	}
	if len(al.groups) > 0 || al.drop != dropNone {
		s.version++
	}
	for i := range s.groups {
		if i >= al.drop {
			delete(s.groups, i)
		}
	}
	for _, r := range al.groups {
		s.keep(r.i, r.g)
		for _, read := range s.reads {
			if read.first <= r.i && r.i <= read.last {
				read.fresh[r.i] = r.g
			}
		}
	}
	if al.drop != dropNone {
		for _, read := range s.reads {
			read.cut = true
		}
	}
}

// absent reports whether a chunk, whose stripe is held, is known not to be there.
func (n *node) absent(view *groupView, i ChunkIndex) bool {
	a := n.attr.Load()
	if a.Flags&flagDevice != 0 {
		return false
	}
	n.allocs.mu.Lock()
	defer n.allocs.mu.Unlock()
	al := allocation{n: n, view: view}
	g, err := al.record(uint64(i) / groupChunks)
	switch {
	case err != nil:
		return false
	case g != nil:
		return !g.has(uint64(i) % groupChunks)
	}
	return uint64(i) >= n.attr.Load().dense
}

func (t *txn) deleteGroups(ino Ino, from uint64) {
	_ = t.b.DeleteRange(appendGroupKey(nil, ino, from), appendGroupKey(nil, ino+1, 0), nil) // an unindexed batch never fails
}
