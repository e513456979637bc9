package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// in runs a command in a directory.
func in(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q in %s: %v\n%s", name, args, dir, err, out)
	}
	return string(out)
}

// TestGit makes a repository on a mount, clones, commits, branches, packs and checks it, and finds it whole on
// another machine.
func TestGit(t *testing.T) {
	needFUSE(t, "git")
	p, _ := fileStore(t)
	m := newHost(t, p, settings{}).mountVolume()
	origin, clone := filepath.Join(m.dir, "origin"), filepath.Join(m.dir, "clone")
	must(t, os.Mkdir(origin, 0o755))
	in(t, origin, "git", "init", "-q", "-b", "main")
	for i := range 20 {
		must(t, os.RemoveAll(filepath.Join(origin, "tree")))
		must(t, os.Mkdir(filepath.Join(origin, "tree"), 0o755))
		makeTree(t, filepath.Join(origin, "tree"), 60+10*i)
		in(t, origin, "git", "add", "-A")
		in(t, origin, "git", "commit", "-q", "--allow-empty", "-m", fmt.Sprintf("commit %d", i))
	}
	in(t, m.dir, "git", "clone", "-q", "origin", "clone")
	in(t, clone, "git", "checkout", "-q", "-b", "work")
	must(t, os.WriteFile(filepath.Join(clone, "new"), []byte("new"), 0o644))
	in(t, clone, "git", "add", "-A")
	in(t, clone, "git", "commit", "-q", "-m", "new")
	in(t, clone, "git", "push", "-q", "origin", "work")
	in(t, origin, "git", "gc", "-q", "--prune=now")
	in(t, origin, "git", "fsck", "--full", "--strict")
	if out := in(t, clone, "git", "status", "--porcelain"); out != "" {
		t.Errorf("git status: %s", out)
	}
	want := sums(t, m.dir)
	m.stop()

	m = newHost(t, p, settings{}).mountVolume()
	same(t, "on another machine", sums(t, m.dir), want)
	in(t, filepath.Join(m.dir, "origin"), "git", "fsck", "--full", "--strict")
	m.stop()
}

// TestSQLite: a database with a write-ahead log on a mount, its server killed in the middle, keeps what was committed.
func TestSQLite(t *testing.T) {
	needFUSE(t, "sqlite3")
	p, _ := fileStore(t)
	for _, mode := range modes {
		if mode.name == "direct I/O" {
			continue // a WAL's index is a shared mapping
		}
		t.Run(mode.name, func(t *testing.T) {
			h := newHost(t, p, settings{extra: mode.extra})
			m := h.mountVolume()
			db := "db-" + strings.ReplaceAll(mode.name, " ", "-")
			sql := func(m *volumeMount, text string) string {
				t.Helper()
				return strings.TrimSpace(in(t, m.dir, "sqlite3", "-bail", db, text))
			}
			if got := sql(m, "pragma journal_mode=wal; create table t(a integer primary key, b text);"); got != "wal" {
				t.Fatalf("journal mode %q", got)
			}
			sql(m, "pragma synchronous=full; begin; with recursive n(i) as (select 1 union all select i+1 from n where i<20000) insert into t select i, hex(randomblob(50)) from n; commit;")
			for i := range 50 {
				sql(m, fmt.Sprintf("pragma synchronous=full; insert into t values(%d, 'committed');", 100_000+i))
			}
			m.kill()
			m = h.mountVolumeOn(m.dir)
			if got := sql(m, "pragma integrity_check; select count(*) from t; select count(*) from t where b='committed';"); got != "ok\n20050\n50" {
				t.Errorf("after kill -9: %q", got)
			}
			sql(m, "delete from t where a%2=0; vacuum;")
			if got := sql(m, "pragma integrity_check; select count(*) from t;"); got != "ok\n10025" {
				t.Errorf("after vacuum: %q", got)
			}
			m.stop()
		})
	}
}

// TestGoToolchain unpacks Go's tree on a mount, builds cmd/go there with its cache there too, and wants what a build on
// the local disk gives. It takes minutes: make mount-work.
func TestGoToolchain(t *testing.T) {
	if os.Getenv("ZEROFS_WORK") == "" {
		t.Skip("make mount-work runs it")
	}
	needFUSE(t, "go", "cp", "tar")
	goroot := strings.TrimSpace(in(t, "/", "go", "env", "GOROOT"))
	p, _ := fileStore(t)
	h := newHost(t, p, settings{})
	m := h.mountVolume()
	build := func(dir string) string {
		t.Helper()
		root := filepath.Join(dir, "go")
		must(t, os.MkdirAll(filepath.Join(root, "pkg"), 0o755))
		archive := filepath.Join(tempDir(t), "go.tar")
		in(t, goroot, "tar", "cf", archive, "src", "lib", "VERSION", "go.env", "pkg/include", "pkg/tool")
		in(t, root, "tar", "xf", archive)
		out := filepath.Join(dir, "go.out")
		cmd := exec.Command(filepath.Join(goroot, "bin", "go"), "build", "-trimpath", "-buildvcs=false", "-o", out, "cmd/go")
		cmd.Dir = filepath.Join(root, "src")
		cmd.Env = append(os.Environ(), "GOROOT="+root, "GOCACHE="+filepath.Join(dir, "cache"), "GOTMPDIR="+dir, "CGO_ENABLED=0", "GOFLAGS=", "GOTOOLCHAIN=local")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build in %s: %v\n%s", dir, err, text)
		}
		return out
	}
	local := tempDir(t)
	want, got := build(local), build(m.dir)
	same(t, "on the mount", sums(t, filepath.Join(m.dir, "go")), sums(t, filepath.Join(local, "go")))
	a, err := os.ReadFile(want)
	must(t, err)
	b, err := os.ReadFile(got)
	must(t, err)
	if string(a) != string(b) {
		t.Errorf("the builds differ: %d and %d bytes", len(a), len(b))
	}
	in(t, "/", got, "version")
	m.stop()
}
