package objecttest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"zerofs/tiers/object"
)

// listAll reads a listing to its end.
func listAll(t *testing.T, s object.Store, prefix string) []object.Entry {
	t.Helper()
	var all []object.Entry
	for after, pages := "", 0; ; pages++ {
		page, err := s.List(t.Context(), prefix, after)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Entries...)
		if after = page.Next; after == "" {
			return all
		}
		if pages > 10_000 {
			t.Fatal("a listing without end")
		}
	}
}

func keysOf(entries []object.Entry) []string {
	keys := make([]string, len(entries))
	for i, e := range entries {
		keys[i] = e.Key
	}
	return keys
}

// wantListing checks a whole listing: exactly once each, in order where the store has one.
func wantListing(t *testing.T, s object.Store, prefix string, want []string) {
	t.Helper()
	got := keysOf(listAll(t, s, prefix))
	if !s.Ordered() {
		slices.Sort(got)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("list %q: %d keys, want %d: got %.10q, want %.10q", prefix, len(got), len(want), got, want)
	}
}

func testList(t *testing.T, s object.Store) {
	wantListing(t, s, "", []string{})
	// In byte order '-' < '/' < '0': a file system's order of names differs.
	keys := []string{"a-b", "a/b", "a/b-c", "a/c/d", "a/c0", "a0", "b", "c/1"}
	for _, key := range []int{3, 1, 7, 0, 4, 6, 2, 5} {
		put(t, s, keys[key], []byte(keys[key]), object.PutOptions{})
	}
	for prefix, want := range map[string][]string{
		"":     keys,
		"a":    {"a-b", "a/b", "a/b-c", "a/c/d", "a/c0", "a0"},
		"a/":   {"a/b", "a/b-c", "a/c/d", "a/c0"},
		"a/b":  {"a/b", "a/b-c"},
		"a/c":  {"a/c/d", "a/c0"},
		"a/c/": {"a/c/d"},
		"b":    {"b"},
		"b/":   {},
		"zz":   {},
		"a/b-": {"a/b-c"},
	} {
		wantListing(t, s, prefix, want)
	}
	for _, e := range listAll(t, s, "") {
		if e.Size != int64(len(e.Key)) || e.Modified.IsZero() {
			t.Errorf("entry %+v", e)
		}
	}
	if s.Ordered() {
		testListAfter(t, s, keys)
	}
}

// testListAfter checks after, on keys and between them.
func testListAfter(t *testing.T, s object.Store, keys []string) {
	t.Helper()
	for _, after := range append(slices.Clone(keys), "A", "a", "a.", "a/", "a/a", "a/b~", "a/c", "a/c/", "a/c/d/e", "b/", "zz") {
		for _, prefix := range []string{"", "a/", "a/c"} {
			page, err := s.List(t.Context(), prefix, after)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, k := range keys {
				if k > after && len(k) >= len(prefix) && k[:len(prefix)] == prefix {
					want = append(want, k)
				}
			}
			if got := keysOf(page.Entries); !slices.Equal(got, want) {
				t.Errorf("list %q after %q: %q, want %q", prefix, after, got, want)
			}
		}
	}
}

// fill puts n small objects, several at once, and returns their keys, sorted.
func fill(t *testing.T, s object.Store, format string, n int) []string {
	t.Helper()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(format, i)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if _, err := s.Put(t.Context(), keys[i], bytes.NewReader(nil), object.PutOptions{IfAbsent: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(keys)
	return keys
}

func testListPages(t *testing.T, s object.Store) {
	put(t, s, "a-before", nil, object.PutOptions{})
	put(t, s, "z-after", nil, object.PutOptions{})
	keys := fill(t, s, "log/%016x", object.PageMax+3)
	wantListing(t, s, "log/", keys)
	if !s.Ordered() {
		return
	}
	page, err := s.List(t.Context(), "log/", keys[len(keys)-3])
	if err != nil || page.Next != "" || !slices.Equal(keysOf(page.Entries), keys[len(keys)-2:]) {
		t.Fatalf("list near the end: %q, next %q, %v", keysOf(page.Entries), page.Next, err)
	}
	page, err = s.List(t.Context(), "log/", keys[len(keys)-1])
	if err != nil || page.Next != "" || len(page.Entries) != 0 {
		t.Fatalf("list after the end: %q, next %q, %v", keysOf(page.Entries), page.Next, err)
	}
}

func testListAfterDelete(t *testing.T, s object.Store) {
	keys := fill(t, s, "k/%03d", 30)
	for i := 0; i < len(keys); i++ {
		if err := s.Delete(t.Context(), keys[i]); err != nil {
			t.Fatal(err)
		}
		keys = slices.Delete(keys, i, i+1)
		wantListing(t, s, "k/", keys)
	}
	put(t, s, "k/new", nil, object.PutOptions{})
	wantListing(t, s, "k/", append(keys, "k/new"))
}

func testDeleteMany(t *testing.T, s object.Store) {
	keys := fill(t, s, "many/%05d", object.PageMax+50)
	if err := s.Delete(t.Context(), append(slices.Clone(keys[1:]), "many/none")...); err != nil {
		t.Fatal(err)
	}
	wantListing(t, s, "", keys[:1])
}
