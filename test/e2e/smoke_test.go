package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// image writes a file of size bytes, part of it random, part text, part holes.
func image(t *testing.T, size int64, seed uint64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	must(t, err)
	must(t, f.Truncate(size))
	var key [32]byte
	key[0] = byte(seed)
	src := rand.NewChaCha8(key)
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; off += 3 << 20 {
		_, _ = src.Read(buf)
		_, err := f.WriteAt(buf[:min(int64(len(buf)), size-off)], off)
		must(t, err)
		if next := off + 1<<20; next < size {
			text := bytes.Repeat(fmt.Appendf(nil, "block at %d\n", next), 20000)
			_, err := f.WriteAt(text[:min(int64(len(text)), size-next)], next)
			must(t, err)
		}
	}
	must(t, f.Close())
	return path
}

// TestRunDefault is what a newcomer does: "zerofs run", copy something in, and the power fails. It
// runs in a network of its own, since the default port may be in use on this machine.
func TestRunDefault(t *testing.T) {
	need(t, "nbdcopy", "unshare", "nsenter", "ip", "cmp")
	if os.Getuid() != 0 {
		missing(t, "a network namespace needs root")
	}
	dir := filepath.Join(tempDir(t), "z")
	var s *server
	start := func() {
		t.Helper()
		s = launch(t, filepath.Join(dir, "data", "admin.sock"), "unshare", "-n", "sh", "-c", `ip link set lo up && exec "$0" run -dir "$1"`, program, dir)
		s.ready()
	}
	inside := func(name string, args ...string) string {
		t.Helper()
		return sh(t, "nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", s.cmd.Process.Pid), name}, args...)...)
	}
	const uri = "nbd://127.0.0.1:10809/disk"
	src, back := image(t, 24<<20, 1), filepath.Join(t.TempDir(), "back")

	start()
	for _, w := range []string{uri, "nbd-client -N disk", "nbdfuse", "mkfs.ext4"} {
		s.poll("a line that has "+w, func() bool { return strings.Contains(s.log.String(), w) })
	}
	inside("nbdcopy", "--flush", src, uri)
	s.kill()
	start()
	inside("nbdcopy", uri, back)
	sh(t, "cmp", "-n", "25165824", src, back)
	s.stop()

	// Another machine: the same store and password, nothing else.
	text, err := os.ReadFile(filepath.Join(dir, "tiers.toml"))
	must(t, err)
	other := filepath.Join(tempDir(t), "z")
	must(t, os.Mkdir(other, 0o700))
	moved := strings.ReplaceAll(string(text), filepath.Join(dir, "data"), filepath.Join(other, "data"))
	must(t, os.WriteFile(filepath.Join(other, "tiers.toml"), []byte(moved), 0o600))
	dir = other
	start()
	must(t, os.Remove(back))
	inside("nbdcopy", uri, back)
	sh(t, "cmp", "-n", "25165824", src, back)
	s.stop()
}

// TestEnvironment runs a volume described by the environment alone, and changes its password.
func TestEnvironment(t *testing.T) {
	need(t, "unshare", "ip", "nsenter", "nbdinfo")
	if os.Getuid() != 0 {
		missing(t, "a network namespace needs root")
	}
	p, _ := fileStore(t)
	dir := filepath.Join(tempDir(t), "cache")
	env := func(more ...string) []string {
		return append([]string{
			"SLATEDB_CACHE_DIR=" + dir, "SLATEDB_CACHE_SIZE_GB=0.5", "ZEROFS_NBD_PORTS=10809,10810", "ZEROFS_NBD_DEVICE_SIZES_GB=0.125,0.25",
		}, more...)
	}
	command := func(env []string) []string {
		return append(append([]string{"unshare", "-n", "env"}, env...), "sh", "-c", `ip link set lo up && exec "$0" "$@"`, program, p.url)
	}
	s := launch(t, filepath.Join(dir, "admin.sock"), command(env("ZEROFS_ENCRYPTION_PASSWORD=first"))...)
	s.ready()
	for port, size := range map[string]string{"10809": "134217728", "10810": "268435456"} {
		ns := fmt.Sprintf("--net=/proc/%d/ns/net", s.cmd.Process.Pid)
		for _, name := range []string{"", "device_" + port} {
			if out := sh(t, "nsenter", ns, "nbdinfo", "nbd://127.0.0.1:"+port+"/"+name); !strings.Contains(out, size) {
				t.Errorf("port %s, export %q: no size %s in\n%s", port, name, size, out)
			}
		}
	}
	s.stop()
	s = launch(t, "", command(env("ZEROFS_ENCRYPTION_PASSWORD=first", "ZEROFS_NEW_PASSWORD=second"))...)
	s.wants(0, "password changed")
	s = launch(t, "", command(env("ZEROFS_ENCRYPTION_PASSWORD=first"))...)
	s.wants(3)
	s = launch(t, filepath.Join(dir, "admin.sock"), command(env("ZEROFS_ENCRYPTION_PASSWORD=second"))...)
	s.ready()
	s.stop()
}

// TestStatus looks at what the program tells of itself.
func TestStatus(t *testing.T) {
	p, _ := fileStore(t)
	h := newHost(t, p, settings{interval: "1s"})
	s := h.start()
	c := h.dial()
	must(t, c.writeThrough(bytes.Repeat([]byte{7}, 4096), 0))
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/debug/pprof/": "goroutine"} {
		if body, err := s.call("GET", path); err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %v, %q", path, err, body)
		}
	}
	wantFields(t, sh(t, program, "status", "-json", "-socket", h.admin),
		"version", "pid", "url", "phase", "waiting_for", "waiting_seconds", "listeners", "nbd", "requests.put",
		"devices", "volume.volume_id", "volume.epoch", "volume.owner", "volume.durability", "volume.lease", "volume.last_lsn",
		"volume.durable_lsn", "volume.covered_lsn", "volume.lag_seconds", "volume.pressure", "volume.journal_used_bytes",
		"volume.journal_size_bytes", "volume.nvme", "volume.memory", "volume.tree", "volume.uptime_ns")
	wantFields(t, sh(t, program, "version", "-json"), "version", "revision", "format", "go", "os", "arch")
	wantFields(t, sh(t, program, "fence", "status", "-json", "-config", h.config), "volume_id", "url")
	text := sh(t, program, "status", "-config", h.config)
	if !strings.Contains(text, "serving") || strings.Contains(text, "the password") {
		t.Errorf("status:\n%s", text)
	}
	if out := sh(t, program, "fence", "status", "-config", h.config); !strings.Contains(out, "owned by") {
		t.Errorf("fence status of a running volume: %s", out)
	}
	s.settled()
	s.poll("no lag", func() bool { return s.status().Volume.Lag == 0 })
	s.stop()
	if out := sh(t, program, "fence", "status", "-config", h.config); !strings.Contains(out, "released by") {
		t.Errorf("fence status of a stopped volume: %s", out)
	}
	if out, err := exec.Command(program, "status", "-socket", h.admin).CombinedOutput(); err == nil {
		t.Errorf("the status of a stopped volume: %s", out)
	}
	for path, mode := range map[string]os.FileMode{h.nvme: 0o700} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
}

// wantFields checks that a JSON object has fields, named by their paths.
func wantFields(t *testing.T, text string, paths ...string) {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	for _, path := range paths {
		var v any = doc
		for _, name := range strings.Split(path, ".") {
			m, _ := v.(map[string]any)
			var ok bool
			if v, ok = m[name]; !ok {
				t.Errorf("no field %s in\n%s", path, text)
				break
			}
		}
	}
}

// TestSecondSignal: a stop that waits for the store is cut short by a second signal.
func TestSecondSignal(t *testing.T) {
	gw, proxy, endpoint := s3WithProxy(t)
	h := newHost(t, s3Store(gw, endpoint, "second-signal"), settings{interval: "1h"})
	s := h.start()
	must(t, h.dial().writeThrough(bytes.Repeat([]byte{7}, 4096), 0))
	proxy.Set(outage)
	s.signal(syscall.SIGTERM)
	s.poll("stopping", func() bool { return s.status().Phase == "stopping" })
	s.poll("a line about waiting", func() bool { return strings.Contains(s.log.String(), "for=upload") })
	s.signal(syscall.SIGINT)
	s.wants(8, "stopped at once")
	proxy.Set(fair)
	s = h.start()
	s.stop()
}
