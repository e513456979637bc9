// Package e2e proves the program from end to end with real parts: the built binary, started and
// killed as a process; NBD clients of other people; an S3 server over a socket; ext4, xfs and
// PostgreSQL on the device; a disk that loses what was not flushed to it.
//
// # Rules
//
//   - A test that lacks a tool is skipped and says which; with ZEROFS_REQUIRE_TOOLS set it fails.
//   - A wait has a limit that only a hang reaches; what is asserted is never how fast something was,
//     but where waiting itself is what is tested (leases, outages).
//   - A server's log is shown when its test fails.
//
// # Settings
//
//	ZEROFS_REQUIRE_TOOLS  missing tools are failures
//	ZEROFS_OUTAGE         length of the store's outage, default 20s
//	ZEROFS_BINARY         a zerofs to test instead of one built from this source
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// requireEnv names the variable with which a missing tool fails a test.
const requireEnv = "ZEROFS_REQUIRE_TOOLS"

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if program = os.Getenv("ZEROFS_BINARY"); program != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "zerofs-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "zerofs")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "zerofs/cmd/zerofs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// missing skips the test, or fails it where tools are required.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv(requireEnv) != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// need asks for tools by their names.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, "%s is missing; .ci/run installs it", tool)
		}
	}
}

// needRoot asks for root, and for what mounting a device takes.
func needRoot(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "mounting file systems needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		missing(t, "no FUSE in this kernel: %v", err)
	}
	need(t, append([]string{"nbdfuse", "losetup", "mount", "umount"}, tools...)...)
}

// tempDir makes a directory with a short path, for sockets have 107 bytes; others may pass through it.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "zfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kept: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sh runs a command and returns what it printed; failing fails the test.
func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
