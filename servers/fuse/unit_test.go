//go:build linux

package fuse

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"zerofs/engine"
	"zerofs/engine/locks"
)

const bobsStatus = "Name:\tsh\nUid:\t1000\t1000\t1000\t1001\nGid:\t5\t5\t5\t5\nGroups:\t5 24 4294967295 \nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n"

// TestCreds: groups come from the thread, for as long as they are believed; never for a thread that is somebody else.
func TestCreds(t *testing.T) {
	now := time.Unix(100, 0)
	text, reads := bobsStatus, 0
	c := creds{now: func() time.Time { return now }, status: func(tid uint32) ([]byte, error) {
		reads++
		if tid != 7 {
			return nil, errors.New("no such thread")
		}
		return []byte(text), nil
	}}
	want := func(step string, got *engine.Cred, groups ...uint32) {
		t.Helper()
		if !slices.Equal(got.Groups, groups) {
			t.Errorf("%s: groups %v, want %v", step, got.Groups, groups)
		}
	}
	want("first", c.of(7, 1001, 5), 5, 24, math.MaxUint32)
	text = "Uid:\t1000\t1000\t1000\t1001\nGroups:\t\n"
	want("remembered", c.of(7, 1001, 5), 5, 24, math.MaxUint32)
	now = now.Add(groupsFor)
	want("read again", c.of(7, 1001, 5))
	text = bobsStatus
	want("another user than asked", c.of(7, 1000, 5))
	want("gone", c.of(8, 1001, 5))
	want("of another PID namespace", c.of(0, 1001, 5))
	before := reads
	want("root", c.of(7, 0, 0))
	want("root's user alone", c.of(7, 0, 5))
	if reads != before {
		t.Errorf("root's groups were read")
	}
	for i := range uint32(3 * credsMax) {
		c.of(i, 1001, 5)
	}
	if len(c.seen) > credsMax {
		t.Errorf("%d threads are remembered", len(c.seen))
	}
}

func TestDying(t *testing.T) {
	for text, want := range map[string]bool{
		bobsStatus:                    false,
		"SigPnd:\t0000000000000100\n": true,
		"SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n": true,
		"SigPnd:\t0000000000400000\nShdPnd:\t0000000000004000\n": false, // SIGURG, SIGTERM: may be handled
		"SigPnd:\tnonsense\n": false,
	} {
		c := creds{status: func(uint32) ([]byte, error) { return []byte(text), nil }}
		if got := c.dying(1); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	c := creds{status: func(uint32) ([]byte, error) { return nil, errors.New("gone") }}
	if !c.dying(1) {
		t.Error("a thread that is gone waits for nothing")
	}
}

// TestInterrupt: what ends a request's context, and what does not.
func TestInterrupt(t *testing.T) {
	for _, c := range []struct {
		name              string
		prompt            bool
		interrupt, killed bool
		end               bool // the file system's own end
		want              error
	}{
		{name: "nothing"},
		{name: "a signal that the caller handles", interrupt: true},
		{name: "a kill", interrupt: true, killed: true, want: errInterrupted},
		{name: "a signal while waiting for a lock", prompt: true, interrupt: true, want: errInterrupted},
		{name: "the end", end: true, want: errUnmounted},
		{name: "the end after a signal", interrupt: true, end: true, want: errUnmounted},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dying := false
				fs := newFileSystem(Options{Status: func(uint32) ([]byte, error) {
					if dying {
						return []byte("SigPnd:\t0000000000000100\n"), nil
					}
					return []byte(bobsStatus), nil
				}})
				cancel := make(chan struct{})
				r := fs.begin(cancel, &fuse.InHeader{})
				r.prompt = c.prompt
				if r.Err() != nil {
					t.Fatal("ended before it began")
				}
				done := r.Done()
				if c.interrupt {
					close(cancel)
				}
				time.Sleep(3 * dyingCheck)
				dying = c.killed
				time.Sleep(3 * dyingCheck)
				if c.end {
					fs.endLife(errUnmounted)
				}
				synctest.Wait()
				select {
				case <-done:
				default:
				}
				if err := r.Err(); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("ended with %v, want %v", err, c.want)
				}
				r.end()
				fs.watchers.Wait() // or the bubble would deadlock
				fs.endLife(errUnmounted)
			})
		})
	}
}

// held is an engine that only holds inodes.
type held struct {
	Engine
	holds map[engine.Ino]int
	gone  map[engine.Ino]bool
}

func (h *held) Hold(_ context.Context, ino engine.Ino) (engine.Attr, error) {
	if h.gone[ino] {
		return engine.Attr{}, engine.ErrStale
	}
	h.holds[ino]++
	return engine.Attr{}, nil
}

func (h *held) Release(ino engine.Ino) {
	if h.holds[ino]--; h.holds[ino] == 0 {
		delete(h.holds, ino)
	}
}

func TestLookups(t *testing.T) {
	h := &held{holds: map[engine.Ino]int{}, gone: map[engine.Ino]bool{9: true}}
	l := lookups{engine: h}
	add := func(ino engine.Ino) {
		t.Helper()
		if err := l.add(t.Context(), ino); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		add(5)
		add(5 + lookupShards)
	}
	if !reflect.DeepEqual(h.holds, map[engine.Ino]int{5: 1, 5 + lookupShards: 1}) || l.inodes.Load() != 2 {
		t.Errorf("after lookups: %v", h.holds)
	}
	l.forget(5, 2)
	if !l.known(5) || h.holds[5] != 1 {
		t.Error("forgotten too early")
	}
	l.forget(5, 1)
	if l.known(5) || h.holds[5] != 0 {
		t.Error("not forgotten")
	}
	l.forget(5, 1) // the kernel never does
	if err := l.add(t.Context(), 9); !errors.Is(err, engine.ErrStale) || l.known(9) {
		t.Errorf("an inode that is gone: %v", err)
	}
	if !l.known(engine.RootIno) || l.known(1234) {
		t.Error("the root is known, others are not")
	}
	add(6)
	l.releaseAll()
	if len(h.holds) != 0 || l.inodes.Load() != 0 {
		t.Errorf("left after the end: %v", h.holds)
	}
}

func TestHandles(t *testing.T) {
	var h handles
	a, b := locks.Owner{Client: 1, ID: 10}, locks.Owner{Client: 1, ID: 20}
	h1, h2 := h.next(), h.next()
	h.used(h1, 5, a)
	h.used(h1, 5, a)
	h.used(h1, 5, b)
	h.used(h2, 5, b) // moves on to the other open file
	if got := h.released(h1); !slices.Equal(got, []lockedBy{{5, a}}) {
		t.Errorf("first: %v", got)
	}
	if got := h.released(h1); got != nil {
		t.Errorf("again: %v", got)
	}
	if got := h.released(h2); !slices.Equal(got, []lockedBy{{5, b}}) {
		t.Errorf("second: %v", got)
	}
	if len(h.latest) != 0 || len(h.locked) != 0 {
		t.Errorf("left: %v, %v", h.latest, h.locked)
	}
}

// kernel writes down the notices that it gets.
type kernel struct {
	got     []string
	unknown int           // inodes that it does not know yet
	wait    chan struct{} // if not nil, a notice takes until it is closed
}

func (k *kernel) InodeNotify(node uint64, off, length int64) fuse.Status {
	if k.wait != nil {
		<-k.wait
	}
	k.got = append(k.got, fmt.Sprintf("inode %d from %d", node, off))
	if k.unknown > 0 {
		k.unknown--
		return fuse.ENOENT
	}
	return fuse.OK
}

func (k *kernel) EntryNotify(parent uint64, name string) fuse.Status {
	if k.wait != nil {
		<-k.wait
	}
	k.got = append(k.got, fmt.Sprintf("name %d/%s", parent, name))
	return fuse.OK
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newFileSystem(Options{Engine: &held{holds: map[engine.Ino]int{}}})
		if err := fs.lookups.add(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		k := &kernel{wait: make(chan struct{})}
		n := newNotices(fs, k)
		n.changed(engine.Note{Ino: 5, Name: "a"})
		synctest.Wait() // the kernel is busy with the first
		for range 1000 {
			n.changed(engine.Note{Ino: 5})
			n.changed(engine.Note{Ino: 5, Data: true})
			n.changed(engine.Note{Ino: 5})
			n.changed(engine.Note{Ino: engine.RootIno})
			n.changed(engine.Note{Ino: 6, Name: "unknown"})
		}
		close(k.wait)
		synctest.Wait()
		slices.Sort(k.got)
		if want := []string{"inode 1 from -1", "inode 5 from 0", "name 5/a"}; !slices.Equal(k.got, want) {
			t.Errorf("the kernel is told %q, want %q", k.got, want)
		}

		k.got, k.unknown = nil, 3
		n.changed(engine.Note{Ino: 5, Data: true})
		time.Sleep(time.Minute)
		if want := []string{"inode 5 from 0", "inode 5 from 0", "inode 5 from 0", "inode 5 from 0"}; !slices.Equal(k.got, want) {
			t.Errorf("of an inode that it learns of late the kernel is told %q, want %q", k.got, want)
		}
		k.got, k.unknown = nil, 1000
		n.changed(engine.Note{Ino: 5})
		time.Sleep(time.Hour)
		if len(k.got) != triesMax+1 {
			t.Errorf("of an inode that it never learns of the kernel is told %d times, want %d", len(k.got), triesMax+1)
		}
		n.stop()
		fs.endLife(errUnmounted)
	})
}

func TestSetAttr(t *testing.T) {
	u32 := func(v uint32) *uint32 { return &v }
	size, at, mt := uint64(7), int64(-1_500_000_000), int64(12_000_000_034)
	for _, c := range []struct {
		name string
		in   fuse.SetAttrInCommon
		want engine.SetAttr
	}{
		{"nothing", fuse.SetAttrInCommon{Valid: fuse.FATTR_CTIME | fuse.FATTR_LOCKOWNER}, engine.SetAttr{}},
		{"mode", fuse.SetAttrInCommon{Valid: fuse.FATTR_MODE, Mode: 0o106755}, engine.SetAttr{Mode: u32(0o6755)}},
		{"owner", fuse.SetAttrInCommon{Valid: fuse.FATTR_UID | fuse.FATTR_GID, Owner: fuse.Owner{Uid: 3, Gid: 4}}, engine.SetAttr{UID: u32(3), GID: u32(4)}},
		{"truncate", fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE, Size: 7}, engine.SetAttr{Size: &size}},
		{"ftruncate", fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE | fuse.FATTR_FH, Size: 7}, engine.SetAttr{Size: &size, Opened: true}},
		{"times", fuse.SetAttrInCommon{Valid: fuse.FATTR_ATIME | fuse.FATTR_MTIME, Atime: math.MaxUint64 - 1, Atimensec: 500_000_000, Mtime: 12, Mtimensec: 34},
			engine.SetAttr{Atime: &at, Mtime: &mt}},
		{"now", fuse.SetAttrInCommon{Valid: fuse.FATTR_ATIME | fuse.FATTR_ATIME_NOW | fuse.FATTR_MTIME | fuse.FATTR_MTIME_NOW, Atime: 5}, engine.SetAttr{AtimeNow: true, MtimeNow: true}},
	} {
		if got := setAttr(&c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, ns := range []int64{0, 1, -1, 999_999_999, -999_999_999, -1_000_000_000, 1e18, math.MaxInt64 - 1e9, -9e18} {
		sec, nsec := seconds(ns)
		if got := nanoseconds(sec, nsec); got != ns || nsec > 999_999_999 {
			t.Errorf("%d becomes %d s %d ns, and %d", ns, int64(sec), nsec, got)
		}
	}
	if got := nanoseconds(1<<40, 5); got != math.MaxInt64 {
		t.Errorf("far future: %d", got)
	}
	if got := nanoseconds(math.MaxUint64-1<<40, 5); got != math.MinInt64 {
		t.Errorf("far past: %d", got)
	}
}

func TestAccessOf(t *testing.T) {
	for flags, want := range map[uint32]uint32{0: 4, 1: 2, 2: 6, 0x8000: 4, 0x20: 1, 1 | 0x400: 2} {
		if got := accessOf(flags); got != want {
			t.Errorf("flags %#x: %o, want %o", flags, got, want)
		}
	}
}
