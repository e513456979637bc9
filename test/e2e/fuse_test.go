package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// needFUSE asks for what "zerofs mount" takes.
func needFUSE(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		missing(t, "no FUSE in this kernel: %v", err)
	}
	need(t, append([]string{"mount", "umount"}, tools...)...)
}

// volumeMount is a volume mounted by "zerofs mount".
type volumeMount struct {
	*server
	dir string
}

// mountVolume mounts the host's volume on a new directory.
func (h *host) mountVolume(args ...string) *volumeMount {
	h.t.Helper()
	return h.mountVolumeOn(tempDir(h.t), args...)
}

func (h *host) mountVolumeOn(dir string, args ...string) *volumeMount {
	h.t.Helper()
	m := &volumeMount{dir: dir}
	h.t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }) // what a killed server leaves behind
	m.server = launch(h.t, h.admin, append([]string{program, "mount", "-config", h.config}, append(args, dir)...)...)
	m.ready()
	return m
}

// modes are the ways in which a volume can be mounted.
var modes = []struct {
	name  string
	extra string
	skip  string // rows of the table that the kernel decides otherwise
}{
	{name: "default"},
	{name: "writeback cache", extra: "[servers.fuse]\nmountpoint = \"/\"\nwriteback_cache = true\n", skip: "^times/truncate to the same size$"},
	{name: "direct I/O", extra: "[servers.fuse]\nmountpoint = \"/\"\ndirect_io = true\n"},
	{name: "shared locks", extra: "[servers.ninep]\nlisten = [\"127.0.0.1:0\"]\n"},
}

// TestPOSIX runs the table of test/posix on ext4, whose word it is, and on mounts of volumes.
func TestPOSIX(t *testing.T) {
	needFUSE(t, "go", "mkfs.ext4", "losetup")
	table := filepath.Join(tempDir(t), "posix.test")
	build := exec.Command("go", "test", "-buildvcs=false", "-c", "-o", table, "zerofs/test/posix")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ask := func(t *testing.T, dir, skip string) {
		t.Helper()
		must(t, os.Chmod(dir, 0o755))
		cmd := exec.Command(table)
		cmd.Env = append(os.Environ(), "ZEROFS_POSIX_DIR="+dir, "ZEROFS_POSIX_SKIP="+skip)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	t.Run("ext4", func(t *testing.T) {
		image, dir := filepath.Join(tempDir(t), "ext4"), tempDir(t)
		must(t, os.WriteFile(image, nil, 0o600))
		must(t, os.Truncate(image, 1<<30))
		sh(t, "mkfs.ext4", "-q", "-F", image)
		sh(t, "mount", "-o", "loop,acl,user_xattr", image, dir)
		t.Cleanup(func() { sh(t, "umount", dir) })
		ask(t, dir, "")
	})
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			p, _ := fileStore(t)
			mnt := newHost(t, p, settings{extra: m.extra}).mountVolume()
			ask(t, mnt.dir, m.skip)
			mnt.stop()
		})
	}
}

// TestPosixtest runs go-fuse's own suite, but for one test that ext4 fails too: it wants a process's lock to exclude the
// process itself.
func TestPosixtest(t *testing.T) {
	needFUSE(t)
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			p, _ := fileStore(t)
			mnt := newHost(t, p, settings{extra: m.extra}).mountVolume()
			for name, fn := range posixtest.All {
				if name == "FcntlFlockLocksFile" {
					continue
				}
				t.Run(name, func(t *testing.T) {
					dir, err := os.MkdirTemp(mnt.dir, name)
					must(t, err)
					fn(t, dir)
				})
			}
			mnt.stop()
		})
	}
}

// TestMountSurvives: what was synced is there after kill -9, below a mountpoint that the dead server left, and on
// another machine after a clean stop.
func TestMountSurvives(t *testing.T) {
	needFUSE(t)
	p, _ := fileStore(t)
	h := newHost(t, p, settings{interval: "500ms"})
	m := h.mountVolume()
	tree := filepath.Join(m.dir, "tree")
	must(t, os.Mkdir(tree, 0o755))
	want := makeTree(t, tree, 200)
	if fd, err := os.Open(tree); err == nil {
		must(t, fd.Sync()) // and with it everything before
		fd.Close()
	}
	synced, stop := storm(m.dir)
	within(t, "a hundred synced files", func() bool { return synced.Load() > 100 })
	m.kill()
	stop()
	var st syscall.Statfs_t // stat may be answered from what the kernel remembers
	if err := syscall.Statfs(m.dir, &st); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("the mount of a dead server: %v", err)
	}

	m = h.mountVolumeOn(m.dir)
	same(t, "after kill -9", sums(t, filepath.Join(m.dir, "tree")), want)
	checkStorm(t, m.dir, synced.Load())
	m.stop()
	if entries, err := os.ReadDir(m.dir); err != nil || len(entries) != 0 {
		t.Errorf("after the stop the mountpoint has %v, %v", entries, err)
	}

	other := newHost(t, p, settings{}).mountVolume()
	same(t, "on another machine", sums(t, filepath.Join(other.dir, "tree")), want)
	checkStorm(t, other.dir, synced.Load())
	other.stop()
}

// TestUnmount: an unmount by hand stops "zerofs mount", a signal stops it though the mount is in use, and written pages
// that the kernel still has get there.
func TestUnmount(t *testing.T) {
	needFUSE(t)
	p, _ := fileStore(t)
	h := newHost(t, p, settings{stop: "30s"})
	m := h.mountVolume("-writeback-cache")
	must(t, os.WriteFile(filepath.Join(m.dir, "f"), []byte("in the kernel alone"), 0o644))
	sh(t, "umount", m.dir)
	m.wants(0, "unmounted; stopping", "stopped cleanly")

	m = h.mountVolume("-writeback-cache")
	got, err := os.ReadFile(filepath.Join(m.dir, "f"))
	if err != nil || string(got) != "in the kernel alone" {
		t.Errorf("%q, %v", got, err)
	}
	f, err := os.Create(filepath.Join(m.dir, "g"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("of a file that stays open")
	must(t, err)
	m.signal(syscall.SIGTERM)
	m.wants(0, "the mount is in use", "stopped cleanly")
	if entries, err := os.ReadDir(m.dir); err != nil || len(entries) != 0 {
		t.Errorf("after the stop the mountpoint has %v, %v", entries, err)
	}

	m = h.mountVolume()
	got, err = os.ReadFile(filepath.Join(m.dir, "g"))
	if err != nil || string(got) != "of a file that stays open" {
		t.Errorf("%q, %v", got, err)
	}
	m.stop()
}

// TestMountUsage: what "zerofs mount" refuses.
func TestMountUsage(t *testing.T) {
	needFUSE(t)
	p, _ := fileStore(t)
	h := newHost(t, p, settings{})
	for _, c := range []struct {
		args   []string
		status int
		word   string
	}{
		{[]string{"mount"}, 2, "which directory?"},
		{[]string{"mount", "/mnt"}, 2, "which volume?"},
		{[]string{"mount", "-config", h.config, filepath.Join(h.dir, "none")}, 1, "no such file or directory"},
		{[]string{"mount", "-config", h.config, h.config}, 1, "not a directory"},
	} {
		s := launch(t, h.admin, append([]string{program}, c.args...)...)
		s.wants(c.status, c.word)
	}
}

// TestMountFromEnvironment is "zerofs mount URL DIR": no other server is started.
func TestMountFromEnvironment(t *testing.T) {
	needFUSE(t)
	p, _ := fileStore(t)
	dir, cache := tempDir(t), tempDir(t)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	for k, v := range map[string]string{"ZEROFS_ENCRYPTION_PASSWORD": "secret", "SLATEDB_CACHE_DIR": cache, "SLATEDB_CACHE_SIZE_GB": "1"} {
		t.Setenv(k, v)
	}
	s := launch(t, filepath.Join(cache, "admin.sock"), program, "mount", p.url, dir)
	s.ready()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644))
	if mounts, err := os.ReadFile("/proc/mounts"); err != nil || !strings.Contains(string(mounts), fmt.Sprintf("%s %s fuse.zerofs rw,", p.url, dir)) {
		t.Errorf("/proc/mounts: %v\n%s", err, mounts)
	}
	if strings.Contains(s.log.String(), "listening") {
		t.Error("it listens")
	}
	s.stop()
}
