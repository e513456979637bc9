package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// lostDir is the directory in the root where Repair puts what has no name.
const lostDir = "lost+found"

const repairPasses = 8 // one repair may show what another has to follow

// Repair checks the tree and puts right what it can: names, counts and accounts are made to agree with
// what is there, and what has no name gets one in /lost+found. Nobody may use the volume meanwhile. It calls repaired for each
// problem that it dealt with, and returns those that are left: damaged chunks and records, symbolic links
// without a target, and rings of directories.
func (e *Engine) Repair(ctx context.Context, repaired func(Problem)) (left []Problem, err error) {
	for range repairPasses {
		if err := e.forget(); err != nil {
			return nil, err
		}
		var found []Problem
		if _, err := e.Check(ctx, false, func(p Problem) { found = append(found, p) }); err != nil {
			return nil, err
		}
		r := repairer{e: e, ctx: ctx, done: map[Ino]bool{}}
		again := false
		left = left[:0]
		for _, p := range found {
			ok, err := r.repair(p)
			if err != nil {
				return nil, fmt.Errorf("engine: repair: %s: %w", p, err)
			}
			if !ok {
				left = append(left, p)
				continue
			}
			again = true
			repaired(p)
		}
		if !again {
			break
		}
	}
	if err := e.forget(); err != nil {
		return nil, err
	}
	return left, e.reclaimOrphans(ctx)
}

// forget drops all inodes and names from memory.
func (e *Engine) forget() error {
	e.nodes.mu.Lock()
	defer e.nodes.mu.Unlock()
	if len(e.nodes.nodes) != e.nodes.idle {
		return fmt.Errorf("engine: the volume is in use: %w", ErrBusy)
	}
	e.nodes.nodes, e.nodes.oldest, e.nodes.newest, e.nodes.idle = make(map[Ino]*node), nil, nil, 0
	e.dentries.init(int(e.opts.MetadataCache / 2 / dentryBytes))
	return nil
}

// repairer is one pass of Repair.
type repairer struct {
	e    *Engine
	ctx  context.Context
	done map[Ino]bool // attributes that were set in this pass
}

// repair deals with a problem, or reports false if it cannot.
func (r *repairer) repair(p Problem) (bool, error) {
	var change func(t *txn) error
	room := 2*attrOpMax + 2*dirOpMax + usageOpMax
	switch p.Kind {
	case ProblemDangling:
		change = func(t *txn) error { t.delete(appendDentryKey(nil, p.Dir, p.Name)); return nil }
	case ProblemListed:
		change = func(t *txn) error { t.delete(appendReaddirKey(nil, p.Dir, p.cookie)); return nil }
	case ProblemEntry:
		change = func(t *txn) error { return r.list(t, p) }
	case ProblemOrphan:
		change = func(t *txn) error { return r.orphan(t, p.Ino) }
	case ProblemBeyond:
		change = func(t *txn) error { return r.cutOff(t, p.Ino) }
	case ProblemLost:
		return r.name(p.Ino)
	case ProblemBlocks:
		return r.recount(p.Ino)
	case ProblemNext, ProblemUsage:
		return true, r.counters()
	case ProblemXattr, ProblemTarget, ProblemLinks, ProblemEntries, ProblemParent:
		switch {
		case p.should != nil:
			if r.done[p.Ino] { // in the next pass
				return true, nil
			}
			change = func(t *txn) error { r.set(t, p.Ino, p.should); return nil }
		case p.Kind == ProblemXattr:
			change = func(t *txn) error {
				return t.b.DeleteRange(appendXattrKey(nil, p.Ino, ""), appendXattrKey(nil, p.Ino+1, ""), nil)
			}
		default:
			a, err := r.e.orphanAttr(p.Ino)
			if err == nil && a.Type == TypeSymlink {
				return false, nil // the target is lost
			}
			change = func(t *txn) error { t.delete(appendSymlinkKey(nil, p.Ino)); return nil }
		}
	default:
		return false, nil
	}
	return true, r.commit(room, change)
}

func (r *repairer) commit(room int, change func(t *txn) error) error {
	t, err := r.e.begin(r.ctx, room)
	if err != nil {
		return err
	}
	defer t.end()
	if err := change(&t); err != nil {
		return err
	}
	_, err = t.commit()
	return err
}

func (r *repairer) set(t *txn, ino Ino, a *Attr) {
	r.done[ino] = true
	t.set(appendInodeKey(nil, ino), appendAttr(nil, a))
}

// list lists a name at a cookie of its own.
func (r *repairer) list(t *txn, p Problem) error {
	a, err := r.e.orphanAttr(p.Dir)
	if err != nil {
		return err
	}
	d, err := r.e.readDentry(p.Dir, p.Name)
	if err != nil {
		return err
	}
	a.Cookie++
	d.cookie = a.Cookie
	t.addName(p.Dir, p.Name, d)
	r.set(t, p.Dir, &a)
	return nil
}

// orphan makes the mark of an unlinked inode agree with it.
func (r *repairer) orphan(t *txn, ino Ino) error {
	a, err := r.e.orphanAttr(ino)
	switch {
	case errors.Is(err, errNotExist), err == nil && a.Nlink != 0:
		t.delete(appendOrphanKey(nil, ino))
	case err != nil:
		return err
	default:
		t.set(appendOrphanKey(nil, ino), nil)
	}
	return nil
}

// cutOff deletes the chunks beyond a file's end, all if there is no file.
func (r *repairer) cutOff(t *txn, ino Ino) error {
	a, err := r.e.orphanAttr(ino)
	if err != nil && !errors.Is(err, errNotExist) {
		return err
	}
	from := ChunkIndex(0)
	if chunk := uint64(r.e.opts.ChunkSize); err == nil && a.Type == TypeRegular {
		from = ChunkIndex((a.Size + chunk - 1) / chunk)
	}
	return t.b.DeleteRange(appendChunkKey(nil, ino, from), appendChunkKey(nil, ino+1, 0), nil)
}

// name gives an inode that has none a name in /lost+found. A directory of a ring is left.
func (r *repairer) name(ino Ino) (bool, error) {
	a, err := r.e.orphanAttr(ino)
	if err != nil {
		return false, err
	}
	lost, err := r.lost()
	if err != nil {
		return false, err
	}
	if a.Type == TypeDir {
		if named, err := r.named(ino); err != nil || named {
			return false, err
		}
		a.Parent = lost
	} else {
		a.Nlink = 1
	}
	err = r.commit(2*attrOpMax+2*dirOpMax, func(t *txn) error {
		dir, err := r.e.orphanAttr(lost)
		if err != nil {
			return err
		}
		d := dentry{ino: ino, typ: a.Type, cookie: dir.Cookie + 1}
		if err := dir.entered(a.Type, d.cookie); err != nil {
			return err
		}
		t.addName(lost, fmt.Sprintf("#%d", ino), d)
		r.set(t, lost, &dir)
		r.set(t, ino, &a)
		return nil
	})
	return err == nil, err
}

// named reports whether a directory has a name somewhere.
func (r *repairer) named(ino Ino) (named bool, err error) {
	if err := r.e.guard.enter(); err != nil {
		return false, err
	}
	defer r.e.guard.exit()
	err = r.e.scan(r.ctx, []byte{prefixDentry}, []byte{prefixDentry + 1}, func(_, value []byte) (bool, error) {
		d, err := decodeDentry(value)
		named = err == nil && d.ino == ino
		return !named, nil
	})
	return named, err
}

func (r *repairer) lost() (Ino, error) {
	d, err := r.e.readDentry(RootIno, lostDir)
	if err == nil || !errors.Is(err, errNotExist) {
		return d.ino, err
	}
	made, err := r.e.Create(r.ctx, nil, RootIno, lostDir, NewFile{Type: TypeDir, Mode: 0o700})
	return made.Ino, err
}

// recount makes a file's account of its chunks anew.
func (r *repairer) recount(ino Ino) (bool, error) {
	a, err := r.e.orphanAttr(ino)
	if errors.Is(err, errNotExist) {
		return true, r.commit(2*groupOpMax, func(t *txn) error { t.deleteGroups(ino, 0); return nil })
	}
	if err != nil || r.done[ino] {
		return err == nil, err
	}
	records := map[uint64]*group{}
	chunks, err := r.chunks(ino, records)
	if err != nil {
		return false, err
	}
	a.Blocks, a.dense, a.Flags = chunks*uint64(r.e.opts.ChunkSize), 0, a.Flags&^flagGroups
	for g := records[a.dense/groupChunks]; g != nil && g.has(a.dense%groupChunks); g = records[a.dense/groupChunks] {
		a.dense++
	}
	for i := range records {
		if (i+1)*groupChunks <= a.dense || i*groupChunks < a.dense && uint64(records[i].count()) == a.dense-i*groupChunks {
			delete(records, i)
		}
	}
	return true, r.commit(len(records)*groupOpMax+attrOpMax+2*groupOpMax, func(t *txn) error {
		t.deleteGroups(ino, 0)
		for i, g := range records {
			t.set(appendGroupKey(nil, ino, i), appendGroup(nil, g))
			a.Flags |= flagGroups
		}
		r.set(t, ino, &a)
		return nil
	})
}

// chunks marks a file's chunks in records and counts them.
func (r *repairer) chunks(ino Ino, records map[uint64]*group) (n uint64, err error) {
	if err := r.e.guard.enter(); err != nil {
		return 0, err
	}
	defer r.e.guard.exit()
	err = r.e.scan(r.ctx, appendChunkKey(nil, ino, 0), appendChunkKey(nil, ino+1, 0), func(key, _ []byte) (bool, error) {
		i := binary.BigEndian.Uint64(key[inodeKeyLen:])
		g := records[i/groupChunks]
		if g == nil {
			g = new(group)
			records[i/groupChunks] = g
		}
		g.put(i%groupChunks, i%groupChunks+1, true)
		n++
		return true, nil
	})
	return n, err
}

// counters counts inodes and bytes anew.
func (r *repairer) counters() error {
	var u usage
	last := RootIno
	if err := r.e.guard.enter(); err != nil {
		return err
	}
	defer r.e.guard.exit()
	err := r.e.scan(r.ctx, []byte{prefixInode}, []byte{prefixInode + 1}, func(key, value []byte) (bool, error) {
		a, err := decodeAttr(value)
		if err != nil {
			return true, nil // it is reported
		}
		ino, err := inoOfKey(key)
		u = u.plus(usage{int64(a.Blocks), 1})
		last = max(last, ino)
		return true, err
	})
	if err != nil {
		return err
	}
	return r.commit(2*usageOpMax, func(t *txn) error {
		r.e.mu.Lock()
		t.e.used = u
		r.e.next.Store(max(r.e.next.Load(), uint64(last)+1))
		r.e.mu.Unlock()
		var v [usageLen]byte
		u.put(v[:])
		t.set(appendStateKey(nil, stateUsage), v[:])
		t.set(appendStateKey(nil, stateNext), binary.BigEndian.AppendUint64(nil, r.e.next.Load()))
		return nil
	})
}
