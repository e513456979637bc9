package ninep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hugelgupf/p9/linux"
	"github.com/hugelgupf/p9/p9"

	"zerofs/engine"
	"zerofs/engine/locks"
	"zerofs/journal"
)

// counter is a journal that keeps nothing.
type counter struct {
	mu   sync.Mutex
	last journal.LSN
}

func (l *counter) Reserve(ctx context.Context, _ int) error { return ctx.Err() }
func (l *counter) Unreserve(int)                            {}

func (l *counter) Append([]byte, int) (journal.LSN, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	return l.last, nil
}

func (l *counter) Last() journal.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// serveEngine serves a new, empty tree on a TCP port, with a root that everybody may write to. What
// the clients left of the tree is checked in the end.
func serveEngine(t *testing.T, srv *Server) (addr string, e *engine.Engine) {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Options{
		FS: vfs.NewMem(), Dir: "tree", Log: &counter{}, Durable: func(context.Context, journal.LSN) error { return nil },
		Now: time.Now, Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { panic(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	mode := uint32(0o777)
	if _, _, err := e.SetAttr(t.Context(), nil, engine.RootIno, engine.SetAttr{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	srv.FS, srv.Locks, srv.Wait = e, locks.New(), func(context.Context) error { return nil }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- srv.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-end; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		if n := srv.fids.Load(); n != 0 {
			t.Errorf("%d fids are left", n)
		}
		if _, err := e.Check(context.Background(), true, func(p engine.Problem) { t.Errorf("check: %s", p) }); err != nil {
			t.Errorf("check: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return ln.Addr().String(), e
}

// attachP9 mounts the server with hugelgupf/p9's client.
func attachP9(t *testing.T, addr string, opts ...p9.ClientOpt) p9.File {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p9.NewClient(nc, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	root, err := c.Attach("")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestP9Client does with an independent client what it knows of the protocol. (Its locks name fid 0.)
func TestP9Client(t *testing.T) {
	addr, _ := serveEngine(t, &Server{})
	root := attachP9(t, addr, p9.WithMessageSize(1<<20))
	check := func(what string, err error, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	walk := func(names ...string) p9.File {
		t.Helper()
		_, f, err := root.Walk(names)
		if err != nil {
			t.Fatalf("walk %q: %v", names, err)
		}
		return f
	}
	_, err := root.Mkdir("dir", 0o755, p9.NoUID, p9.NoGID)
	check("mkdir", err, nil)
	_, err = root.Mkdir("dir", 0o755, p9.NoUID, p9.NoGID)
	check("mkdir", err, linux.EEXIST)
	_, err = root.Symlink("target", "link", p9.NoUID, p9.NoGID)
	check("symlink", err, nil)
	if got, err := walk("link").Readlink(); err != nil || got != "target" {
		t.Errorf("readlink: %q, %v", got, err)
	}
	_, _, _, err = walk("dir").Create("file", p9.ReadWrite, 0o640, p9.NoUID, p9.NoGID)
	check("create", err, nil)
	f := walk("dir", "file")
	_, _, err = f.Open(p9.ReadWrite)
	check("open", err, nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // several messages
	if n, err := f.WriteAt(data, 100); err != nil || n != len(data) {
		t.Errorf("write: %d, %v", n, err)
	}
	got := make([]byte, len(data))
	if n, err := io.ReadFull(io.NewSectionReader(f, 100, int64(len(data))), got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read: %d, %v", n, err)
	}
	check("fsync", f.FSync(), nil)
	_, _, a, err := f.GetAttr(p9.AttrMaskAll)
	if err != nil || a.Size != uint64(len(data))+100 || a.Mode&0o777 != 0o640 || a.NLink != 1 || a.UID != nobody {
		t.Errorf("getattr: %+v, %v", a, err)
	}
	check("setattr", f.SetAttr(p9.SetAttrMask{Size: true, Permissions: true}, p9.SetAttr{Size: 10, Permissions: 0o600}), nil)
	check("link", root.Link(walk("dir", "file"), "second"), nil)
	check("rename", root.RenameAt("second", walk("dir"), "third"), nil)
	check("rmdir", root.UnlinkAt("dir", 0x200), linux.ENOTEMPTY)
	check("unlink", walk("dir").UnlinkAt("third", 0), nil)
	check("unlink", walk("dir").UnlinkAt("file", 0), nil)
	if n, err := f.ReadAt(got, 0); n != 10 || err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("read of an unlinked file: %d, %v", n, err)
	}
	check("close", f.Close(), nil)
	check("rmdir", root.UnlinkAt("dir", 0x200), nil)
	_, _, err = root.Walk([]string{"dir"})
	check("walk", err, linux.ENOENT)
	if st, err := root.StatFS(); err != nil || st.BlockSize == 0 || st.NameLength != 255 || st.Blocks == 0 {
		t.Errorf("statfs: %+v, %v", st, err)
	}
}

// TestP9Clients has several clients work on one tree at the same time.
func TestP9Clients(t *testing.T) {
	addr, _ := serveEngine(t, &Server{})
	var wg sync.WaitGroup
	for i := range 6 {
		root := attachP9(t, addr)
		wg.Go(func() {
			if err := workP9(root, fmt.Sprintf("client-%d", i)); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// workP9 makes, reads, lists, renames and removes files in a directory of its own.
func workP9(root p9.File, name string) error {
	if _, err := root.Mkdir(name, 0o755, p9.NoUID, p9.NoGID); err != nil {
		return err
	}
	_, dir, err := root.Walk([]string{name})
	if err != nil {
		return err
	}
	const files = 100
	for i := range files {
		_, d, err := dir.Walk(nil)
		if err != nil {
			return err
		}
		f, _, _, err := d.Create(fmt.Sprint(i), p9.ReadWrite, 0o644, p9.NoUID, p9.NoGID)
		if err != nil {
			return err
		}
		text := bytes.Repeat([]byte(fmt.Sprint(name, i)), i+1)
		if _, err := d.WriteAt(text, int64(i)); err != nil {
			return err
		}
		got := make([]byte, len(text))
		if _, err := d.ReadAt(got, int64(i)); err != nil || !bytes.Equal(got, text) {
			return fmt.Errorf("file %d: %q, %v", i, got, err)
		}
		_ = f
		if err := d.Close(); err != nil {
			return err
		}
		if err := dir.RenameAt(fmt.Sprint(i), dir, fmt.Sprint("renamed-", i)); err != nil {
			return err
		}
	}
	_, list, err := dir.Walk(nil)
	if err != nil {
		return err
	}
	if _, _, err := list.Open(p9.ReadOnly); err != nil {
		return err
	}
	seen := 0
	for off := uint64(0); ; {
		entries, err := list.Readdir(off, 500)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			seen, off = seen+1, e.Offset
			if e.Name != "." && e.Name != ".." {
				if err := dir.UnlinkAt(e.Name, 0); err != nil {
					return fmt.Errorf("unlink %q: %w", e.Name, err)
				}
			}
		}
	}
	if seen != files+2 {
		return fmt.Errorf("%d entries", seen)
	}
	return root.UnlinkAt(name, unlinkDir)
}
