package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// disk is a host's device as a block device of this machine: nbdfuse shows the export as a file,
// a loop device lies on the file.
type disk struct {
	t     *testing.T
	dir   string // nbdfuse's mount point
	fuse  *exec.Cmd
	loop  string
	mount string // empty: not mounted
}

// attach makes the host's device a loop device until detach or the test's end.
func (h *host) attach() *disk {
	h.t.Helper()
	d := &disk{t: h.t, dir: tempDir(h.t)}
	d.fuse = exec.Command("nbdfuse", d.dir, h.uri())
	d.fuse.Stdout, d.fuse.Stderr = &output{}, &output{}
	must(h.t, d.fuse.Start())
	h.t.Cleanup(d.drop)
	file := filepath.Join(d.dir, "nbd")
	within(h.t, "nbdfuse", func() bool { _, err := os.Stat(file); return err == nil })
	out, err := exec.Command("losetup", "--direct-io=on", "-f", "--show", file).CombinedOutput()
	if err != nil {
		h.t.Fatalf("losetup: %v\n%s", err, out)
	}
	d.loop = strings.TrimSpace(string(out))
	return d
}

// within waits for a condition.
func within(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hang); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s after %s", what, hang)
		}
	}
}

// makeFS makes a file system on the device.
func (d *disk) makeFS(kind string) {
	d.t.Helper()
	if kind == "ext4" {
		sh(d.t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.loop)
	} else {
		sh(d.t, "mkfs.xfs", "-q", "-f", d.loop)
	}
}

// mountFS mounts the device on a new directory, which it returns.
func (d *disk) mountFS() string {
	d.t.Helper()
	dir := tempDir(d.t)
	sh(d.t, "mount", "-o", "noatime", d.loop, dir)
	d.mount = dir
	return dir
}

// check is a read-only fsck that has to find nothing.
func (d *disk) check(kind string) {
	d.t.Helper()
	if kind == "ext4" {
		sh(d.t, "e2fsck", "-fn", d.loop)
	} else {
		sh(d.t, "xfs_repair", "-n", d.loop)
	}
}

// unmount unmounts what mountFS mounted.
func (d *disk) unmount() {
	d.t.Helper()
	sh(d.t, "umount", d.mount)
	d.mount = ""
}

// detach gives the loop device back, in good order.
func (d *disk) detach() {
	d.t.Helper()
	if d.mount != "" {
		d.unmount()
	}
	sh(d.t, "losetup", "-d", d.loop)
	d.loop = ""
	within(d.t, "unmount of nbdfuse", func() bool { return exec.Command("umount", d.dir).Run() == nil })
	must(d.t, d.fuse.Wait())
	d.fuse = nil
}

// drop gives everything back in any state, as after the death of the server.
func (d *disk) drop() {
	if d.mount != "" {
		if exec.Command("umount", d.mount).Run() != nil {
			_ = exec.Command("umount", "-l", d.mount).Run()
		}
		d.mount = ""
	}
	if d.loop != "" {
		_ = exec.Command("losetup", "-d", d.loop).Run()
		d.loop = ""
	}
	if d.fuse != nil {
		_ = exec.Command("umount", "-l", d.dir).Run()
		_ = d.fuse.Process.Kill()
		_ = d.fuse.Wait()
		d.fuse = nil
	}
}

// sums maps the names of all files below dir to what they are and hold.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || e.Name() == "lost+found" {
			return err
		}
		all[name], err = sum(path, e)
		return err
	}))
	return all
}

func sum(path string, e fs.DirEntry) (string, error) {
	switch {
	case e.IsDir():
		return "directory", nil
	case e.Type()&fs.ModeSymlink != 0:
		return os.Readlink(path)
	case !e.Type().IsRegular():
		return e.Type().String(), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return fmt.Sprintf("%d %x", n, h.Sum(nil)), err
}

// same checks that every file of want is in got with the same sum.
func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	bad := 0
	for name, s := range want {
		if got[name] != s {
			if bad++; bad <= 5 {
				t.Errorf("%s: %s is %q, want %q", what, name, got[name], s)
			}
		}
	}
	if bad > 5 {
		t.Errorf("%s: %d files differ", what, bad)
	}
}

// writeSynced writes a file and syncs it and its directory.
func writeSynced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// syncFS is syncfs on a directory.
func syncFS(t *testing.T, dir string) {
	t.Helper()
	sh(t, "sync", "-f", dir)
}
