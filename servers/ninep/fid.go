package ninep

import (
	"context"
	"sync"
	"sync/atomic"

	"zerofs/engine"
	"zerofs/engine/locks"
)

// Limits of fids.
const (
	maxFids  = 4 << 20   // of a server; of one connection half as many
	maxHolds = 128 << 10 // of a server: fids that are not open and keep their inode; of one connection a quarter
)

// fid is a file that a client has a number for. What it says does not change: a message that makes
// something else of the number (an open, a walk to the same number) puts another fid in its place.
// So requests that run at the same time each have one of the two.
type fid struct {
	who  *identity
	ino  engine.Ino
	typ  engine.FileType
	dir  engine.Ino // that it was walked to in; zero if that is not known
	name string     // in dir

	open     bool // by Tlopen or Tlcreate
	read     bool // open for that
	write    bool
	append   bool // each write goes to the end
	dataSync bool // each write is durable before it is answered
	xattr    *xattr

	s     *session
	refs  atomic.Int32 // the table's one, and one for each request that uses it
	held  bool         // the inode is held for this fid
	owned owners       // who has locked through it
}

// owners are the lock owners of a fid that is open.
type owners struct {
	mu  sync.Mutex
	ids []locks.Owner // guarded by mu
}

// add notes that an owner locked.
func (o *owners) add(id locks.Owner) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, have := range o.ids {
		if have == id {
			return
		}
	}
	o.ids = append(o.ids, id)
}

// newFid returns a fid that is in no table, with one reference for the caller.
func (s *session) newFid(who *identity, ino engine.Ino, typ engine.FileType) (*fid, error) {
	if !s.fidQuota.take(1) {
		return nil, errTooManyFids
	}
	f := &fid{s: s, who: who, ino: ino, typ: typ}
	f.refs.Store(1)
	return f, nil
}

// hold keeps the inode from going with its last name, as long as the connection may have so many
// of them; beyond that the client finds out when it uses the fid.
func (f *fid) hold(ctx context.Context) (engine.Attr, error) {
	if !f.s.holds.take(1) {
		return f.s.srv.FS.GetAttr(ctx, f.ino)
	}
	a, err := f.s.srv.FS.Hold(ctx, f.ino)
	if err != nil {
		f.s.holds.free(1)
		return a, err
	}
	f.held = true
	return a, nil
}

// put gives a reference back. With the last one goes what the fid kept.
func (f *fid) put() {
	if f.refs.Add(-1) > 0 {
		return
	}
	f.owned.mu.Lock()
	for _, o := range f.owned.ids {
		f.s.srv.Locks.DropOwner(uint64(f.ino), o)
	}
	f.owned.mu.Unlock()
	if f.xattr != nil {
		f.s.xattrs.free(f.xattr.charged)
	}
	f.s.fidQuota.free(1)
	if !f.held {
		return
	}
	if !f.open {
		f.s.holds.free(1)
	}
	f.s.srv.FS.Release(f.ino)
}

// fids are a connection's.
type fids struct {
	mu sync.Mutex
	m  map[uint32]*fid // guarded by mu
}

// get returns a fid with a reference for the caller, nil if there is none of that number.
func (t *fids) get(id uint32) *fid {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.m[id]
	if f != nil {
		f.refs.Add(1)
	}
	return f
}

// look returns a fid without a reference: what it says may be read, and the inode may be gone.
func (t *fids) look(id uint32) *fid {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[id]
}

// add takes over the caller's reference, unless the number is in use.
func (t *fids) add(id uint32, f *fid) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[id] != nil {
		return false
	}
	t.m[id] = f
	return true
}

// replace puts f where old is and takes over the caller's reference, unless old is there no more.
func (t *fids) replace(id uint32, old, f *fid) bool {
	t.mu.Lock()
	if t.m[id] != old {
		t.mu.Unlock()
		return false
	}
	t.m[id] = f
	t.mu.Unlock()
	old.put()
	return true
}

// remove takes a fid out and gives the table's reference to the caller; nil if there is none.
func (t *fids) remove(id uint32) *fid {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.m[id]
	delete(t.m, id)
	return f
}

// clear takes all fids out.
func (t *fids) clear() {
	t.mu.Lock()
	all := t.m
	t.m = make(map[uint32]*fid)
	t.mu.Unlock()
	for _, f := range all {
		f.put()
	}
}

// quota is a number of things that the connections of a server may have together, and one of them
// at most so many of.
type quota struct {
	all  *atomic.Int64 // in use by all
	most int64         // of all
	mine atomic.Int64
	part int64 // of one connection
}

// take counts n more, if that is allowed.
func (q *quota) take(n int64) bool {
	if q.mine.Add(n) > q.part {
		q.mine.Add(-n)
		return false
	}
	if q.all.Add(n) > q.most {
		q.all.Add(-n)
		q.mine.Add(-n)
		return false
	}
	return true
}

// free counts n less.
func (q *quota) free(n int64) {
	q.all.Add(-n)
	q.mine.Add(-n)
}
