//go:build linux

package fuse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"zerofs/engine"
	"zerofs/engine/locks"
	"zerofs/engine/volume"
	"zerofs/fence"
	"zerofs/tiers/disk"
	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

// lease is a lease that tests take away and give back.
type lease struct {
	mu     sync.Mutex
	lapsed chan struct{} // guarded by mu; closed when it is back; nil while it holds
}

func (l *lease) wait(ctx context.Context) error {
	l.mu.Lock()
	lapsed := l.lapsed
	l.mu.Unlock()
	if lapsed == nil {
		return nil
	}
	select {
	case <-lapsed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *lease) lapse() (back func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lapsed := make(chan struct{})
	l.lapsed = lapsed
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lapsed = nil
		close(lapsed)
	}
}

// mounted is a volume that is mounted.
type mounted struct {
	t     *testing.T
	dir   string
	eng   *engine.Engine
	srv   *Server
	locks *locks.Table
	lease *lease
}

// mount mounts a new volume.
func mount(t *testing.T, edit func(*Options)) *mounted {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
	vol := openVolume(t)
	m := &mounted{t: t, dir: filepath.Join(t.TempDir(), "mnt"), eng: vol.Engine(), locks: locks.New(), lease: &lease{}}
	must(t, os.Mkdir(m.dir, 0o755))
	o := Options{
		Mountpoint: m.dir, Source: "test", AllowOther: true, Engine: m.eng, Locks: m.locks, Client: 99, Wait: m.lease.wait,
		Status: func(tid uint32) ([]byte, error) { return os.ReadFile(fmt.Sprintf("/proc/%d/status", tid)) },
		Now:    time.Now, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if edit != nil {
		edit(&o)
	}
	srv, err := Mount(t.Context(), o)
	must(t, err)
	m.srv = srv
	t.Cleanup(m.unmount)
	return m
}

func (m *mounted) unmount() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := m.srv.Unmount(ctx); err != nil {
		m.t.Error(err)
	}
	select {
	case <-m.srv.Done():
	case <-ctx.Done():
		m.t.Error("the server has not ended")
	}
	if n := m.srv.Stats().Inodes; n != 0 {
		m.t.Errorf("%d inodes are still held", n)
	}
}

func openVolume(t *testing.T) *volume.Volume {
	t.Helper()
	store := object.NewMemory(time.Now)
	sealed, err := seal.OpenVolume(t.Context(), store, []byte("password"), seal.VolumeOptions{
		Create: true, ChunkSize: 4 << 10, Cipher: seal.ChaCha20Poly1305, Compression: "none", Rand: rand.Reader,
	})
	must(t, err)
	dir := t.TempDir()
	start := time.Now()
	vol, err := volume.Open(t.Context(), volume.Options{
		Disk: disk.OS(), NVMeDir: dir, NVMeSize: 256 << 20, JournalDir: filepath.Join(dir, "journal"), JournalSize: 64 << 20, MemorySize: 64 << 20,
		Store: store, Volume: sealed, Durability: fence.Local, Interval: time.Second, Owner: "test", Lease: time.Minute, Takeover: fence.Wait,
		Identity: func(string) (fence.Identity, error) { return fence.Identity{}, nil },
		Boottime: func() time.Duration { return time.Since(start) }, Now: time.Now, Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := vol.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return vol
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *mounted) p(name string) string { return m.dir + "/" + name }

// ino is a name's inode number.
func (m *mounted) ino(name string) engine.Ino {
	m.t.Helper()
	var st unix.Stat_t
	must(m.t, unix.Lstat(m.p(name), &st))
	return engine.Ino(st.Ino)
}

// eventually waits for a condition; what others change reaches the kernel soon, not at once.
func (m *mounted) eventually(what string, cond func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); runtime.Gosched() {
		if time.Now().After(deadline) {
			m.t.Fatalf("never: %s", what)
		}
	}
}

// TestOthersChanges: what the kernel has in its caches goes when somebody else changes it.
func TestOthersChanges(t *testing.T) {
	m := mount(t, nil)
	ctx := t.Context()
	must(t, os.Mkdir(m.p("d"), 0o755))
	must(t, os.WriteFile(m.p("d/f"), []byte(strings.Repeat("old", 10000)), 0o644))
	dir, file := m.ino("d"), m.ino("d/f")
	reads := func() string { b, _ := os.ReadFile(m.p("d/f")); return string(b[:min(len(b), 3)]) }
	for range 3 {
		if reads() != "old" {
			t.Fatal(reads())
		}
	}
	before := m.srv.Stats().Reads
	reads()
	if n := m.srv.Stats().Reads; n != before {
		t.Errorf("the kernel reads again what nobody changed: %d reads", n-before)
	}

	_, _, err := m.eng.Write(ctx, nil, file, []byte("new"), 0)
	must(t, err)
	m.eventually("data", func() bool { return reads() == "new" })
	size := uint64(1)
	_, _, err = m.eng.SetAttr(ctx, nil, file, engine.SetAttr{Size: &size})
	must(t, err)
	m.eventually("size", func() bool { return reads() == "n" })
	mode := uint32(0o600)
	_, _, err = m.eng.SetAttr(ctx, nil, file, engine.SetAttr{Mode: &mode})
	must(t, err)
	m.eventually("mode", func() bool { i, err := os.Stat(m.p("d/f")); return err == nil && i.Mode().Perm() == 0o600 })

	missing := func(name string) bool { _, err := os.Lstat(m.p(name)); return errors.Is(err, os.ErrNotExist) }
	listed := func() string {
		var names []string
		entries, _ := os.ReadDir(m.p("d"))
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	if !missing("d/g") || listed() != "f" {
		t.Fatal("d/g is there")
	}
	_, err = m.eng.Create(ctx, nil, dir, "g", engine.NewFile{Type: engine.TypeRegular, Mode: 0o644})
	must(t, err)
	m.eventually("a new name", func() bool { return !missing("d/g") && listed() == "f g" })
	_, _, _, err = m.eng.Rename(ctx, nil, dir, "g", dir, "f", 0)
	must(t, err)
	m.eventually("a name that means another file", func() bool { return missing("d/g") && m.ino("d/f") != file })
	_, _, err = m.eng.Unlink(ctx, nil, dir, "f")
	must(t, err)
	m.eventually("a removed name", func() bool { return missing("d/f") && listed() == "" })
	_, _, err = m.eng.Rmdir(ctx, nil, engine.RootIno, "d")
	must(t, err)
	m.eventually("a removed directory", func() bool { return missing("d") })
}

// TestAppendBesideOthers: an append goes to the end that others have moved.
func TestAppendBesideOthers(t *testing.T) {
	m := mount(t, nil)
	f, err := os.OpenFile(m.p("f"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	must(t, err)
	defer f.Close()
	for i := range 100 {
		_, err := f.WriteString("ours..")
		must(t, err)
		_, _, _, err = m.eng.Append(t.Context(), nil, m.ino("f"), fmt.Appendf(nil, "%05d.", i))
		must(t, err)
	}
	got := make([]byte, 2000)
	n, err := m.eng.Read(t.Context(), m.ino("f"), got, 0)
	must(t, err)
	if n != 1200 {
		t.Fatalf("%d bytes, want 1200: appends overwrote each other", n)
	}
	m.eventually("the same through the mount", func() bool { b, _ := os.ReadFile(m.p("f")); return string(b) == string(got[:n]) })
}

// TestUnlinkedLives: a file that is open here survives its removal elsewhere.
func TestUnlinkedLives(t *testing.T) {
	m := mount(t, nil)
	f, err := os.Create(m.p("f"))
	must(t, err)
	_, err = f.WriteString("still here")
	must(t, err)
	ino := m.ino("f")
	_, _, err = m.eng.Unlink(t.Context(), nil, engine.RootIno, "f")
	must(t, err)
	m.eventually("no name", func() bool { _, err := os.Lstat(m.p("f")); return errors.Is(err, os.ErrNotExist) })
	b := make([]byte, 20)
	if n, _ := f.ReadAt(b, 0); string(b[:n]) != "still here" {
		t.Errorf("%q", b[:n])
	}
	must(t, f.Close())
	m.eventually("the inode is gone", func() bool { _, err := m.eng.GetAttr(t.Context(), ino); return errors.Is(err, engine.ErrStale) })
}

// TestLocksAreShared: locks of other servers count here, and ours there, to the last close.
func TestLocksAreShared(t *testing.T) {
	m := mount(t, nil)
	f, err := os.Create(m.p("f"))
	must(t, err)
	ino := uint64(m.ino("f"))
	other := locks.Owner{Client: 1, ID: 1}
	must(t, m.locks.Set(t.Context(), ino, locks.Lock{Owner: other, Start: 0, End: 9, Exclusive: true}, false))
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: 5, Len: 100}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &l); err != unix.EAGAIN {
		t.Errorf("over another's lock: %v", err)
	}
	got := unix.Flock_t{Type: unix.F_WRLCK}
	must(t, unix.FcntlFlock(f.Fd(), unix.F_GETLK, &got))
	if got.Type != unix.F_WRLCK || got.Start != 0 || got.Len != 10 {
		t.Errorf("getlk: %+v", got)
	}
	l.Start = 10
	must(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &l))
	if _, found := m.locks.Test(ino, locks.Lock{Owner: other, Start: 50, End: 50}); !found {
		t.Error("ours is not seen by others")
	}
	must(t, f.Close())
	if _, found := m.locks.Test(ino, locks.Lock{Owner: other, Start: 50, End: 50}); found {
		t.Error("ours outlived the close")
	}
}

// TestLeaseLapse: without the lease nothing is answered, and a caller that is killed does not wait for it.
func TestLeaseLapse(t *testing.T) {
	m := mount(t, nil)
	must(t, os.WriteFile(m.p("f"), []byte("x"), 0o644))
	back := m.lease.lapse()
	cmd := exec.Command("stat", m.p("none")) // a name that the kernel does not know yet
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
		t.Fatal("answered without the lease")
	case <-time.After(200 * time.Millisecond):
	}
	must(t, cmd.Process.Kill())
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("a killed caller waits for the lease")
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(m.p("g"), []byte("y"), 0o644) }()
	select {
	case <-written:
		t.Fatal("answered without the lease")
	case <-time.After(100 * time.Millisecond):
	}
	back()
	must(t, <-written)
}

// TestForcedUnmount: a mount that is in use leaves the tree, and whoever waits gets an error.
func TestForcedUnmount(t *testing.T) {
	m := mount(t, nil)
	f, err := os.Create(m.p("f"))
	must(t, err)
	back := m.lease.lapse()
	defer back()
	waits := make(chan error, 1)
	go func() { _, err := f.Write([]byte("x")); waits <- err }()
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := m.srv.Unmount(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("unmount of a mount in use: %v", err)
	}
	if err := <-waits; !errors.Is(err, unix.EIO) {
		t.Errorf("who waited got %v", err)
	}
	var a, b unix.Stat_t
	must(t, unix.Stat(m.dir, &a))
	must(t, unix.Stat(filepath.Dir(m.dir), &b))
	if a.Dev != b.Dev {
		t.Error("still mounted")
	}
	_ = f.Close()
}

// TestForget: what the kernel forgets is not held.
func TestForget(t *testing.T) {
	m := mount(t, nil)
	for i := range 200 {
		must(t, os.WriteFile(m.p(fmt.Sprintf("f%d", i)), nil, 0o644))
	}
	if _, err := os.ReadDir(m.dir); err != nil {
		t.Fatal(err)
	}
	if n := m.srv.Stats().Inodes; n != 200 {
		t.Errorf("%d inodes are known, want 200", n)
	}
	for i := range 200 {
		must(t, os.Remove(m.p(fmt.Sprintf("f%d", i))))
	}
	m.eventually("nothing is known", func() bool { return m.srv.Stats().Inodes == 0 })
}
