package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// cachesTrue compares what is in memory with the tree, when nothing goes on.
func cachesTrue(t *testing.T, e *Engine) {
	t.Helper()
	for i := range e.dentries.shards {
		s := &e.dentries.shards[i]
		for k, x := range s.m {
			if x.state == dentryChanging {
				t.Errorf("%d/%q is marked as changing", k.dir, k.name)
			}
			if x.state != dentryKnown {
				continue
			}
			d, err := e.readDentry(k.dir, k.name)
			if err != nil && !errors.Is(err, errNotExist) || d != x.d {
				t.Errorf("%d/%q is %+v in memory and %+v in the tree, %v", k.dir, k.name, x.d, d, err)
			}
		}
	}
	for ino, n := range e.nodes.nodes {
		if n.refs != 0 || n.doom != nil || n.gone {
			t.Errorf("inode %d: %d references, doomed %v, gone %v", ino, n.refs, n.doom != nil, n.gone)
		}
		a, err := e.orphanAttr(ino)
		if err != nil {
			t.Errorf("inode %d is in memory, and in the tree: %v", ino, err)
			continue
		}
		have := *n.attr.Load()
		have.acl = nil
		if a != have {
			t.Errorf("inode %d is\n%+v in memory,\n%+v in the tree", ino, have, a)
		}
	}
}

// racing runs work in so many goroutines, with caches that hold all and with ones that hold nearly nothing.
func racing(t *testing.T, workers, rounds int, prepare func(t *testing.T, e *Engine), work func(t *testing.T, e *Engine, rng *rand.Rand)) {
	for _, size := range []int64{0, 16 << 10, -1} {
		t.Run(fmt.Sprintf("cache=%d", size), func(t *testing.T) {
			log := newFakeLog()
			opts := testOptions(vfs.NewMem(), log)
			opts.MetadataCache = size
			t.Cleanup(func() { // after the engine's end, and of what it does in the background
				if log.reserved != 0 {
					t.Errorf("%d bytes of the log are still reserved", log.reserved)
				}
			})
			e := openEngine(t, opts, log)
			e.cache = newMapCache(nil)
			prepare(t, e)
			var wg sync.WaitGroup
			for g := range workers {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(g), 11))
					for range rounds {
						work(t, e, rng)
					}
				})
			}
			wg.Wait()
			settle(t, e)
			checkTree(t, e)
			cachesTrue(t, e)
		})
	}
}

// allowed reports an error that no race explains.
func allowed(t *testing.T, what string, err error, kinds ...error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, k := range kinds {
		if errors.Is(err, k) {
			return
		}
	}
	t.Errorf("%s: %v", what, err)
}

// TestRaceRename moves directories below each other from many goroutines: none may come to lie below itself.
func TestRaceRename(t *testing.T) {
	const dirs = 8
	var inodes []Ino
	racing(t, 6, 150, func(t *testing.T, e *Engine) {
		inodes = []Ino{RootIno}
		for i := range dirs {
			inodes = append(inodes, create(t, e, inodes[rand.N(len(inodes))], fmt.Sprint(i), NewFile{Type: TypeDir}))
		}
	}, func(t *testing.T, e *Engine, rng *rand.Rand) {
		// Names say nothing of where a directory is: it is tried everywhere.
		name, newName := fmt.Sprint(rng.IntN(dirs)), fmt.Sprint(rng.IntN(dirs))
		from, to := inodes[rng.IntN(len(inodes))], inodes[rng.IntN(len(inodes))]
		flags := RenameFlags(rng.IntN(3))
		_, _, _, err := e.Rename(context.Background(), nil, from, name, to, newName, flags)
		allowed(t, "rename", err, errNotExist, errInvalid, ErrNotEmpty, errExist)
	})
}

// TestRaceAll has everything happen to few names at once.
func TestRaceAll(t *testing.T) {
	ctx := context.Background()
	var dirs []Ino
	racing(t, 6, 400, func(t *testing.T, e *Engine) {
		dirs = nil
		for i := range 3 {
			dirs = append(dirs, create(t, e, RootIno, fmt.Sprint("dir", i), NewFile{Type: TypeDir}))
		}
	}, func(t *testing.T, e *Engine, rng *rand.Rand) {
		dir, other := dirs[rng.IntN(3)], dirs[rng.IntN(3)]
		name, newName := fmt.Sprint(rng.IntN(4)), fmt.Sprint(rng.IntN(4))
		switch rng.IntN(10) {
		case 0, 1:
			_, err := e.Create(ctx, nil, dir, name, NewFile{Type: []FileType{TypeRegular, TypeDir, TypeSymlink}[rng.IntN(3)], Target: "x", Exclusive: true})
			allowed(t, "create", err, errExist)
		case 2:
			_, _, err := e.Unlink(ctx, nil, dir, name)
			allowed(t, "unlink", err, errNotExist, ErrIsDir)
		case 3:
			_, _, err := e.Rmdir(ctx, nil, dir, name)
			allowed(t, "rmdir", err, errNotExist, ErrNotDir, ErrNotEmpty)
		case 4:
			_, _, _, err := e.Rename(ctx, nil, dir, name, other, newName, RenameFlags(rng.IntN(3)))
			allowed(t, "rename", err, errNotExist, ErrIsDir, ErrNotDir, errExist, ErrNotEmpty)
		case 5:
			ino, _, err := e.Lookup(ctx, nil, dir, name)
			allowed(t, "lookup", err, errNotExist)
			if err == nil {
				_, _, _, err = e.Link(ctx, nil, ino, other, newName)
				allowed(t, "link", err, errNotExist, errExist, ErrPerm)
			}
		case 6: // a new directory may be gone before a file comes into it
			made, err := e.Create(ctx, nil, dir, name, NewFile{Type: TypeDir})
			allowed(t, "mkdir", err, errExist)
			if err == nil {
				_, err = e.Create(ctx, nil, made.Ino, "in it", NewFile{Type: TypeRegular})
				allowed(t, "create in it", err, errNotExist)
				_, _, err = e.Unlink(ctx, nil, made.Ino, "in it")
				allowed(t, "unlink in it", err, errNotExist)
			}
		case 7:
			err := e.ReadDir(ctx, nil, dir, 0, true, func(*Entry) bool { return true })
			allowed(t, "readdir", err)
		default:
			useFile(t, e, rng, dir, name)
		}
	})
}

// useFile opens a file, and finds what it writes there until it closes it, whoever removes it meanwhile.
func useFile(t *testing.T, e *Engine, rng *rand.Rand, dir Ino, name string) {
	ctx := context.Background()
	ino, a, err := e.Lookup(ctx, nil, dir, name)
	allowed(t, "lookup", err, errNotExist)
	if err != nil || a.Type != TypeRegular {
		return
	}
	if _, _, err := e.Open(ctx, nil, ino, AccessRead|AccessWrite, rng.IntN(3) == 0); err != nil {
		allowed(t, "open", err, ErrStale)
		return
	}
	defer e.Release(ino)
	at := rng.Int64N(1<<20) * 16 // nobody else writes there, almost surely; it may be truncated though
	p := []byte(fmt.Sprintf("%016x", rng.Uint64()))
	if _, _, err := e.Write(ctx, nil, ino, p, at); err != nil {
		t.Errorf("write to an open file: %v", err)
	}
	got := make([]byte, 16)
	n, err := e.Read(ctx, ino, got, at)
	if err != nil || n == 16 && !bytes.Equal(got, p) && !bytes.Equal(got, make([]byte, 16)) {
		t.Errorf("read of an open file: %q, want %q, %v", got[:n], p, err)
	}
	mode := rng.Uint32N(0o10000)
	if _, _, err := e.SetAttr(ctx, nil, ino, SetAttr{Mode: &mode}); err != nil {
		t.Errorf("chmod of an open file: %v", err)
	}
}

// TestRaceContent has writers, appenders, punches and truncations at one file, sparse and across the bounds of
// allocation records.
func TestRaceContent(t *testing.T) {
	ctx := context.Background()
	var ino Ino
	racing(t, 6, 150, func(t *testing.T, e *Engine) {
		ino = create(t, e, RootIno, "f", NewFile{Type: TypeRegular})
	}, func(t *testing.T, e *Engine, rng *rand.Rand) {
		off := rng.Int64N(3)*groupChunks*4096 + rng.Int64N(20)*4096 - rng.Int64N(2)*2000
		off = max(off, 0)
		p := bytes.Repeat([]byte{byte(rng.IntN(3))}, rng.IntN(20_000)+1)
		var err error
		switch rng.IntN(8) {
		default:
			_, _, err = e.Write(ctx, nil, ino, p, off)
		case 0:
			if a, _ := e.GetAttr(ctx, ino); a.Size < 128<<20 {
				_, _, _, err = e.Append(ctx, nil, ino, p)
			}
		case 1:
			_, err = e.Fallocate(ctx, nil, ino, FallocPunchHole|FallocKeepSize, off, rng.Int64N(40<<20)+1)
		case 2:
			size := uint64(off)
			_, _, err = e.SetAttr(ctx, nil, ino, SetAttr{Size: &size})
		case 3:
			_, err = e.Seek(ctx, ino, off, rng.IntN(2) == 0)
			allowed(t, "seek", err, ErrNoAddress)
			err = nil
		}
		allowed(t, "content", err)
	})
}
