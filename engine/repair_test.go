package engine

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRepair damages a tree in each way that Check knows, looks that Check finds it, and has it repaired.
func TestRepair(t *testing.T) {
	ctx := t.Context()
	type tree struct {
		dir, sub, f, g, link Ino
		e                    *Engine
		b                    *pebble.Batch
	}
	attr := func(x *tree, ino Ino, change func(*Attr)) {
		a, err := x.e.orphanAttr(ino)
		if err != nil {
			t.Fatal(err)
		}
		change(&a)
		_ = x.b.Set(appendInodeKey(nil, ino), appendAttr(nil, &a), nil)
	}
	for _, c := range []struct {
		kind   ProblemKind
		damage func(x *tree)
		lost   bool // cannot be repaired
	}{
		{ProblemDangling, func(x *tree) { _ = x.b.Delete(appendInodeKey(nil, x.f), nil) }, false},
		{ProblemDangling, func(x *tree) {
			_ = x.b.Set(appendDentryKey(nil, RootIno, "again"), appendDentry(nil, dentry{x.sub, TypeDir, 99}), nil)
		}, false},
		{ProblemEntry, func(x *tree) { _ = x.b.Delete(appendReaddirKey(nil, x.dir, 1), nil) }, false},
		{ProblemListed, func(x *tree) { _ = x.b.Delete(appendDentryKey(nil, x.dir, "f"), nil) }, false},
		{ProblemLinks, func(x *tree) { attr(x, x.g, func(a *Attr) { a.Nlink = 7 }) }, false},
		{ProblemLinks, func(x *tree) { attr(x, x.dir, func(a *Attr) { a.Nlink = 7 }) }, false},
		{ProblemEntries, func(x *tree) { attr(x, x.dir, func(a *Attr) { a.Size, a.Cookie = 9, 0 }) }, false},
		{ProblemParent, func(x *tree) { attr(x, x.sub, func(a *Attr) { a.Parent = RootIno }) }, false},
		{ProblemLost, func(x *tree) {
			_ = x.b.Delete(appendDentryKey(nil, x.dir, "sub"), nil)
			_ = x.b.Delete(appendReaddirKey(nil, x.dir, 3), nil)
		}, false},
		{ProblemOrphan, func(x *tree) { _ = x.b.Set(appendOrphanKey(nil, x.f), nil, nil) }, false},
		{ProblemOrphan, func(x *tree) {
			attr(x, x.f, func(a *Attr) { a.Nlink = 0 })
			_ = x.b.Delete(appendDentryKey(nil, x.dir, "f"), nil)
		}, false},
		{ProblemBeyond, func(x *tree) { _ = x.b.Set(appendChunkKey(nil, x.f, 1<<20), []byte{1, kindFull}, nil) }, false},
		{ProblemBeyond, func(x *tree) { _ = x.b.Set(appendChunkKey(nil, 777, 1), []byte{1, kindFull}, nil) }, false},
		{ProblemBlocks, func(x *tree) { _ = x.b.Delete(appendChunkKey(nil, x.f, 0), nil) }, false},
		{ProblemBlocks, func(x *tree) { attr(x, x.f, func(a *Attr) { a.dense = 9000 }) }, false},
		{ProblemBlocks, func(x *tree) { _ = x.b.Set(appendGroupKey(nil, x.f, 5000), nil, nil) }, false},
		{ProblemXattr, func(x *tree) { attr(x, x.f, func(a *Attr) { a.Flags &^= flagXattrs }) }, false},
		{ProblemXattr, func(x *tree) { _ = x.b.Set(appendXattrKey(nil, 777, "user.a"), nil, nil) }, false},
		{ProblemTarget, func(x *tree) { attr(x, x.link, func(a *Attr) { a.Size = 9 }) }, false},
		{ProblemTarget, func(x *tree) { _ = x.b.Set(appendSymlinkKey(nil, x.f), []byte("x"), nil) }, false},
		{ProblemTarget, func(x *tree) { _ = x.b.Delete(appendSymlinkKey(nil, x.link), nil) }, true},
		{ProblemNext, func(x *tree) { _ = x.b.Set(appendStateKey(nil, stateNext), make([]byte, 8), nil) }, false},
		{ProblemUsage, func(x *tree) { _ = x.b.Set(appendStateKey(nil, stateUsage), make([]byte, usageLen), nil) }, false},
		{ProblemChunk, func(x *tree) { _ = x.b.Set(appendChunkKey(nil, x.f, 0), []byte{1, 99}, nil) }, true},
		{ProblemRecord, func(x *tree) { _ = x.b.Set(appendDentryKey(nil, RootIno, "bad"), []byte{1}, nil) }, true},
	} {
		log := newFakeLog()
		e, err := openStarted(testOptions(vfs.NewMem(), log), log)
		if err != nil {
			t.Fatal(err)
		}
		x := &tree{e: e, b: e.db.NewBatch()}
		x.dir = create(t, e, RootIno, "dir", NewFile{Type: TypeDir})
		x.f = create(t, e, x.dir, "f", NewFile{Type: TypeRegular})
		x.g = create(t, e, x.dir, "g", NewFile{Type: TypeRegular})
		x.sub = create(t, e, x.dir, "sub", NewFile{Type: TypeDir})
		x.link = create(t, e, x.sub, "link", NewFile{Type: TypeSymlink, Target: "to"})
		for _, off := range []int64{0, 5 << 20, 40 << 20} {
			if _, _, err := e.Write(ctx, nil, x.f, bytes.Repeat([]byte{1}, 9000), off); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := e.SetXattr(ctx, nil, x.f, "user.a", []byte("b"), 0); err != nil {
			t.Fatal(err)
		}
		checkTree(t, e)
		c.damage(x)
		if err := e.db.Apply(x.b, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		var found []ProblemKind
		check := func() {
			found = found[:0]
			if _, err := e.Check(ctx, true, func(p Problem) { found = append(found, p.Kind); t.Logf("%s: %s", c.kind, p) }); err != nil {
				t.Errorf("%s: %v", c.kind, err)
			}
		}
		if check(); !slices.Contains(found, c.kind) {
			t.Errorf("%s is not found, but %v", c.kind, found)
		}
		left, err := e.Repair(ctx, func(Problem) {})
		if err != nil {
			t.Errorf("repair of %s: %v", c.kind, err)
		}
		if check(); len(found) == 0 == c.lost || c.kind != ProblemChunk && len(left) == 0 == c.lost {
			t.Errorf("%s: after the repair %v, left %v", c.kind, found, left)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
