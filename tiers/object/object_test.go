package object_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"zerofs/tiers/object"
)

func TestErrors(t *testing.T) {
	cause := errors.New("cause")
	for kind, sentinel := range map[object.Kind]error{
		object.Transient: object.ErrTransient, object.NotFound: object.ErrNotFound, object.Exists: object.ErrExists,
		object.Denied: object.ErrDenied, object.Fatal: object.ErrFatal,
	} {
		err := fmt.Errorf("wrapped: %w", &object.Error{Op: object.OpGet, Key: "k", Kind: kind, Err: cause})
		if !errors.Is(err, sentinel) || !errors.Is(err, cause) || object.KindOf(err) != kind {
			t.Errorf("%v: is %v", err, object.KindOf(err))
		}
		if s := err.Error(); !strings.Contains(s, `get "k"`) || !strings.Contains(s, "cause") {
			t.Errorf("text %q", s)
		}
		bare := &object.Error{Op: object.OpGet, Key: "k", Kind: kind}
		if !errors.Is(bare, sentinel) || strings.Contains(bare.Error(), "nil") {
			t.Errorf("%v", bare)
		}
	}
	for want, err := range map[object.Kind]error{0: nil, object.Transient: context.Canceled, object.Fatal: cause} {
		if got := object.KindOf(err); got != want {
			t.Errorf("kind of %v is %v", err, got)
		}
	}
}

func TestCheckKey(t *testing.T) {
	long := strings.Repeat("s", object.SegmentMax)
	for key, ok := range map[string]bool{
		"a": true, "a/b": true, "log/0000000000000001": true, "ü": true, "a b": true, long: true, long + "/" + long: true,
		"": false, "/": false, "a/": false, "/a": false, "a//b": false, ".": false, "..": false, "a/.b": false,
		long + "x": false, long + "/" + long + "/x": false, "a\x7f": false, "\xc3": false,
	} {
		if err := object.CheckKey(key); (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func FuzzCheckKey(f *testing.F) {
	f.Add("log/0000000000000001")
	f.Add("a//b")
	m := object.NewMemory(time.Now)
	f.Fuzz(func(t *testing.T, key string) {
		_, err := m.Put(t.Context(), key, strings.NewReader("x"), object.PutOptions{})
		if ok := object.CheckKey(key) == nil; ok == (err != nil) {
			t.Fatalf("%q: valid %v, put %v", key, ok, err)
		}
		if err == nil {
			if err := m.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCounts(t *testing.T) {
	s := object.Count(object.NewMemory(time.Now))
	ctx := t.Context()
	for range 2 {
		s.Put(ctx, "a", body("12345"), object.PutOptions{IfAbsent: true})
	}
	s.Get(ctx, "a", 1, make([]byte, 3))
	s.Get(ctx, "none", 0, make([]byte, 3))
	s.Head(ctx, "a")
	s.List(ctx, "", "")
	s.Delete(ctx, "a", "b")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	s.Head(ended, "a")
	want := object.Counts{Put: 2, Get: 2, Head: 2, List: 1, Delete: 2, BytesUp: 10, BytesDown: 3, Errors: 1}
	got := object.CountsOf(object.Retry(object.Hedge(s, object.HedgeOptions{Now: time.Now}), object.RetryOptions{}))
	if got != want || got.Requests() != 9 {
		t.Errorf("%+v, want %+v", got, want)
	}
	if d := got.Sub(want); d != (object.Counts{}) {
		t.Errorf("difference %+v", d)
	}
	if c := object.CountsOf(object.NewMemory(time.Now)); c != (object.Counts{}) {
		t.Errorf("a store that counts nothing: %+v", c)
	}
}
