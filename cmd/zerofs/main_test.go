package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zerofs/config"
	"zerofs/engine"
	"zerofs/engine/volume"
	"zerofs/fence"
	"zerofs/tiers/seal"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"", ExitUsage, "usage:"},
		{"-h", ExitOK, "usage:"},
		{"help", ExitOK, "usage:"},
		{"nonsense", ExitUsage, "neither a command nor a volume's URL"},
		{"-config", ExitUsage, "flag needs an argument"},
		{"-config /nonexistent/tiers.toml", ExitOther, "no such file"},
		{"-config a.toml s3://b", ExitUsage, "beside -config"},
		{"s3://b s3://c", ExitUsage, "unexpected"},
		{"run x", ExitUsage, "unexpected"},
		{"run -h", ExitOK, "usage: zerofs run"},
		{"init -h", ExitOK, "usage: zerofs init"},
		{"init a b", ExitUsage, "want one directory"},
		{"status -h", ExitOK, "usage: zerofs status"},
		{"status x", ExitUsage, "unexpected"},
		{"status -socket a -config b", ExitUsage, "not both"},
		{"status -socket /nonexistent/s", ExitOther, "is zerofs running"},
		{"fence", ExitUsage, "want status or accept"},
		{"fence -h", ExitOK, "usage: zerofs fence"},
		{"fence status -h", ExitOK, "usage: zerofs fence status"},
		{"fence accept -h", ExitOK, "usage: zerofs fence accept"},
		{"fence lift", ExitUsage, "unknown"},
		{"version x", ExitUsage, "unexpected"},
		{"version -h", ExitOK, "usage: zerofs version"},
		{"-nonsense", ExitUsage, "not defined"},
	} {
		var out, errOut bytes.Buffer
		status := dispatch(strings.Fields(c.args), &out, &errOut)
		if status != c.status || !strings.Contains(out.String()+errOut.String(), c.want) {
			t.Errorf("zerofs %s: status %d, want %d; output: %s%s", c.args, status, c.status, out.String(), errOut.String())
		}
	}
}

func TestBadEnvironment(t *testing.T) {
	for _, n := range []string{"ZEROFS_ENCRYPTION_PASSWORD", "SLATEDB_CACHE_DIR", "SLATEDB_CACHE_SIZE_GB"} {
		t.Setenv(n, "")
	}
	var out, errOut bytes.Buffer
	if status := dispatch([]string{"s3://bucket/p"}, &out, &errOut); status != ExitUsage || strings.Count(errOut.String(), "missing") != 3 {
		t.Errorf("status %d: %s", status, errOut.String())
	}
}

func TestInitNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	var out, errOut bytes.Buffer
	if status := dispatch([]string{"init", "-url", "s3://bucket/x", dir}, &out, &errOut); status != ExitOK {
		t.Fatalf("status %d: %s", status, errOut.String())
	}
	cfg, err := config.Load(filepath.Join(dir, "tiers.toml"), config.RealHost())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Volume.URL != "s3://bucket/x" || len(cfg.Volume.Password.Reveal()) != 40 {
		t.Errorf("%+v, password of %d characters", cfg.Volume, len(cfg.Volume.Password.Reveal()))
	}
	for _, n := range []string{"tiers.toml", "password"} {
		info, err := os.Stat(filepath.Join(dir, n))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", n, info.Mode(), err)
		}
	}
	for _, gone := range []string{"tiers.toml", "password", ""} {
		before := contents(t, dir)
		if status := dispatch([]string{"init", dir}, &out, &errOut); status != ExitOther {
			t.Errorf("second init: status %d", status)
		}
		if after := contents(t, dir); after != before {
			t.Errorf("second init changed the files: %s, then %s", before, after)
		}
		if gone == "" {
			break
		}
		// The other file alone is not overwritten either.
		keep := filepath.Join(t.TempDir(), gone)
		if err := os.Rename(filepath.Join(dir, gone), keep); err != nil {
			t.Fatal(err)
		}
		defer os.Rename(keep, filepath.Join(dir, gone))
		if status := dispatch([]string{"init", dir}, &out, &errOut); status != ExitOther {
			t.Errorf("init with %s gone: status %d", gone, status)
		}
		if err := os.Rename(keep, filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
	}
}

func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, n := range []string{"tiers.toml", "password"} {
		text, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %s\n", n, text)
	}
	return b.String()
}

func TestVersionJSON(t *testing.T) {
	var out, errOut bytes.Buffer
	if status := dispatch([]string{"version", "-json"}, &out, &errOut); status != ExitOK {
		t.Fatal(errOut.String())
	}
	var v map[string]any
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"version", "revision", "format", "go", "os", "arch"} {
		if _, ok := v[k]; !ok {
			t.Errorf("no %s in %s", k, out.String())
		}
	}
}

func TestExitStatuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), ExitOther},
		{&config.Problems{}, ExitUsage},
		{badUsage("x"), ExitUsage},
		{volume.ErrMismatch, ExitUsage},
		{engine.ErrSmaller, ExitUsage},
		{seal.ErrPassword, ExitPassword},
		{fence.ErrOwned, ExitOwned},
		{volume.ErrInUse, ExitInUse},
		{fence.ErrFenced, ExitFenced},
		{errStore, ExitStore},
		{volume.ErrNotUploaded, ExitNotUploaded},
		{errUnclean, ExitNotUploaded},
		{volume.ErrDirs, ExitDirs},
		{fence.ErrRolledBack, ExitDirs},
		{errors.Join(fmt.Errorf("a: %w", fence.ErrFenced), volume.ErrNotUploaded), ExitFenced},
	} {
		if got := exitStatus(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("%v: status %d, want %d", c.err, got, c.want)
		}
	}
}
