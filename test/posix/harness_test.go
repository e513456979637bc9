//go:build linux

package posix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// table is the rows of one call or of calls that belong together.
type table struct {
	call string
	rows []row
}

// row is one behaviour. It gets an empty directory of its own.
type row struct {
	name string
	run  func(e *env)
}

var tables = []table{
	{"open", openRows}, {"write", writeRows}, {"truncate", truncateRows}, {"unlink", unlinkRows}, {"link", linkRows},
	{"rename", renameRows}, {"mkdir", mkdirRows}, {"readdir", readdirRows}, {"symlink", symlinkRows}, {"name", nameRows},
	{"mknod", mknodRows}, {"chmod", chmodRows}, {"chown", chownRows}, {"permission", permissionRows}, {"utimensat", utimensatRows},
	{"times", timesRows()}, {"xattr", xattrRows}, {"acl", aclRows}, {"fallocate", fallocateRows}, {"lseek", lseekRows},
	{"copy_file_range", copyRows}, {"mmap", mmapRows}, {"lock", lockRows}, {"stat", statRows},
}

func TestPOSIX(t *testing.T) {
	root := os.Getenv("ZEROFS_POSIX_DIR")
	switch {
	case root == "":
		t.Skip("ZEROFS_POSIX_DIR names no directory")
	case os.Geteuid() != 0:
		t.Skip("needs root")
	}
	unix.Umask(0)
	var skip *regexp.Regexp
	if s := os.Getenv("ZEROFS_POSIX_SKIP"); s != "" {
		skip = regexp.MustCompile(s)
	}
	base, err := os.MkdirTemp(root, "posix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	must(t, os.Chmod(base, 0o755))
	for _, tb := range tables {
		t.Run(tb.call, func(t *testing.T) {
			for i, r := range tb.rows {
				t.Run(r.name, func(t *testing.T) {
					if skip != nil && skip.MatchString(tb.call+"/"+r.name) {
						t.Skip("ZEROFS_POSIX_SKIP")
					}
					dir := filepath.Join(base, fmt.Sprintf("%s-%d", tb.call, i))
					must(t, os.Mkdir(dir, 0o755))
					runRow(&env{t: t, dir: dir}, r.run)
				})
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// env is what a row works with.
type env struct {
	t   *testing.T
	dir string
}

// failure is what a failed check panics with, so that it also ends a row on a thread of another user.
type failure struct{ text string }

// skipped is what a row panics with that cannot be asked here.
type skipped struct{ text string }

func runRow(e *env, fn func(*env)) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case failure:
			e.t.Error(v.text)
		case skipped:
			e.t.Skip(v.text)
		default:
			panic(v)
		}
	}()
	fn(e)
}

func (e *env) fail(format string, args ...any) {
	where := ""
	for i := 1; i < 12; i++ {
		_, file, line, ok := runtime.Caller(i)
		if !ok {
			break
		}
		if base := filepath.Base(file); base != "harness_test.go" {
			where = fmt.Sprintf("%s:%d: ", base, line)
			break
		}
	}
	panic(failure{where + fmt.Sprintf(format, args...)})
}

// p is a path in the row's directory.
func (e *env) p(name string) string { return e.dir + "/" + name }

// ok wants no error.
func (e *env) ok(err error) {
	if err != nil {
		e.fail("%v", err)
	}
}

// want wants one of these errnos.
func (e *env) want(err error, any ...unix.Errno) {
	for _, n := range any {
		if errors.Is(err, n) {
			return
		}
	}
	e.fail("got %v, want %v", err, any)
}

// check wants a condition to hold.
func (e *env) check(ok bool, format string, args ...any) {
	if !ok {
		e.fail(format, args...)
	}
}

// user is who calls.
type user struct {
	uid, gid int
	groups   []int
}

var (
	alice = user{uid: 54321, gid: 54321}
	bob   = user{uid: 54322, gid: 54322}
	carol = user{uid: 54323, gid: 54323, groups: []int{54330, 54321}} // in alice's group, and in 54330
)

// as runs fn on a thread that belongs to u, and to nobody else afterwards: it ends with fn.
func (e *env) as(u user, fn func()) {
	done := make(chan any)
	go func() {
		runtime.LockOSThread()
		defer func() { done <- recover() }()
		if err := become(u); err != nil {
			panic(failure{err.Error()})
		}
		fn()
	}()
	if v := <-done; v != nil {
		panic(v)
	}
}

// become changes this thread's user alone; the functions of package syscall change the process's.
func become(u user) error {
	groups := make([]uint32, len(u.groups)+1)
	for i, g := range u.groups {
		groups[i] = uint32(g)
	}
	if err := setgroups(groups[:len(u.groups)]); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if _, _, n := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(u.gid), uintptr(u.gid), uintptr(u.gid)); n != 0 {
		return fmt.Errorf("setresgid: %w", n)
	}
	if _, _, n := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.uid), uintptr(u.uid), uintptr(u.uid)); n != 0 {
		return fmt.Errorf("setresuid: %w", n)
	}
	return nil
}

// file makes a file with content.
func (e *env) file(name, content string) {
	e.ok(os.WriteFile(e.p(name), []byte(content), 0o644))
	e.ok(os.Chmod(e.p(name), 0o644))
}

// mkdir makes a directory of exactly this mode.
func (e *env) mkdir(name string, mode uint32) {
	e.ok(unix.Mkdir(e.p(name), 0o700))
	e.ok(unix.Chmod(e.p(name), mode))
}

// own gives a name of the row's directory to u.
func (e *env) own(name string, u user) { e.ok(unix.Lchown(e.p(name), u.uid, u.gid)) }

func (e *env) stat(name string) unix.Stat_t {
	var st unix.Stat_t
	e.ok(unix.Lstat(e.p(name), &st))
	return st
}

func (e *env) fstat(fd int) unix.Stat_t {
	var st unix.Stat_t
	e.ok(unix.Fstat(fd, &st))
	return st
}

// mode wants permission bits, setuid, setgid and sticky to be these.
func (e *env) mode(name string, want uint32) {
	if got := e.stat(name).Mode & 0o7777; got != want {
		e.fail("mode of %s is %04o, want %04o", name, got, want)
	}
}

func (e *env) nlink(name string, want uint64) {
	if got := uint64(e.stat(name).Nlink); got != want {
		e.fail("link count of %s is %d, want %d", name, got, want)
	}
}

func (e *env) size(name string, want int64) {
	if got := e.stat(name).Size; got != want {
		e.fail("size of %s is %d, want %d", name, got, want)
	}
}

func (e *env) content(name, want string) {
	got, err := os.ReadFile(e.p(name))
	e.ok(err)
	if string(got) != want {
		e.fail("%s has %d bytes %.60q, want %d bytes %.60q", name, len(got), got, len(want), want)
	}
}

// gone wants a name not to be there.
func (e *env) gone(name string) {
	var st unix.Stat_t
	e.want(unix.Lstat(e.p(name), &st), unix.ENOENT)
}

// open opens and is closed with the row.
func (e *env) open(name string, flags int, mode uint32) int {
	fd, err := unix.Open(e.p(name), flags|unix.O_CLOEXEC, mode)
	e.ok(err)
	e.t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// openErr opens and wants an error.
func (e *env) openErr(name string, flags int, mode uint32, want ...unix.Errno) {
	fd, err := unix.Open(e.p(name), flags|unix.O_CLOEXEC, mode)
	if err == nil {
		_ = unix.Close(fd)
	}
	e.want(err, want...)
}

func (e *env) write(fd int, s string) {
	n, err := unix.Write(fd, []byte(s))
	e.ok(err)
	e.check(n == len(s), "wrote %d of %d", n, len(s))
}

func (e *env) pread(fd int, n int, off int64) string {
	p := make([]byte, n)
	got, err := unix.Pread(fd, p, off)
	e.ok(err)
	return string(p[:got])
}

func (e *env) names(name string) []string {
	entries, err := os.ReadDir(e.p(name))
	e.ok(err)
	var names []string
	for _, d := range entries {
		names = append(names, d.Name())
	}
	return names
}

// fsType is the type of the file system under test.
func (e *env) fsType() int64 {
	var st unix.Statfs_t
	e.ok(unix.Statfs(e.dir, &st))
	return int64(st.Type)
}

func (e *env) skip(format string, args ...any) { panic(skipped{fmt.Sprintf(format, args...)}) }

func long(n int) string { return strings.Repeat("n", n) }
