package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zerofs/config"
)

func TestPrivateDir(t *testing.T) {
	for _, c := range []struct {
		what, file string
		mode       os.FileMode
		want       os.FileMode
		warns      bool
	}{
		{"new", "", 0, 0o700, false},
		{"empty", "", 0o755, 0o700, false},
		{"ours", "pair", 0o755, 0o700, false},
		{"others", "letter", 0o755, 0o755, true},
		{"private", "letter", 0o700, 0o700, false},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		if c.mode != 0 {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, c.mode); err != nil {
				t.Fatal(err)
			}
		}
		if c.file != "" {
			if err := os.WriteFile(filepath.Join(dir, c.file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		if err := privateDir(dir, newLogger(&out, config.Log{Format: "text"})); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != c.want {
			t.Errorf("%s: mode %v, want %v (%v)", c.what, info.Mode().Perm(), c.want, err)
		}
		if got := strings.Contains(out.String(), "can be entered by others"); got != c.warns {
			t.Errorf("%s: warning %v, want %v", c.what, got, c.warns)
		}
	}
}

func TestIdentityIsStable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := identity(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := identity(path)
	if err != nil || a != b {
		t.Errorf("%+v, then %+v (%v)", a, b, err)
	}
	if a.Boot == ([16]byte{}) || a.Ino == 0 {
		t.Errorf("empty: %+v", a)
	}
	if boottime() <= 0 {
		t.Error("no boot time")
	}
}
