package engine

import (
	"testing"
)

// create makes a file as the superuser.
func create(t testing.TB, e *Engine, dir Ino, name string, f NewFile) Ino {
	t.Helper()
	if f.Mode == 0 {
		f.Mode = 0o755
	}
	made, err := e.Create(t.Context(), nil, dir, name, f)
	if err != nil {
		t.Fatal(err)
	}
	return made.Ino
}

// checkTree fails the test for each problem of the tree, every chunk read.
func checkTree(t testing.TB, e *Engine) {
	t.Helper()
	if _, err := e.Check(t.Context(), true, func(p Problem) { t.Errorf("check: %s", p) }); err != nil {
		t.Errorf("check: %v", err)
	}
}

// settle waits until unlinked files without users are removed.
func settle(t testing.TB, e *Engine) {
	t.Helper()
	if err := e.reclaim(t.Context(), e.reaper.take()); err != nil {
		t.Fatal(err)
	}
}
