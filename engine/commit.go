package engine

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/journal"
)

// opOverhead bounds what an operation adds to a batch beyond its key and value: kind and two lengths.
const opOverhead = 1 + 2*5

// txnOverhead bounds what a batch holds beyond its operations.
const txnOverhead = lsnValueOffset + 8

// txn is one change, atomic and in one record of the log.
type txn struct {
	e        *Engine
	b        *pebble.Batch
	reserved int
	fixups   []fixup
	next     int // offset of the next inode's number, or 0
	usage    int // offset of the volume's usage, or 0
	delta    usage
	counts   bool // it only tells what is used already
	counted  bool // marks are kept
	marks    []mark
	watched  watched
}

// fixup is an attribute record that is filled in at commit, when its place in the order is known.
type fixup struct {
	n      *node
	offset int // of the encoded attributes in the batch
	change func(*Attr) error
	before *Attr
	after  *Attr
}

// begin waits for room for a change of at most n bytes of operations. It must be called with no lock
// held; then the locks are taken, the batch is built and committed, and end is called in any case.
func (e *Engine) begin(ctx context.Context, n int) (txn, error) {
	n += txnOverhead
	if err := e.failed.Load(); err != nil {
		return txn{}, *err
	}
	if err := e.guard.enter(); err != nil {
		return txn{}, err
	}
	t, err := e.beginEntered(ctx, n)
	if err != nil {
		e.guard.exit()
	}
	return t, err
}

func (e *Engine) beginEntered(ctx context.Context, n int) (txn, error) {
	if err := e.opts.Gate(ctx, n); err != nil {
		return txn{}, err
	}
	if err := e.opts.Log.Reserve(ctx, n); err != nil {
		return txn{}, fmt.Errorf("engine: reserve %d bytes of the log: %w", n, err)
	}
	t := txn{e: e, b: e.newBatch(), reserved: n, watched: e.watch(ctx)}
	op := t.b.SetDeferred(len(lsnKey), 8)
	copy(op.Key, lsnKey)
	clear(op.Value)
	return t, nil
}

// end gives back what the transaction holds.
func (t *txn) end() {
	if t.reserved > 0 {
		t.e.opts.Log.Unreserve(t.reserved)
	}
	t.b.Close()
	t.e.guard.exit()
	t.tell()
}

// setAttr has change applied to n's attributes at commit; at most once for an inode in a transaction. An
// error of change's is commit's, and nothing happened.
func (t *txn) setAttr(n *node, change func(*Attr) error) {
	op := t.b.SetDeferred(inodeKeyLen, attrLen)
	appendInodeKey(op.Key[:0], n.ino)
	t.fixups = append(t.fixups, fixup{n: n, offset: t.b.Len() - attrLen, change: change})
}

// changed returns what commit made of the i-th setAttr.
func (t *txn) changed(i int) Change {
	return Change{Before: *t.fixups[i].before, After: *t.fixups[i].after}
}

// newIno returns an inode number that was never used, and has the counter stored at commit.
func (t *txn) newIno() Ino {
	ino := Ino(t.e.next.Add(1) - 1)
	op := t.b.SetDeferred(1+len(stateNext), 8)
	appendStateKey(op.Key[:0], stateNext)
	t.next = t.b.Len() - 8
	return ino
}

// commit appends the change to the log and applies it. Neither happened if it fails, unless the
// error is ErrFailed: then the engine is done, and the next open decides.
//
// Order: the log first, then the tree, both under one lock, so that the tree is always the result of
// exactly the records up to Applied. A goroutine that would do this for others costs two switches per
// change and was no faster for many writers either.
func (t *txn) commit() (journal.LSN, error) {
	e := t.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.failed.Load(); err != nil {
		return 0, *err
	}
	lsn := e.Applied() + 1
	repr := t.b.Repr()
	if err := t.fill(repr, lsn); err != nil {
		return 0, err
	}
	if len(repr) > t.reserved {
		return 0, fmt.Errorf("engine: a change of %d bytes reserved %d: %w", len(repr), t.reserved, errInvalid)
	}
	got, err := e.opts.Log.Append(repr, t.reserved)
	if err != nil {
		return 0, fmt.Errorf("engine: append lsn %d to the log: %w", lsn, err)
	}
	t.reserved = 0
	if got != lsn {
		err := fmt.Errorf("the log gave lsn %d to the record of lsn %d", got, lsn)
		e.fail(err)
		return 0, *e.failed.Load()
	}
	size, ops := len(repr), t.b.Count() // a batch too large for a memtable is gone once applied
	if err := e.db.Apply(t.b, pebble.NoSync); err != nil {
		e.fail(fmt.Errorf("apply lsn %d, which is in the log: %w", lsn, err))
		return 0, *e.failed.Load()
	}
	e.mem.grew(lsn, size, ops)
	e.applied.Store(uint64(lsn))
	for i := range t.fixups {
		t.fixups[i].publish(lsn)
	}
	e.used = e.used.plus(t.delta)
	t.watched.done = true
	return lsn, nil
}

// fill writes into the batch what is known only now. The commit lock is held.
func (t *txn) fill(repr []byte, lsn journal.LSN) error {
	binary.BigEndian.PutUint64(repr[lsnValueOffset:], uint64(lsn))
	if t.next != 0 {
		binary.BigEndian.PutUint64(repr[t.next:], t.e.next.Load())
	}
	for i := range t.fixups {
		f := &t.fixups[i]
		f.before = f.n.attr.Load()
		after := *f.before
		if at := f.n.atime.Load(); at != 0 {
			after.Atime = at
		}
		if err := f.change(&after); err != nil {
			return err
		}
		f.after = &after
		appendAttr(repr[f.offset:f.offset], f.after)
	}
	return t.fillUsage(repr)
}

// publish shows an inode's new attributes. The commit lock is held.
func (f *fixup) publish(lsn journal.LSN) {
	f.n.attr.Store(f.after)
	f.n.atime.Store(0)
	f.n.lsn.Store(uint64(lsn))
}
