package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestWatch has each kind of change made by somebody, and compares what the watcher is told.
func TestWatch(t *testing.T) {
	log := newFakeLog()
	e := openEngine(t, testOptions(vfs.NewMem(), log), log)
	dir := create(t, e, RootIno, "dir", NewFile{Type: TypeDir})
	file := create(t, e, dir, "file", NewFile{Type: TypeRegular})
	dev := openDevice(t, e, "disk", 4096)
	defer dev.Close()

	label := map[Ino]string{RootIno: "root", dir: "dir", file: "file"}
	var told []string
	stop := e.Watch(7, func(n Note) {
		s := label[n.Ino]
		if s == "" {
			s = "new"
		}
		switch {
		case n.Name != "":
			s += "/" + n.Name
		case n.Data:
			s += " data"
		}
		told = append(told, s)
	})
	ctx := t.Context()
	mode, size := uint32(0o600), uint64(10)
	for _, c := range []struct {
		name string
		do   func(ctx context.Context) error
		want string
	}{
		{"write", func(ctx context.Context) error { _, _, err := e.Write(ctx, nil, file, []byte("x"), 0); return err }, "file data"},
		{"chmod", func(ctx context.Context) error {
			_, _, err := e.SetAttr(ctx, nil, file, SetAttr{Mode: &mode})
			return err
		}, "file"},
		{"truncate", func(ctx context.Context) error {
			_, _, err := e.SetAttr(ctx, nil, file, SetAttr{Size: &size})
			return err
		}, "file data"},
		{"create", func(ctx context.Context) error {
			_, err := e.Create(ctx, nil, dir, "a", NewFile{Type: TypeRegular})
			return err
		}, "dir data, dir/a"},
		{"link", func(ctx context.Context) error { _, _, _, err := e.Link(ctx, nil, file, RootIno, "b"); return err }, "file, root data, root/b"},
		{"rename", func(ctx context.Context) error {
			_, _, _, err := e.Rename(ctx, nil, dir, "a", RootIno, "c", 0)
			return err
		}, "dir data, dir/a, new, root data, root/c"},
		{"unlink", func(ctx context.Context) error { _, _, err := e.Unlink(ctx, nil, RootIno, "b"); return err }, "file, root data, root/b"},
		{"read", func(ctx context.Context) error {
			_, err := e.Read(ctx, file, make([]byte, 5), 0)
			e.storeTouched()
			return err
		}, ""},
		{"device", func(ctx context.Context) error { return dev.WriteAt(ctx, make([]byte, 512), 0, false) }, ""},
		{"refused", func(ctx context.Context) error {
			if _, err := e.Create(ctx, nil, RootIno, "c", NewFile{Type: TypeDir}); err == nil {
				return fmt.Errorf("no error")
			}
			return nil
		}, ""},
	} {
		told = nil
		if err := c.do(ctx); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		slices.Sort(told)
		if got := strings.Join(told, ", "); got != c.want {
			t.Errorf("%s tells %q, want %q", c.name, got, c.want)
		}
	}

	told = nil
	if _, _, err := e.Write(WithOrigin(ctx, 7), nil, file, []byte("y"), 0); err != nil || told != nil {
		t.Errorf("its own change: told %v, %v", told, err)
	}
	if _, _, err := e.Write(WithOrigin(ctx, 8), nil, file, []byte("y"), 0); err != nil || told == nil {
		t.Errorf("another's change: told %v, %v", told, err)
	}
	stop()
	told = nil
	if _, _, err := e.Write(ctx, nil, file, []byte("z"), 0); err != nil || told != nil {
		t.Errorf("after stop: told %v, %v", told, err)
	}
}
