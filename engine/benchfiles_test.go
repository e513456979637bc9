package engine

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkFiles measures calls on many small files: what an untar, ls -lR and rm -r ask for.
func BenchmarkFiles(b *testing.B) {
	ctx := b.Context()
	setup := func(b *testing.B) (*Engine, []string, []Ino) {
		log := newFakeLog()
		log.discard = true
		opts := testOptions(vfs.NewMem(), log)
		opts.MemTableSize = 16 << 20
		e := openEngine(b, opts, log)
		names := make([]string, b.N)
		inodes := make([]Ino, b.N)
		p := make([]byte, 4096)
		fillRandom(p, 1)
		for i := range names {
			names[i] = fmt.Sprint("file", i)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i, name := range names {
			made, err := e.Create(ctx, nil, RootIno, name, NewFile{Type: TypeRegular, Mode: 0o644})
			if err != nil {
				b.Fatal(err)
			}
			inodes[i] = made.Ino
		}
		return e, names, inodes
	}
	must := func(b *testing.B, err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("create", func(b *testing.B) { setup(b); b.StopTimer() })
	for name, do := range map[string]func(e *Engine, name string, ino Ino) error{
		"write": func(e *Engine, _ string, ino Ino) error {
			_, _, err := e.Write(ctx, nil, ino, make([]byte, 4096), 0)
			return err
		},
		"write 1": func(e *Engine, _ string, ino Ino) error {
			_, _, err := e.Write(ctx, nil, ino, []byte{1}, 0)
			return err
		},
		"getattr": func(e *Engine, _ string, ino Ino) error { _, err := e.GetAttr(ctx, ino); return err },
		"lookup":  func(e *Engine, name string, _ Ino) error { _, _, err := e.Lookup(ctx, nil, RootIno, name); return err },
		"unlink":  func(e *Engine, name string, _ Ino) error { _, _, err := e.Unlink(ctx, nil, RootIno, name); return err },
	} {
		b.Run(name, func(b *testing.B) {
			e, names, inodes := setup(b)
			b.ResetTimer()
			for i := range names {
				must(b, do(e, names[i], inodes[i]))
			}
			b.StopTimer()
		})
	}
	b.Run("readdir", func(b *testing.B) {
		e, names, _ := setup(b)
		b.ResetTimer()
		n := 0
		must(b, e.ReadDir(ctx, nil, RootIno, 0, true, func(*Entry) bool { n++; return true }))
		b.StopTimer()
		if n != len(names) {
			b.Errorf("%d of %d", n, len(names))
		}
	})
}
