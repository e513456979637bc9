// Package imports checks which way the module's imports run.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// layers are the packages from the top to the bottom; a package may import those of layers below
// its own, and packages below itself. Tests are free.
var layers = [][]string{
	{"zerofs/cmd", "zerofs/benchmarks"},
	{"zerofs/test"},
	{"zerofs/config"},
	{"zerofs/servers"},
	{"zerofs/engine"},
	{"zerofs/journal", "zerofs/tiers"},
	{"zerofs/fence"},
	{"zerofs/tiers/nvme", "zerofs/tiers/memory"},
	{"zerofs/tiers/seal"},
	{"zerofs/tiers/object", "zerofs/tiers/disk"},
}

// layer returns the layer of the longest name that is path or a parent of it.
func layer(path string) (level int, name string) {
	level = -1
	for i, l := range layers {
		for _, n := range l {
			if (path == n || strings.HasPrefix(path, n+"/")) && len(n) > len(name) {
				level, name = i, n
			}
		}
	}
	return level, name
}

func TestImportsRunOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "zerofs/...").Output()
	if err != nil {
		var e *exec.ExitError
		if errors.As(err, &e) {
			t.Log(string(e.Stderr))
		}
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		from, name := layer(p.ImportPath)
		if from < 0 {
			t.Errorf("%s is in no layer", p.ImportPath)
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, "zerofs/") {
				continue
			}
			to, toName := layer(imp)
			if to < from || (to == from && toName != name) {
				t.Errorf("%s imports %s, which lies above or beside it", p.ImportPath, imp)
			}
		}
	}
	if seen < 15 {
		t.Fatalf("only %d packages", seen)
	}
}

// TestNoHiddenWorld: below cmd and config, time, randomness and the disk are injected. The
// packages named here are the real thing that is injected.
func TestNoHiddenWorld(t *testing.T) {
	real := map[string]string{
		"zerofs/tiers/disk":           "the operating system's disk",
		"zerofs/tiers/object/file":    "the store in a directory",
		"zerofs/tiers/object/s3":      "the store over the network",
		"zerofs/tiers/object/backend": "opens the stores",
		"zerofs/servers":              "listeners: sockets are files",
	}
	banned := []string{"time.Now(", "time.Since(", "time.Until(", "os.Open", "os.Create", "os.ReadFile", "os.WriteFile", "os.Remove", "os.Rename", "os.Stat", "os.Mkdir", `"math/rand`, `"crypto/rand"`}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{.Dir}} {{join .GoFiles ","}}`, "zerofs/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		f := strings.SplitN(line, " ", 3)
		if level, _ := layer(f[0]); len(f) < 3 || level <= 2 || real[f[0]] != "" || strings.HasSuffix(f[0], "test") {
			continue
		}
		for _, file := range strings.Split(f[2], ",") {
			checkFile(t, f[1]+"/"+file, banned)
		}
	}
}
