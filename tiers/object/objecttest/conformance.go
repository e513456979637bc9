package objecttest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zerofs/tiers/object"
)

// Quirks are what a store under test is known to do otherwise than the contract says: servers
// that are used in tests only. A backend of ours has none.
type Quirks struct {
	MultipartIgnoresIfAbsent bool
}

// BigBody is the size of the suite's large body, in bytes: above what any backend sends whole.
const BigBody = 20<<20 + 4321

// Conformance runs the suite. open returns an empty store; it is called once for each part of the
// suite and cleans up after itself with t.Cleanup.
func Conformance(t *testing.T, open func(t *testing.T) object.Store, quirks Quirks) {
	for _, part := range []struct {
		name string
		run  func(t *testing.T, s object.Store)
	}{
		{"RoundTrip", testRoundTrip},
		{"Overwrite", testOverwrite},
		{"IfAbsent", testIfAbsent},
		{"Race", testRace},
		{"RaceAtomic", testRaceAtomic},
		{"Missing", testMissing},
		{"List", testList},
		{"ListPages", testListPages},
		{"ListAfterDelete", testListAfterDelete},
		{"DeleteMany", testDeleteMany},
		{"Keys", testKeys},
		{"Clock", testClock},
		{"EndedContext", testEndedContext},
		{"Big", testBig},
		{"BigIfAbsent", func(t *testing.T, s object.Store) {
			if quirks.MultipartIgnoresIfAbsent {
				t.Skip("the server ignores conditions on multipart uploads")
			}
			testBigIfAbsent(t, s)
		}},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, open(t)) })
	}
}

// Pattern returns n bytes that follow from seed. No two aligned blocks of 64 KiB are the same.
func Pattern(seed uint64, n int) []byte {
	const block = 64 << 10
	b := make([]byte, n)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	rand.NewChaCha8(key).Read(b[:min(n, block)])
	for off := block; off < n; off += block {
		copy(b[off:], b[:block])
		for i := off; i < min(n, off+8); i++ {
			b[i] ^= byte(off / block >> (8 * (i - off)))
		}
	}
	return b
}

func put(t *testing.T, s object.Store, key string, data []byte, opts object.PutOptions) object.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, bytes.NewReader(data), opts)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != int64(len(data)) {
		t.Fatalf("put %s: size %d, want %d", key, info.Size, len(data))
	}
	return info
}

// wantObject checks that key holds data.
func wantObject(t *testing.T, s object.Store, key string, data []byte) {
	t.Helper()
	buf := make([]byte, len(data)+7)
	n, info, err := s.Get(t.Context(), key, 0, buf)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf[:n], data) {
		t.Fatalf("get %s: %d bytes, not the %d that were put", key, n, len(data))
	}
	if info.Size != int64(len(data)) {
		t.Fatalf("get %s: info says %d bytes, want %d", key, info.Size, len(data))
	}
}

func wantKind(t *testing.T, err error, kind object.Kind, sentinel error) {
	t.Helper()
	if !errors.Is(err, sentinel) || object.KindOf(err) != kind {
		t.Fatalf("error %v (kind %v), want kind %v", err, object.KindOf(err), kind)
	}
	if e, ok := errors.AsType[*object.Error](err); !ok || e.Op == "" {
		t.Fatalf("error %v is no *object.Error with an operation", err)
	}
}

func testRoundTrip(t *testing.T, s object.Store) {
	for _, size := range []int{0, 1, 4095, 4096, 100_000} {
		key := fmt.Sprintf("rt/%d", size)
		data := Pattern(uint64(size), size)
		put(t, s, key, data, object.PutOptions{})
		wantObject(t, s, key, data)
		info, err := s.Head(t.Context(), key)
		if err != nil || info.Size != int64(size) || info.Modified.IsZero() {
			t.Fatalf("head %s: %+v, %v", key, info, err)
		}
		testRanges(t, s, key, data)
	}
}

// testRanges reads ranges around the ends of an object.
func testRanges(t *testing.T, s object.Store, key string, data []byte) {
	t.Helper()
	size := int64(len(data))
	for _, r := range []struct{ off, n int64 }{
		{0, 0}, {0, 1}, {0, size}, {1, size}, {size / 2, 10}, {size - 1, 1}, {size - 1, 2},
		{size, 0}, {size, 1}, {size + 1, 1}, {size + 1<<40, 4096},
	} {
		if r.off < 0 || r.n < 0 {
			continue
		}
		dst := bytes.Repeat([]byte{0xee}, int(r.n)+3)
		n, info, err := s.Get(t.Context(), key, r.off, dst[:r.n])
		if err != nil {
			t.Fatalf("get %s [%d,+%d): %v", key, r.off, r.n, err)
		}
		var want []byte
		if r.off < size {
			want = data[r.off:min(size, r.off+r.n)]
		}
		if !bytes.Equal(dst[:n], want) || info.Size != size {
			t.Fatalf("get %s [%d,+%d): %d bytes of %d, want %d of %d", key, r.off, r.n, n, info.Size, len(want), size)
		}
		if !bytes.Equal(dst[r.n:], []byte{0xee, 0xee, 0xee}) {
			t.Fatalf("get %s [%d,+%d): wrote past the buffer", key, r.off, r.n)
		}
	}
	if _, _, err := s.Get(t.Context(), key, -1, make([]byte, 1)); object.KindOf(err) != object.Fatal {
		t.Fatalf("get %s at -1: %v, want a fatal error", key, err)
	}
}

func testOverwrite(t *testing.T, s object.Store) {
	for i := range 5 {
		data := Pattern(uint64(i), 1000-100*i)
		put(t, s, "over", data, object.PutOptions{})
		wantObject(t, s, "over", data)
	}
}

func testIfAbsent(t *testing.T, s object.Store) {
	first := Pattern(1, 500)
	put(t, s, "once/a", first, object.PutOptions{IfAbsent: true})
	for _, second := range [][]byte{Pattern(2, 500), first, nil} {
		_, err := s.Put(t.Context(), "once/a", bytes.NewReader(second), object.PutOptions{IfAbsent: true})
		wantKind(t, err, object.Exists, object.ErrExists)
	}
	wantObject(t, s, "once/a", first)
	if err := s.Delete(t.Context(), "once/a"); err != nil {
		t.Fatal(err)
	}
	third := Pattern(3, 10)
	put(t, s, "once/a", third, object.PutOptions{IfAbsent: true})
	wantObject(t, s, "once/a", third)
}

// testRace lets several writers put one key, many times over: one wins each, and it is its bytes
// that are there.
func testRace(t *testing.T, s object.Store) {
	const rounds, writers = 25, 8
	for r := range rounds {
		key := fmt.Sprintf("race/%d", r)
		var wins atomic.Int32
		var winner atomic.Int64
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				_, err := putRetrying(t.Context(), s, key, Pattern(uint64(w), 4096+w))
				switch {
				case err == nil:
					wins.Add(1)
					winner.Store(int64(w))
				case !errors.Is(err, object.ErrExists):
					t.Errorf("round %d, writer %d: %v", r, w, err)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("round %d: %d winners", r, wins.Load())
		}
		w := int(winner.Load())
		wantObject(t, s, key, Pattern(uint64(w), 4096+w))
	}
}

// putRetrying puts if absent and tries again while the store is busy with a rival.
func putRetrying(ctx context.Context, s object.Store, key string, data []byte) (object.Info, error) {
	for {
		info, err := s.Put(ctx, key, bytes.NewReader(data), object.PutOptions{IfAbsent: true})
		if !errors.Is(err, object.ErrTransient) || ctx.Err() != nil {
			return info, err
		}
	}
}

// testRaceAtomic reads while others overwrite: every answer is one whole body.
func testRaceAtomic(t *testing.T, s object.Store) {
	bodies := [][]byte{Pattern(1, 300_000), Pattern(2, 200_001), Pattern(3, 3)}
	put(t, s, "atomic", bodies[0], object.PutOptions{})
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 15 {
				if _, err := s.Put(t.Context(), "atomic", bytes.NewReader(bodies[(w+i)%3]), object.PutOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 30 {
		buf := make([]byte, 300_001)
		n, _, err := s.Get(t.Context(), "atomic", 0, buf)
		if err != nil {
			t.Error(err)
		} else if !slices.ContainsFunc(bodies, func(b []byte) bool { return bytes.Equal(b, buf[:n]) }) {
			t.Errorf("a torn object of %d bytes", n)
		}
	}
	wg.Wait()
}

func testMissing(t *testing.T, s object.Store) {
	_, _, err := s.Get(t.Context(), "no/such", 0, make([]byte, 1))
	wantKind(t, err, object.NotFound, object.ErrNotFound)
	_, _, err = s.Get(t.Context(), "no/such", 0, nil)
	wantKind(t, err, object.NotFound, object.ErrNotFound)
	_, err = s.Head(t.Context(), "no/such")
	wantKind(t, err, object.NotFound, object.ErrNotFound)
	if err := s.Delete(t.Context(), "no/such", "nor-this"); err != nil {
		t.Fatalf("delete of nothing: %v", err)
	}
	if err := s.Delete(t.Context()); err != nil {
		t.Fatalf("delete of no keys: %v", err)
	}
	put(t, s, "dir/below", []byte("x"), object.PutOptions{})
	_, err = s.Head(t.Context(), "dir")
	wantKind(t, err, object.NotFound, object.ErrNotFound)
	_, _, err = s.Get(t.Context(), "dir", 0, make([]byte, 1))
	wantKind(t, err, object.NotFound, object.ErrNotFound)
	if err := s.Delete(t.Context(), "dir"); err != nil {
		t.Fatalf("delete of a directory: %v", err)
	}
	wantObject(t, s, "dir/below", []byte("x"))
}

func testKeys(t *testing.T, s object.Store) {
	for _, key := range []string{"", "/a", "a/", "a//b", "./a", "a/../b", "a\x00", "a\nb", ".hid/x", "\xff"} {
		_, err := s.Put(t.Context(), key, bytes.NewReader(nil), object.PutOptions{})
		wantKind(t, err, object.Fatal, object.ErrFatal)
		_, _, err = s.Get(t.Context(), key, 0, make([]byte, 1))
		wantKind(t, err, object.Fatal, object.ErrFatal)
		_, err = s.Head(t.Context(), key)
		wantKind(t, err, object.Fatal, object.ErrFatal)
		wantKind(t, s.Delete(t.Context(), key), object.Fatal, object.ErrFatal)
	}
	for _, key := range []string{"sp ace/a+b", "ü/ñ", "a=b&c?d#e%20", "deep/er/and/deep/er"} {
		put(t, s, key, []byte(key), object.PutOptions{IfAbsent: true})
		wantObject(t, s, key, []byte(key))
	}
	if got := listAll(t, s, ""); len(got) != 4 {
		t.Fatalf("list: %q", keysOf(got))
	}
}

// testClock checks that the times of a store belong together. Stores count whole seconds.
func testClock(t *testing.T, s object.Store) {
	info := put(t, s, "clock", []byte("x"), object.PutOptions{})
	head, err := s.Head(t.Context(), "clock")
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.List(t.Context(), "", "")
	if err != nil || len(page.Entries) != 1 {
		t.Fatalf("list: %+v, %v", page, err)
	}
	for name, date := range map[string]time.Time{"put": info.Date, "head": head.Date, "list": page.Date} {
		if d := date.Sub(head.Modified); d < -2*time.Second || d > time.Minute {
			t.Errorf("%s: date %v, object modified %v", name, date, head.Modified)
		}
	}
	if d := page.Entries[0].Modified.Sub(head.Modified).Abs(); d > 2*time.Second {
		t.Errorf("list says modified %v, head says %v", page.Entries[0].Modified, head.Modified)
	}
}

func testEndedContext(t *testing.T, s object.Store) {
	put(t, s, "ctx", []byte("x"), object.PutOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(err error) {
		t.Helper()
		wantKind(t, err, object.Transient, object.ErrTransient)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v does not name the ended context", err)
		}
	}
	_, err := s.Put(ctx, "ctx2", bytes.NewReader(nil), object.PutOptions{})
	check(err)
	_, err = s.Put(ctx, "ctx3", bytes.NewReader(make([]byte, BigBody)), object.PutOptions{})
	check(err)
	_, _, err = s.Get(ctx, "ctx", 0, make([]byte, 1))
	check(err)
	_, err = s.Head(ctx, "ctx")
	check(err)
	_, err = s.List(ctx, "", "")
	check(err)
	check(s.Delete(ctx, "ctx"))
	if got := keysOf(listAll(t, s, "")); !slices.Equal(got, []string{"ctx"}) {
		t.Fatalf("after requests that were never sent: %q", got)
	}
}

func testBig(t *testing.T, s object.Store) {
	data := Pattern(9, BigBody)
	put(t, s, "big/plain", data, object.PutOptions{})
	wantObject(t, s, "big/plain", data)
	testRanges(t, s, "big/plain", data)
	put(t, s, "big/plain", data[:17<<20], object.PutOptions{})
	wantObject(t, s, "big/plain", data[:17<<20])
}

func testBigIfAbsent(t *testing.T, s object.Store) {
	first := Pattern(10, BigBody)
	put(t, s, "big/once", first, object.PutOptions{IfAbsent: true})
	_, err := s.Put(t.Context(), "big/once", bytes.NewReader(Pattern(11, BigBody)), object.PutOptions{IfAbsent: true})
	wantKind(t, err, object.Exists, object.ErrExists)
	wantObject(t, s, "big/once", first)

	var wins atomic.Int32
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			switch _, err := putRetrying(t.Context(), s, "big/race", Pattern(uint64(20+w), 16<<20+w)); {
			case err == nil:
				wins.Add(1)
			case !errors.Is(err, object.ErrExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Fatalf("%d winners", wins.Load())
	}
}
