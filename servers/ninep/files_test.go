package ninep

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"zerofs/engine"
)

func TestWalk(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.must(msgTmkdir, uint32(0), "d", uint32(0o755), uint32(0))
		p.walk(0, 1, "d")
		p.must(msgTmkdir, uint32(1), "e", uint32(0o755), uint32(0))
		p.create(2, "f")
		for _, tc := range []struct {
			names []string
			qids  int
			want  errno
		}{
			{nil, 0, 0},
			{[]string{"d"}, 1, 0},
			{[]string{"d", "e"}, 2, 0},
			{[]string{"d", "..", "d", "e", "..", ".."}, 6, 0},
			{[]string{"..", "..", "f"}, 3, 0},
			{[]string{"d", "none", "e"}, 1, 0},
			{[]string{"none"}, 0, errNotExist},
			{[]string{"f", "x"}, 1, 0},
			{[]string{""}, 0, errNotExist},
			{[]string{"d/e"}, 0, errInvalid},
			{[]string{"d\x00"}, 0, errInvalid},
			{[]string{strings.Repeat("n", 256)}, 0, errNameTooLong},
			{[]string{"d", "/"}, 1, 0},
		} {
			m := p.ask(msgTwalk, uint32(0), uint32(9), tc.names)
			if m.errno() != tc.want {
				t.Errorf("%q: errno %d, want %d", tc.names, m.errno(), tc.want)
			}
			if tc.want != 0 {
				continue
			}
			if n := int(m.d().u16()); n != tc.qids || len(m.body) != 2+n*qidSize {
				t.Errorf("%q: %d qids in %d bytes, want %d", tc.names, n, len(m.body), tc.qids)
			}
			if arrived := tc.qids == len(tc.names); arrived {
				p.must(msgTclunk, uint32(9))
			} else {
				p.fails(errBadFid, msgTclunk, uint32(9))
			}
		}
		p.fails(errBusy, msgTwalk, uint32(0), uint32(1), []string{"d"}) // fid 1 is there
		p.fails(errBadFid, msgTwalk, uint32(77), uint32(9), []string{"d"})
		p.fails(errBusy, msgTwalk, uint32(2), uint32(2), []string{}) // open
		p.walk(1, 1, "e")                                            // to itself
		p.walk(2, 9)                                                 // another fid of an open file
	})
}

// Walks stay in the subdirectory that was attached, even when a directory is moved out of it.
func TestAttachSubdirectory(t *testing.T) {
	inBubble(t, func(r *rig) {
		p, q := r.dial().attach(), r.dial()
		p.must(msgTmkdir, uint32(0), "a", uint32(0o755), uint32(0))
		p.walk(0, 1, "a")
		p.must(msgTmkdir, uint32(1), "b", uint32(0o755), uint32(0))
		p.walk(1, 2, "b")
		p.must(msgTmkdir, uint32(2), "c", uint32(0o755), uint32(0))
		p.create(3, "secret")
		q.must(msgTversion, uint32(8192), version)
		for aname, want := range map[string]errno{
			"/a/../": errInvalid, "none": errNotExist, "secret": errNotDir, "/a/none": errNotExist, "a\x00": errInvalid,
		} {
			q.fails(want, msgTattach, uint32(0), noFid, "u", aname, uint32(0))
		}
		q.must(msgTattach, uint32(0), noFid, "u", "//a/./b/", uint32(0))
		q.fails(errNotExist, msgTwalk, uint32(0), uint32(1), []string{"..", "..", "secret"}[2:])
		q.must(msgTwalk, uint32(0), uint32(1), []string{"..", "c", "..", "..", "..", "c"})
		if root, up := q.stat(0).path, q.parent(0); root != up {
			t.Errorf("the root's parent is %d, not %d", up, root)
		}
		p.must(msgTrenameat, uint32(2), "c", uint32(0), "c")
		q.fails(errNotExist, msgTwalk, uint32(1), uint32(5), []string{".."})
		q.fails(errNotExist, msgTwalk, uint32(1), uint32(5), []string{"..", "secret"})
	})
}

// stat returns the qid of a fid's file.
func (p *peer) stat(fid uint32) qid {
	p.t.Helper()
	d := p.must(msgTgetattr, fid, uint64(getAll))
	d.u64()
	return qid{d.u8(), d.u32(), d.u64()}
}

// parent returns the path of ".." as Treaddir shows it.
func (p *peer) parent(fid uint32) uint64 {
	p.t.Helper()
	p.walk(fid, 99)
	p.must(msgTlopen, uint32(99), uint32(0))
	defer p.must(msgTclunk, uint32(99))
	return p.list(99, 0, 4096)[1].path
}

// entry is one of Rreaddir.
type entry struct {
	qid
	offset uint64
	dtype  uint8
	name   string
}

func (p *peer) list(fid uint32, offset uint64, count int) (all []entry) {
	p.t.Helper()
	d := p.must(msgTreaddir, fid, offset, uint32(count))
	if n := int(d.u32()); n != len(d.b) || n > count {
		p.t.Fatalf("%d bytes of entries in %d, at most %d", n, len(d.b), count)
	}
	for len(d.b) > 0 {
		all = append(all, entry{qid{d.u8(), d.u32(), d.u64()}, d.u64(), d.u8(), d.str()})
	}
	if !d.ok() {
		p.t.Fatal("malformed entries")
	}
	return all
}

func TestUnlinkedFiles(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		p.walk(0, 2, "a") // not open
		p.write(1, 0, "content")
		p.must(msgTunlinkat, uint32(0), "a", uint32(0))
		p.write(1, 7, " and more")
		if got := p.read(1, 0, 100); got != "content and more" {
			t.Errorf("read %q", got)
		}
		p.must(msgTlopen, uint32(2), uint32(0))
		p.must(msgTclunk, uint32(1))
		if got := p.read(2, 8, 3); got != "and" {
			t.Errorf("read %q", got)
		}
		p.must(msgTclunk, uint32(2))
		if n := r.fs.held(); n != 1 {
			t.Errorf("%d references, want that to the root", n)
		}
	})
}

func TestOpenFlags(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "f")
		p.write(1, 0, "content")
		p.must(msgTsymlink, uint32(0), "l", "f", uint32(0))
		p.must(msgTmknod, uint32(0), "p", uint32(0o010644), uint32(0), uint32(0), uint32(0))
		p.must(msgTmkdir, uint32(0), "d", uint32(0o755), uint32(0))
		for _, tc := range []struct {
			name  string
			flags uint32
			want  errno // of the open
			read  errno
			write errno
		}{
			{"f", 0, 0, 0, errBadFid},
			{"f", 1, 0, errBadFid, 0},
			{"f", 2, 0, 0, 0},
			{"f", 3, errInvalid, 0, 0},
			{"f", 0o100000 | 0o40000 | 0o4000 | 0o2000000, 0, 0, errBadFid}, // largefile, direct, nonblock, cloexec
			{"f", openDirectory, errNotDir, 0, 0},
			{"d", 0, 0, errIsDir, errBadFid},
			{"d", openDirectory, 0, errIsDir, errBadFid},
			{"d", 1, errIsDir, 0, 0},
			{"d", openTruncate, errIsDir, 0, 0},
			{"l", 0, errLoop, 0, 0},
			{"p", 0, errNoDevice, 0, 0},
		} {
			p.walk(0, 2, tc.name)
			m := p.ask(msgTlopen, uint32(2), tc.flags)
			if m.errno() != tc.want {
				t.Errorf("%s, flags %o: errno %d, want %d", tc.name, tc.flags, m.errno(), tc.want)
			}
			if m.errno() == 0 {
				p.fails(tc.read, msgTread, uint32(2), uint64(0), uint32(1))
				p.fails(tc.write, msgTwrite, uint32(2), uint64(0), uint32(1), []byte("C"))
				p.fails(errBusy, msgTlopen, uint32(2), uint32(0))
			}
			p.must(msgTclunk, uint32(2))
		}
		p.walk(0, 2, "f")
		p.must(msgTlopen, uint32(2), uint32(2|openTruncate))
		if got := p.read(2, 0, 10); got != "" {
			t.Errorf("after truncation: %q", got)
		}
		p.fails(errBadFid, msgTread, uint32(0), uint64(0), uint32(1)) // not open
	})
}

func TestCreate(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		p.write(1, 0, "content")
		p.walk(0, 2)
		p.fails(17, msgTlcreate, uint32(2), "a", uint32(1|openExclusive), uint32(0o600), uint32(0))
		p.must(msgTlcreate, uint32(2), "a", uint32(0|openCreate), uint32(0o600), uint32(0))
		if got := p.read(2, 0, 100); got != "content" {
			t.Errorf("existing file: %q", got)
		}
		p.walk(0, 3)
		p.must(msgTlcreate, uint32(3), "a", uint32(2|openTruncate), uint32(0o600), uint32(0))
		if got := p.read(2, 0, 100); got != "" {
			t.Errorf("after truncation: %q", got)
		}
		p.fails(errBusy, msgTlcreate, uint32(3), "b", uint32(2), uint32(0o600), uint32(0)) // open
		p.walk(0, 4, "a")
		p.fails(errNotDir, msgTlcreate, uint32(4), "b", uint32(2), uint32(0o600), uint32(0))
		for name, want := range map[string]errno{"": errNotExist, "a/b": errInvalid, strings.Repeat("n", 256): errNameTooLong} {
			p.fails(want, msgTlcreate, uint32(0), name, uint32(2), uint32(0o600), uint32(0))
			p.fails(want, msgTmkdir, uint32(0), name, uint32(0o700), uint32(0))
			p.fails(want, msgTunlinkat, uint32(0), name, uint32(0))
			p.fails(want, msgTrenameat, uint32(0), "a", uint32(0), name)
			p.fails(want, msgTlink, uint32(0), uint32(1), name)
		}
		// A file that goes between its creation and its opening is made again.
		n := 0
		r.fs.before = func(_ context.Context, op string) error {
			if op == "hold" {
				if n++; n == 2 { // the first is that of the walk
					return fs.ErrNotExist
				}
			}
			return nil
		}
		p.create(6, "b")
		if n != 2 {
			t.Errorf("%d holds", n)
		}
	})
}

// Whoever clunks a fid while another message uses it does not take the file from under that.
func TestClunkInTheMiddle(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		p.write(1, 0, "content")
		p.must(msgTunlinkat, uint32(0), "a", uint32(0))
		gate := holdUp(r, "read")
		p.send(say(msgTread, 1, uint32(1), uint64(0), uint32(100)))
		synctest.Wait()
		p.must(msgTclunk, uint32(1))
		p.fails(errBadFid, msgTclunk, uint32(1))
		if n := r.fs.held(); n != 2 {
			t.Errorf("%d references, want those to the root and to the file", n)
		}
		close(gate)
		got := split9(t, p.heard())
		if len(got) != 1 || got[0].typ != msgTread+1 || string(got[0].body[4:]) != "content" {
			t.Errorf("answers %+v", got)
		}
	})
}

func TestAppendAndSync(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		p.write(1, 0, "0123")
		if r.fs.synced != 0 {
			t.Error("synced without being asked")
		}
		p.walk(0, 2, "a")
		p.must(msgTlopen, uint32(2), uint32(1|openAppend|openDataSync))
		p.write(2, 0, "45")
		if got := p.read(1, 0, 100); got != "012345" {
			t.Errorf("after append: %q", got)
		}
		if r.fs.synced == 0 {
			t.Error("O_DSYNC write was answered before it was durable")
		}
		p.must(msgTfsync, uint32(1), uint32(1))
		p.must(msgTfsync, uint32(1)) // as older clients say it
		p.fails(errInvalid, msgTfsync, uint32(1), uint32(1), uint32(1))
	})
}

func TestReadAndWrite(t *testing.T) {
	for _, fast := range []bool{false, true} {
		inBubble(t, func(r *rig) {
			r.fs.fast = fast
			p := r.dial()
			p.must(msgTversion, uint32(8192), version)
			p.must(msgTattach, uint32(0), noFid, "root", "", uint32(0))
			p.create(1, "a")
			data := strings.Repeat("0123456789abcdef", 400) // 6400 bytes
			p.write(1, 3, data)
			for _, tc := range []struct {
				off  uint64
				n    int
				want string
			}{
				{0, 8, "\x00\x00\x00" + data[:5]},
				{3, 6400, data},
				{3, 1 << 30, data}, // as much as an answer may be long
				{6402, 10, "f"},
				{6403, 10, ""},
				{1 << 40, 10, ""},
				{0, 0, ""},
			} {
				if got := p.read(1, tc.off, tc.n); got != tc.want {
					t.Errorf("fast %v: %d bytes at %d: %d bytes", fast, tc.n, tc.off, len(got))
				}
			}
			p.write(1, 0, "")
			p.fails(errInvalid, msgTread, uint32(1), uint64(1<<63), uint32(1))
			p.fails(errInvalid, msgTwrite, uint32(1), uint64(1<<63), uint32(1), []byte("x"))
			if got := r.srv.Stats(); (got.FastReads > 0) != fast || got.ReadBytes < 12800 || got.WrittenBytes != 6400 {
				t.Errorf("fast %v: %+v", fast, got)
			}
		})
	}
}

// Many reads that are in memory come back in their order, in few writes, beside one that is not.
func TestBatchedReads(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.fs.fast = true
		p := r.dial().attach()
		p.create(1, "a")
		p.write(1, 0, strings.Repeat("x", 60<<10))
		gate := holdUp(r, "getattr")
		var says []byte
		says = append(says, say(msgTgetattr, 500, uint32(1), uint64(getAll))...)
		for i := range 100 {
			says = append(says, say(msgTread, uint16(i), uint32(1), uint64(i), uint32(50<<10))...)
		}
		says = append(says, say(msgTflush, 501, uint16(99))...)
		p.send(says)
		got := split9(t, p.heard())
		if len(got) != 101 {
			t.Fatalf("%d answers", len(got))
		}
		for i, m := range got[:100] {
			if int(m.tag) != i || len(m.body) != 4+50<<10 {
				t.Errorf("answer %d: tag %d, %d bytes", i, m.tag, len(m.body))
			}
		}
		if got[100].tag != 501 {
			t.Errorf("the flush came before what it flushes: %+v", got[100])
		}
		close(gate)
		if got := split9(t, p.heard()); len(got) != 1 || got[0].tag != 500 {
			t.Errorf("answers %+v", got)
		}
	})
}

func TestReadDir(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		want := []string{".", ".."}
		for i := range 50 {
			name := fmt.Sprintf("file-%d", i)
			want = append(want, name)
			p.must(msgTmknod, uint32(0), name, uint32(0o644), uint32(0), uint32(0), uint32(0))
		}
		p.walk(0, 1)
		p.fails(errBadFid, msgTreaddir, uint32(1), uint64(0), uint32(100)) // not open
		p.must(msgTlopen, uint32(1), uint32(0))
		var got []string
		off := uint64(0)
		for n := 0; ; n++ {
			page := p.list(1, off, 130)
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				got = append(got, e.name)
				off = e.offset
			}
			if n == 3 { // what was listed goes; what comes after stays where it is
				p.must(msgTunlinkat, uint32(0), "file-0", uint32(0))
				p.must(msgTunlinkat, uint32(0), "file-49", uint32(0))
			}
		}
		if want = want[:len(want)-1]; !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
		if e := p.list(1, 0, 4096); e[0].typ != qidDir || e[0].dtype != uint8(engine.TypeDir) || e[2].dtype != uint8(engine.TypeRegular) {
			t.Errorf("types: %+v", e[:3])
		}
		p.fails(errInvalid, msgTreaddir, uint32(1), uint64(0), uint32(10))
		p.fails(errInvalid, msgTreaddir, uint32(1), uint64(0), uint32(0))
		if e := p.list(1, 1<<63, 100); len(e) != 0 {
			t.Errorf("beyond the end: %+v", e)
		}
		p.create(2, "f")
		p.fails(errNotDir, msgTreaddir, uint32(2), uint64(0), uint32(100))
	})
}

func TestRenameAndRemove(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.must(msgTmkdir, uint32(0), "d", uint32(0o755), uint32(0))
		p.create(1, "a")
		p.walk(0, 2, "a")
		p.walk(0, 3, "d")
		p.must(msgTrename, uint32(2), uint32(3), "b")
		p.fails(errNotExist, msgTwalk, uint32(0), uint32(9), []string{"a"})
		p.fails(errNotExist, msgTremove, uint32(1)) // it has another name now; the fid is gone all the same
		p.fails(errBadFid, msgTclunk, uint32(1))
		p.walk(2, 4)                       // knows the new name
		p.fails(17, msgTremove, uint32(3)) // not empty
		p.must(msgTremove, uint32(4))
		p.fails(errBadFid, msgTclunk, uint32(4))
		p.fails(errNotExist, msgTremove, uint32(2))
		p.walk(0, 3, "d")
		p.must(msgTremove, uint32(3))
		p.fails(errBusy, msgTremove, uint32(0)) // the root
		p.fails(errBadFid, msgTgetattr, uint32(0), uint64(getAll))
	})
}

func TestSetattr(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		set := func(valid uint32, rest ...uint64) errno {
			v := [5]uint64{}
			copy(v[:], rest)
			return p.ask(msgTsetattr, uint32(1), valid, uint32(0o4711), uint32(10), uint32(20), v[0], v[1], v[2], v[3], v[4]).errno()
		}
		attr := func() engine.Attr { a, _ := r.fs.GetAttr(t.Context(), 2); return a }
		before := attr()
		for _, tc := range []struct {
			valid uint32
			rest  []uint64
			check func(a engine.Attr) bool
		}{
			{setMode, nil, func(a engine.Attr) bool { return a.Mode == 0o4711 && a.UID == 0 }},
			{setUID, nil, func(a engine.Attr) bool { return a.UID == 10 && a.GID == 0 }},
			{setGID, nil, func(a engine.Attr) bool { return a.GID == 20 }},
			{setSize, []uint64{77}, func(a engine.Attr) bool { return a.Size == 77 }},
			{setAtime | setAtimeSet, []uint64{0, 5, 6}, func(a engine.Attr) bool { return a.Atime == 5e9+6 && a.Mtime == before.Mtime }},
			{setMtime | setMtimeSet, []uint64{0, 0, 0, ^uint64(0), 6}, func(a engine.Attr) bool { return a.Mtime == -1e9+6 }},
			{setMtime | setMtimeSet, []uint64{0, 0, 0, 1 << 60, 6}, func(a engine.Attr) bool { return a.Mtime == secondsMax*1e9+6 }},
			{setAtime, []uint64{0, 5, 6}, func(a engine.Attr) bool { return a.Atime == a.Ctime }},
			{setMtime, nil, func(a engine.Attr) bool { return a.Mtime == a.Ctime }},
			{setCtime, nil, func(a engine.Attr) bool { return a.Ctime > before.Ctime }},
		} {
			if e := set(tc.valid, tc.rest...); e != 0 || !tc.check(attr()) {
				t.Errorf("valid %x %v: errno %d, %+v", tc.valid, tc.rest, e, attr())
			}
		}
		if e := set(setSize, 1<<63); e != errInvalid {
			t.Errorf("size 2^63: errno %d", e)
		}
		if e := set(setMtime|setMtimeSet, 0, 0, 0, 0, 1e9); e != errInvalid {
			t.Errorf("10^9 ns: errno %d", e)
		}
	})
}

func TestXattrs(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		set := func(name, value string, flags uint32) errno {
			p.walk(1, 2)
			p.must(msgTxattrcreate, uint32(2), name, uint64(len(value)), flags)
			for i, c := range []byte(value) { // piece by piece
				p.must(msgTwrite, uint32(2), uint64(i), uint32(1), []byte{c})
			}
			return p.ask(msgTclunk, uint32(2)).errno()
		}
		get := func(name string) string {
			size := p.must(msgTxattrwalk, uint32(1), uint32(2), name).u64()
			got := p.read(2, 0, 3) + p.read(2, 3, 100)
			p.must(msgTclunk, uint32(2))
			if int(size) != len(got) {
				t.Errorf("%q: size %d, %d bytes read", name, size, len(got))
			}
			return got
		}
		if set("user.a", "value", 0) != 0 || set("user.b", "", 0) != 0 || set("user.a", "v", xattrCreate) != 17 {
			t.Error("setting")
		}
		if got := get("user.a"); got != "value" {
			t.Errorf("user.a: %q", got)
		}
		if got := get(""); got != "user.a\x00user.b\x00" {
			t.Errorf("names: %q", got)
		}
		if set("user.a", "", xattrReplace) != 0 || get("") != "user.b\x00" {
			t.Error("removing")
		}
		p.fails(errNotExist, msgTxattrwalk, uint32(1), uint32(2), "user.none")
		p.fails(errTooBig, msgTxattrcreate, uint32(1), "user.c", uint64(maxXattr+1), uint32(0))
		p.fails(errInvalid, msgTxattrcreate, uint32(1), "user.c", uint64(1), uint32(4))

		p.walk(1, 3)
		p.must(msgTxattrcreate, uint32(3), "user.c", uint64(5), uint32(0))
		p.fails(errInvalid, msgTwrite, uint32(3), uint64(1), uint32(1), []byte("x")) // a gap
		p.fails(errInvalid, msgTwrite, uint32(3), uint64(0), uint32(6), []byte("123456"))
		p.fails(errBadFid, msgTread, uint32(3), uint64(0), uint32(5))
		p.fails(errInvalid, msgTgetattr, uint32(3), uint64(getAll))
		p.fails(errInvalid, msgTclunk, uint32(3)) // not all was written
		p.fails(errBadFid, msgTclunk, uint32(3))
	})
}

// The values that fids keep are bounded.
func TestXattrQuota(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		n := 0
		for ; n < 1000; n++ {
			p.walk(1, uint32(n+10))
			if e := p.ask(msgTxattrcreate, uint32(n+10), "user.a", uint64(maxXattr), uint32(0)).errno(); e != 0 {
				if e != errNoMemory {
					t.Errorf("errno %d", e)
				}
				break
			}
		}
		if n != maxXattrs/4/maxXattr {
			t.Errorf("%d values of %d bytes", n, maxXattr)
		}
	})
}

func TestLocks(t *testing.T) {
	inBubble(t, func(r *rig) {
		p, q := r.dial().attach(), r.dial().attach()
		p.create(1, "a")
		q.walk(0, 1, "a")
		lock := func(p *peer, typ uint8, flags uint32, start, n uint64, proc uint32) uint8 {
			return p.must(msgTlock, uint32(1), typ, flags, start, n, proc, "host").u8()
		}
		q.fails(errBadFid, msgTlock, uint32(1), uint8(1), uint32(0), uint64(0), uint64(0), uint32(9), "host") // not open
		q.must(msgTlopen, uint32(1), uint32(2))
		if lock(p, lockExclusive, 0, 10, 10, 7) != lockSuccess || lock(p, lockShared, 0, 10, 10, 8) != lockBlocked ||
			lock(q, lockShared, 0, 19, 1, 7) != lockBlocked || lock(q, lockShared, 0, 20, 0, 7) != lockSuccess {
			t.Error("conflicts")
		}
		d := q.must(msgTgetlock, uint32(1), uint8(lockExclusive), uint64(0), uint64(0), uint32(7), "host")
		if typ, start, n, proc := d.u8(), d.u64(), d.u64(), d.u32(); typ != lockExclusive || start != 10 || n != 10 || proc != 7 {
			t.Errorf("getlock: %d %d %d %d", typ, start, n, proc)
		}
		if typ := q.must(msgTgetlock, uint32(1), uint8(lockShared), uint64(0), uint64(10), uint32(7), "host").u8(); typ != lockUnlock {
			t.Errorf("getlock of what is free: %d", typ)
		}
		q.fails(errInvalid, msgTlock, uint32(1), uint8(3), uint32(0), uint64(0), uint64(0), uint32(9), "host")

		// Who waits gets the lock when it is free, or is flushed.
		q.send(say(msgTlock, 1, uint32(1), uint8(lockExclusive), uint32(lockFlagBlock), uint64(10), uint64(10), uint32(9), "host"))
		q.send(say(msgTlock, 2, uint32(1), uint8(lockExclusive), uint32(lockFlagBlock), uint64(10), uint64(10), uint32(10), "host"))
		q.send(say(msgTflush, 3, uint16(2)))
		got := split9(t, q.heard())
		if len(got) != 2 || got[0].tag != 2 || got[0].errno() != errInterrupted || got[1].tag != 3 {
			t.Errorf("answers %+v", got)
		}
		lock(p, lockUnlock, 0, 0, 0, 7)
		got = split9(t, q.heard())
		if len(got) != 1 || got[0].tag != 1 || got[0].body[0] != lockSuccess {
			t.Errorf("answers %+v", got)
		}
		// Closing the file lets go of what was locked through it.
		q.must(msgTclunk, uint32(1))
		if lock(p, lockExclusive, 0, 0, 0, 7) != lockSuccess {
			t.Error("a lock stays when its fid is clunked")
		}
	})
}

// Those who wait for locks never take the room that unlocking needs.
func TestManyWaitForLocks(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		p.must(msgTlock, uint32(1), uint8(lockExclusive), uint32(0), uint64(0), uint64(0), uint32(0), "host")
		for i := range 300 {
			p.send(say(msgTlock, uint16(i), uint32(1), uint8(lockShared), uint32(lockFlagBlock), uint64(0), uint64(0), uint32(i+1), "host"))
		}
		if got := split9(t, p.heard()); len(got) != 300-maxWaiting || got[0].body[0] != lockBlocked {
			t.Errorf("%d answers", len(got))
		}
		p.send(say(msgTlock, 999, uint32(1), uint8(lockUnlock), uint32(0), uint64(0), uint64(0), uint32(0), "host"))
		if got := split9(t, p.heard()); len(got) != maxWaiting+1 {
			t.Errorf("%d answers", len(got))
		}
	})
}

// users is a user database.
type users map[uint32][]uint32

func (u users) Groups(uid uint32) ([]uint32, error) { return u[uid], nil }

func (u users) UID(name string) (uint32, bool) { return 1000, name == "alice" }

func TestCredentials(t *testing.T) {
	for _, tc := range []struct {
		users Users
		uname string
		uid   uint32
		want  engine.Cred
	}{
		{nil, "root", noUID, engine.Cred{AnyGroup: true}},
		{nil, "ignored", 1000, engine.Cred{UID: 1000, GID: nobody, AnyGroup: true}},
		{nil, "1234", noUID, engine.Cred{UID: 1234, GID: nobody, AnyGroup: true}},
		{nil, "alice", noUID, engine.Cred{UID: nobody, GID: nobody, AnyGroup: true}},
		{users{1000: {100, 101, 102}}, "alice", noUID, engine.Cred{UID: 1000, GID: 100, Groups: []uint32{101, 102}}},
		{users{}, "nobody", 7, engine.Cred{UID: 7, GID: nobody}},
		{users{0: {0}}, "", 0, engine.Cred{}},
	} {
		inBubble(t, func(r *rig) {
			r.srv.Users = tc.users
			p := r.dial().attach()
			p.must(msgTattach, uint32(1), noFid, tc.uname, "", tc.uid)
			p.walk(1, 2)
			p.must(msgTlcreate, uint32(2), "f", uint32(2), uint32(0o600), noUID)
			if got := r.fs.cred; got.UID != tc.want.UID || got.GID != tc.want.GID || got.AnyGroup != tc.want.AnyGroup || !slices.Equal(got.Groups, tc.want.Groups) {
				t.Errorf("%q %d: %+v, want %+v", tc.uname, tc.uid, got, tc.want)
			}
			p.must(msgTmkdir, uint32(1), "d", uint32(0o700), uint32(555))
			if got := r.fs.cred; got.UID != tc.want.UID || got.GID != 555 || !slices.Equal(got.Groups, tc.want.Groups) {
				t.Errorf("with a group: %+v", got)
			}
			p.must(msgTgetattr, uint32(1), uint64(getAll))
			p.fails(0, msgTwalk, uint32(1), uint32(3), []string{"f"})
			if got := r.fs.cred; got.GID != tc.want.GID {
				t.Errorf("the group of one message stays: %+v", got)
			}
		})
	}
}

// A program that may be executed and not read is read by the client's kernel.
func TestOpenToExecute(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "x")
		p.must(msgTsetattr, uint32(1), uint32(setMode), uint32(0o111), make([]byte, 48))
		p.must(msgTattach, uint32(5), noFid, "", "", uint32(1000))
		for flags, want := range map[uint32]errno{0: 0, 1: 13, 2: 13, openTruncate: 13} {
			p.walk(5, 6, "x")
			p.fails(want, msgTlopen, uint32(6), flags)
			p.must(msgTclunk, uint32(6))
		}
	})
}

func TestDevice(t *testing.T) {
	for _, tc := range []struct {
		major, minor uint32
		want         uint64
	}{{0, 0, 0}, {1, 3, 0x103}, {8, 0x12345, 0x12300845}, {0xfff, 0xfffff, 0xffffffff}, {0x1000, 1, 0x100000000001}} {
		if got := device(tc.major, tc.minor); got != tc.want {
			t.Errorf("%#x, %#x: %#x, want %#x", tc.major, tc.minor, got, tc.want)
		}
	}
}

func TestQidVersion(t *testing.T) {
	seen := map[uint32]bool{}
	for i := range int64(1000) {
		for _, a := range []engine.Attr{{Mtime: i, Ctime: 5000}, {Mtime: 5000, Ctime: i * 1e9}} {
			q := qidOf(1, &a)
			if q.version == 0 || seen[q.version] {
				t.Errorf("%+v: version %d", a, q.version)
			}
			seen[q.version] = true
		}
	}
	if q := qidOf(1, &engine.Attr{}); q.version == 0 {
		t.Error("version 0: Linux would not cache")
	}
}
