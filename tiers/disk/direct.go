//go:build unix

package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/ncw/directio"
	"golang.org/x/sys/unix"
)

// directFile is a File of the operating system. It makes its own system calls rather than
// os.File's, which go on at a misaligned offset after a short read.
type directFile struct {
	name   string
	direct bool

	// life is held for reading across each system call, and for writing by Close: a descriptor
	// number must not be reused by another file while a call is about to use it.
	life sync.RWMutex
	f    *os.File // nil when closed; guarded by life
	fd   int      // of f

	// noDsync is set once the kernel or file system turned out to lack RWF_DSYNC.
	noDsync atomic.Bool
}

// OpenDirect opens name for direct I/O, or buffered where that is refused.
func (o osFS) OpenDirect(name string, create bool) (File, error) {
	flags := os.O_RDWR | syscall.O_CLOEXEC
	if create {
		flags |= os.O_CREATE
	}
	f, err := directio.OpenFile(name, flags, filePerm)
	direct := err == nil && directWorks(int(f.Fd()))
	if err == nil && !direct {
		if err := f.Close(); err != nil {
			return nil, opError("open", name, err)
		}
	}
	if !direct && (err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)) {
		f, err = os.OpenFile(name, flags, filePerm)
	}
	if err != nil {
		return nil, opError("open", name, err)
	}
	return &directFile{name: name, direct: direct, f: f, fd: int(f.Fd())}, nil
}

// enter begins a system call on the descriptor; leave ends it.
func (d *directFile) enter(op string) error {
	d.life.RLock()
	if d.f == nil {
		d.life.RUnlock()
		return opError(op, d.name, os.ErrClosed)
	}
	return nil
}

func (d *directFile) leave() { d.life.RUnlock() }

// ReadAt reads whole blocks; at the end of the file it returns what there is and io.EOF.
func (d *directFile) ReadAt(p []byte, off int64) (int, error) {
	if err := CheckAligned("read", d.name, p, off); err != nil {
		return 0, err
	}
	if err := d.enter("read"); err != nil {
		return 0, err
	}
	defer d.leave()
	done := 0
	for done < len(p) {
		n, err := retry(func() (int, error) { return unix.Pread(d.fd, p[done:], off+int64(done)) })
		if err != nil {
			return done, opError(fmt.Sprintf("read %d bytes at %d of", len(p), off), d.name, err)
		}
		if n == 0 {
			return done, io.EOF
		}
		if done += n; done%Align == 0 {
			continue
		}
		// A short read inside a block is the end of the file. Where it is not, go back to the
		// block's start, for offsets must stay aligned.
		size, err := d.size()
		if err != nil {
			return done, opError("stat", d.name, err)
		}
		if off+int64(done) >= size {
			return done, io.EOF
		}
		if n < Align {
			return done, opError("read", d.name, io.ErrUnexpectedEOF)
		}
		done &^= Align - 1
	}
	return done, nil
}

// WriteAt writes p at off. It is durable after a Sync.
func (d *directFile) WriteAt(p []byte, off int64) (int, error) {
	return d.write("write", p, off, false)
}

// WriteAtSync writes p at off and returns when it is durable.
func (d *directFile) WriteAtSync(p []byte, off int64) (int, error) {
	return d.write("write and sync", p, off, true)
}

func (d *directFile) write(op string, p []byte, off int64, durable bool) (int, error) {
	if err := CheckAligned(op, d.name, p, off); err != nil {
		return 0, err
	}
	if err := d.enter(op); err != nil {
		return 0, err
	}
	defer d.leave()
	done, syncLeft := 0, false
	for done < len(p) {
		n, synced, err := d.writeOnce(p[done:], off+int64(done), durable)
		if err == nil && n < Align && n < len(p)-done {
			err = io.ErrShortWrite // no progress by a whole block
		}
		if err != nil {
			return done, opError(fmt.Sprintf("%s %d bytes at %d of", op, len(p), off), d.name, err)
		}
		if done += n; done < len(p) {
			done &^= Align - 1
		}
		syncLeft = syncLeft || durable && !synced
	}
	if syncLeft {
		if err := d.datasync(); err != nil {
			return 0, opError("sync", d.name, err)
		}
	}
	return done, nil
}

// writeOnce makes one attempt at p; synced says that what was written is durable already.
func (d *directFile) writeOnce(p []byte, off int64, durable bool) (n int, synced bool, err error) {
	if durable && d.direct && !d.noDsync.Load() {
		n, err = retry(func() (int, error) { return pwriteDsync(d.fd, p, off) })
		if !errors.Is(err, errNoDsync) {
			return n, true, err
		}
		d.noDsync.Store(true)
	}
	n, err = retry(func() (int, error) { return unix.Pwrite(d.fd, p, off) })
	return n, false, err
}

// Sync makes everything written to the file durable.
func (d *directFile) Sync() error {
	if err := d.enter("sync"); err != nil {
		return err
	}
	defer d.leave()
	return opError("sync", d.name, d.f.Sync())
}

// Truncate sets the size in bytes.
func (d *directFile) Truncate(size int64) error {
	if err := d.enter("truncate"); err != nil {
		return err
	}
	defer d.leave()
	return opError("truncate", d.name, d.f.Truncate(size))
}

// PunchHole gives the range's space back. Where the file system cannot, zeros are written.
func (d *directFile) PunchHole(off, n int64) error {
	if off < 0 || n < 0 || off%Align != 0 || n%Align != 0 {
		return fmt.Errorf("disk: punch %s: %d bytes at %d: %w", d.name, n, off, ErrMisaligned)
	}
	if n == 0 {
		return nil
	}
	if err := d.enter("punch"); err != nil {
		return err
	}
	_, err := retry(func() (int, error) { return 0, punch(d.fd, off, n) })
	d.leave()
	if errors.Is(err, errors.ErrUnsupported) {
		err = d.writeZeros(off, n)
	}
	return opError("punch", d.name, err)
}

// writeZeros overwrites the range with zeros as far as the file goes.
func (d *directFile) writeZeros(off, n int64) error {
	size, err := d.Size()
	if err != nil {
		return err
	}
	end := min(off+n, size+(Align-size%Align)%Align)
	if end <= off {
		return nil
	}
	zeros := GetBuf(int(min(end-off, 1<<20)))
	defer PutBuf(zeros)
	clear(zeros)
	for off < end {
		k, err := d.WriteAt(zeros[:min(end-off, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off += int64(k)
	}
	if size%Align != 0 && end > size {
		return d.Truncate(size)
	}
	return nil
}

// Size returns the size in bytes.
func (d *directFile) Size() (int64, error) {
	if err := d.enter("stat"); err != nil {
		return 0, err
	}
	defer d.leave()
	n, err := d.size()
	return n, opError("stat", d.name, err)
}

// size is Size inside of a call.
func (d *directFile) size() (int64, error) {
	var st unix.Stat_t
	_, err := retry(func() (int, error) { return 0, unix.Fstat(d.fd, &st) })
	return st.Size, err
}

// Direct reports whether reads and writes pass by the page cache.
func (d *directFile) Direct() bool { return d.direct }

// Close waits for calls under way and closes the file.
func (d *directFile) Close() error {
	d.life.Lock()
	defer d.life.Unlock()
	if d.f == nil {
		return opError("close", d.name, os.ErrClosed)
	}
	f := d.f
	d.f, d.fd = nil, -1
	return opError("close", d.name, f.Close())
}

// retry repeats a system call which a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
