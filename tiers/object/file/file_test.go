package file_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/file"
	"zerofs/tiers/object/objecttest"
)

func open(t *testing.T) object.Store {
	t.Helper()
	s, err := file.Open(filepath.Join(t.TempDir(), "a", "store"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) { objecttest.Conformance(t, open, objecttest.Quirks{}) }

func TestOpenSweepsOldTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := file.Open(dir, time.Now); err != nil {
		t.Fatal(err)
	}
	old, young := filepath.Join(dir, ".tmp", "put-old"), filepath.Join(dir, ".tmp", "put-young")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-61*time.Minute)); err != nil {
		t.Fatal(err)
	}
	s, err := file.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an old temporary file stayed: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("another's temporary file went: %v", err)
	}
	if page, err := s.List(t.Context(), "", ""); err != nil || len(page.Entries) != 0 {
		t.Errorf("list shows %v, %v", page.Entries, err)
	}
}

// brokenBody fails in the middle, as a bad disk below a body does.
type brokenBody struct{ err error }

func (brokenBody) Size() int64 { return 3 << 20 }
func (b brokenBody) ReadAt(p []byte, off int64) (int, error) {
	if off > 0 {
		return 0, b.err
	}
	return len(p), nil
}

func TestPutLeavesNothingWhenItFails(t *testing.T) {
	dir := t.TempDir()
	s, err := file.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	bad := errors.New("bad sector")
	_, err = s.Put(t.Context(), "k", brokenBody{bad}, object.PutOptions{IfAbsent: true})
	if !errors.Is(err, bad) || object.KindOf(err) != object.Fatal {
		t.Fatalf("put: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, ".tmp")); err != nil || len(entries) != 0 {
		t.Errorf("left in .tmp: %v, %v", entries, err)
	}
	if _, err := s.Head(t.Context(), "k"); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("head: %v", err)
	}
}

func TestFullDiskIsTransient(t *testing.T) {
	s := open(t)
	_, err := s.Put(t.Context(), "k", brokenBody{syscall.ENOSPC}, object.PutOptions{})
	if object.KindOf(err) != object.Fatal {
		t.Errorf("a body's own ENOSPC: %v, want fatal", err)
	}
	for err, kind := range map[error]object.Kind{
		syscall.ENOSPC: object.Transient, syscall.EDQUOT: object.Transient, syscall.EIO: object.Transient,
		syscall.EMFILE: object.Transient, syscall.ESTALE: object.Transient, syscall.EACCES: object.Denied,
		syscall.EROFS: object.Denied, syscall.ENOENT: object.NotFound, syscall.ENOTDIR: object.NotFound,
		syscall.EEXIST: object.Exists, syscall.ENAMETOOLONG: object.Fatal,
	} {
		if got := object.KindOf(file.Failed(object.OpGet, "k", &os.PathError{Op: "x", Path: "k", Err: err})); got != kind {
			t.Errorf("%v is %v, want %v", err, got, kind)
		}
	}
}

func TestKeyBelowAnObjectIsFatal(t *testing.T) {
	s := open(t)
	for _, key := range []string{"a", "b/c"} {
		if _, err := s.Put(t.Context(), key, bytes.NewReader(nil), object.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"a/b", "b"} {
		for _, ifAbsent := range []bool{false, true} {
			_, err := s.Put(t.Context(), key, bytes.NewReader(nil), object.PutOptions{IfAbsent: ifAbsent})
			if object.KindOf(err) != object.Fatal {
				t.Errorf("put %s: %v", key, err)
			}
		}
	}
}

// TestLostMount takes the directory away, as umount does: the store is unavailable, not empty.
func TestLostMount(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mnt")
	s, err := file.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "log/1", bytes.NewReader(nil), object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true} { // gone, and the bare mount point
		if again {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		_, _, get := s.Get(t.Context(), "log/1", 0, make([]byte, 1))
		_, head := s.Head(t.Context(), "log/1")
		_, list := s.List(t.Context(), "log/", "")
		_, put := s.Put(t.Context(), "log/1", bytes.NewReader(nil), object.PutOptions{IfAbsent: true})
		for op, err := range map[string]error{"get": get, "head": head, "list": list, "put": put, "delete": s.Delete(t.Context(), "log/1")} {
			if !errors.Is(err, object.ErrTransient) {
				t.Errorf("%s: %v, want a transient error", op, err)
			}
		}
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s, err := file.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "log/1", bytes.NewReader([]byte("x")), object.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	again, err := file.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Put(t.Context(), "log/1", bytes.NewReader(nil), object.PutOptions{IfAbsent: true}); !errors.Is(err, object.ErrExists) {
		t.Fatalf("put on a second handle: %v", err)
	}
}
