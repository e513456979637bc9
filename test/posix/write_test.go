//go:build linux

package posix

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// aligned is a buffer for O_DIRECT.
func aligned(n int) []byte {
	p := make([]byte, n+4096)
	skip := 4096 - int(uintptr(unsafe.Pointer(&p[0]))%4096)
	return p[skip%4096:][:n]
}

var writeRows = []row{
	{"what was written is read", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.write(fd, "hello, ")
		e.write(fd, "world")
		e.content("f", "hello, world")
	}},
	{"beyond the end leaves zeros between", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		_, err := unix.Pwrite(fd, []byte("x"), 10000)
		e.ok(err)
		e.size("f", 10001)
		e.content("f", strings.Repeat("\x00", 10000)+"x")
	}},
	{"pwrite leaves the offset", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.write(fd, "abc")
		_, err := unix.Pwrite(fd, []byte("Z"), 0)
		e.ok(err)
		e.write(fd, "d")
		e.content("f", "Zbcd")
	}},
	{"no bytes change nothing", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_WRONLY, 0)
		n, err := unix.Pwrite(fd, nil, 100)
		e.ok(err)
		e.check(n == 0, "%d", n)
		e.size("f", 3)
	}},
	{"reading at the end gives nothing", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDONLY, 0)
		e.check(e.pread(fd, 10, 3) == "" && e.pread(fd, 10, 300) == "" && e.pread(fd, 10, 2) == "c", "short reads")
	}},
	{"a directory cannot be read as a file", func(e *env) {
		e.mkdir("d", 0o755)
		fd := e.open("d", unix.O_RDONLY, 0)
		_, err := unix.Read(fd, make([]byte, 1))
		e.want(err, unix.EISDIR)
	}},
	{"a negative offset is EINVAL", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		_, err := unix.Pwrite(fd, []byte("x"), -1)
		e.want(err, unix.EINVAL)
		_, err = unix.Pread(fd, []byte("x"), -1)
		e.want(err, unix.EINVAL)
	}},
	{"at random places equals a model", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		rng := rand.New(rand.NewPCG(1, 2))
		var model []byte
		for range 300 {
			off, n := rng.IntN(200_000), 1+rng.IntN(20_000)
			p := bytes.Repeat([]byte{byte(rng.IntN(255) + 1)}, n)
			switch rng.IntN(8) {
			case 0:
				size := rng.IntN(200_000)
				e.ok(unix.Ftruncate(fd, int64(size)))
				model = append(model[:min(size, len(model))], make([]byte, max(0, size-len(model)))...)
				continue
			default:
				_, err := unix.Pwrite(fd, p, int64(off))
				e.ok(err)
			}
			if need := off + n; need > len(model) {
				model = append(model, make([]byte, need-len(model))...)
			}
			copy(model[off:], p)
		}
		got, err := os.ReadFile(e.p("f"))
		e.ok(err)
		e.check(bytes.Equal(got, model), "%d bytes, want %d, or other data", len(got), len(model))
	}},
	{"8 MiB come back", func(e *env) {
		p := make([]byte, 8<<20)
		rng := rand.New(rand.NewPCG(3, 4))
		for i := 0; i+8 <= len(p); i += 8 {
			v := rng.Uint64()
			for j := range 8 {
				p[i+j] = byte(v >> (8 * j))
			}
		}
		e.ok(os.WriteFile(e.p("f"), p, 0o644))
		got, err := os.ReadFile(e.p("f"))
		e.ok(err)
		e.check(bytes.Equal(got, p), "other data")
	}},
	{"a very large offset is a sparse file", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		const off = 1 << 40
		_, err := unix.Pwrite(fd, []byte("end"), off)
		e.ok(err)
		e.size("f", off+3)
		e.check(e.pread(fd, 3, off) == "end", "data")
		st := e.stat("f")
		e.check(st.Blocks < 2048, "%d blocks for three bytes", st.Blocks)
	}},
	{"an offset beyond the largest file is EFBIG", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		_, err := unix.Pwrite(fd, []byte("x"), 1<<63-1)
		e.want(err, unix.EFBIG, unix.EINVAL)
	}},
	{"writev and readv", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		n, err := unix.Writev(fd, [][]byte{[]byte("ab"), []byte("cde"), []byte("f")})
		e.ok(err)
		e.check(n == 6, "%d", n)
		a, b := make([]byte, 4), make([]byte, 4)
		n, err = unix.Preadv(fd, [][]byte{a, b}, 0)
		e.ok(err)
		e.check(n == 6 && string(a)+string(b[:2]) == "abcdef", "%q %q", a, b)
	}},
	{"fsync and fdatasync of file and directory", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.write(fd, "x")
		e.ok(unix.Fsync(fd))
		e.ok(unix.Fdatasync(fd))
		e.ok(unix.Fsync(e.open(".", unix.O_RDONLY, 0)))
		e.ok(unix.Syncfs(fd))
	}},
	{"two descriptors see each other's writes", func(e *env) {
		a := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		b := e.open("f", unix.O_RDWR, 0)
		e.write(a, "first")
		e.check(e.pread(b, 10, 0) == "first", "%q", e.pread(b, 10, 0))
		_, err := unix.Pwrite(b, []byte("F"), 0)
		e.ok(err)
		e.check(e.pread(a, 10, 0) == "First", "%q", e.pread(a, 10, 0))
	}},
}

var truncateRows = []row{
	{"shorter loses the tail for good", func(e *env) {
		e.file("f", "abcdef")
		e.ok(unix.Truncate(e.p("f"), 3))
		e.ok(unix.Truncate(e.p("f"), 6))
		e.content("f", "abc\x00\x00\x00")
	}},
	{"longer shows zeros", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Truncate(e.p("f"), 9000))
		e.content("f", "abc"+strings.Repeat("\x00", 8997))
	}},
	{"longer allocates nothing", func(e *env) {
		e.file("f", "")
		e.ok(unix.Truncate(e.p("f"), 1<<30))
		e.check(e.stat("f").Blocks < 64, "%d blocks", e.stat("f").Blocks)
	}},
	{"within a block, mapped and then grown", func(e *env) {
		e.file("f", strings.Repeat("x", 10000))
		e.ok(unix.Truncate(e.p("f"), 5000))
		fd := e.open("f", unix.O_RDWR, 0)
		e.check(e.pread(fd, 10000, 0) == strings.Repeat("x", 5000), "short data")
		e.ok(unix.Ftruncate(fd, 10000))
		e.check(e.pread(fd, 10000, 0) == strings.Repeat("x", 5000)+strings.Repeat("\x00", 5000), "tail is not zeros")
	}},
	{"a directory is EISDIR", func(e *env) {
		e.mkdir("d", 0o755)
		e.want(unix.Truncate(e.p("d"), 0), unix.EISDIR)
	}},
	{"a negative length is EINVAL", func(e *env) {
		e.file("f", "")
		e.want(unix.Truncate(e.p("f"), -1), unix.EINVAL)
	}},
	{"without write permission is EACCES", func(e *env) {
		e.file("f", "abc")
		e.as(alice, func() { e.want(unix.Truncate(e.p("f"), 0), unix.EACCES) })
	}},
	{"missing is ENOENT", func(e *env) { e.want(unix.Truncate(e.p("f"), 0), unix.ENOENT) }},
	{"ftruncate of a read-only descriptor is EINVAL", func(e *env) {
		e.file("f", "abc")
		fd := e.open("f", unix.O_RDONLY, 0)
		e.want(unix.Ftruncate(fd, 0), unix.EINVAL, unix.EBADF)
	}},
	{"ftruncate works when the mode no longer allows opening", func(e *env) {
		e.mkdir("d", 0o777)
		e.as(alice, func() {
			fd := e.open("d/f", unix.O_CREAT|unix.O_RDWR, 0o600)
			e.write(fd, "abc")
			e.ok(unix.Chmod(e.p("d/f"), 0))
			e.ok(unix.Ftruncate(fd, 1))
			e.check(e.fstat(fd).Size == 1, "size %d", e.fstat(fd).Size)
		})
	}},
	{"through a symlink changes the target", func(e *env) {
		e.file("f", "abc")
		e.ok(unix.Symlink("f", e.p("l")))
		e.ok(unix.Truncate(e.p("l"), 1))
		e.size("f", 1)
	}},
	{"beyond the largest file is EFBIG", func(e *env) {
		e.file("f", "abc")
		e.want(unix.Truncate(e.p("f"), 1<<63-1), unix.EFBIG, unix.EINVAL)
		e.size("f", 3)
	}},
}
