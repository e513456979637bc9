package disk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errNoDsync reports that pwriteDsync cannot be used here.
var errNoDsync = errors.New("no RWF_DSYNC")

// pwriteDsync is one pwritev2(2) with RWF_DSYNC.
func pwriteDsync(fd int, p []byte, off int64) (int, error) {
	iov := [1][]byte{p}
	n, err := unix.Pwritev2(fd, iov[:], off, unix.RWF_DSYNC)
	if err == unix.ENOSYS || err == unix.EOPNOTSUPP {
		return 0, errNoDsync
	}
	return n, err
}

// datasync is fdatasync(2).
func (d *directFile) datasync() error {
	_, err := retry(func() (int, error) { return 0, unix.Fdatasync(d.fd) })
	return err
}

// punch deallocates a range, or fails with errors.ErrUnsupported.
func punch(fd int, off, n int64) error {
	err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// directWorks reports whether direct I/O in multiples of Align works on fd, which was opened
// with O_DIRECT. Kernels before 6.1 do not tell; then the successful open has to do.
func directWorks(fd int) bool {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err != nil {
		return true
	}
	if st.Mask&unix.STATX_DIOALIGN == 0 {
		return true
	}
	ok := func(align uint32) bool { return align != 0 && Align%align == 0 }
	return ok(st.Dio_mem_align) && ok(st.Dio_offset_align)
}
