package ninep

import (
	"errors"
	"strconv"
	"syscall"

	"zerofs/servers"
)

// errno is an error that the protocol names, and that this package finds by itself. Its number is
// Linux's on every system.
type errno uint32

const (
	errNotExist     errno = 2  // ENOENT
	errInterrupted  errno = 4  // EINTR: the request was flushed
	errIO           errno = 5  // EIO
	errNoDevice     errno = 6  // ENXIO
	errTooBig       errno = 7  // E2BIG
	errBadFid       errno = 9  // EBADF
	errNoMemory     errno = 12 // ENOMEM
	errBusy         errno = 16 // EBUSY
	errNotDir       errno = 20 // ENOTDIR
	errIsDir        errno = 21 // EISDIR
	errInvalid      errno = 22 // EINVAL
	errTooManyFids  errno = 24 // EMFILE
	errNameTooLong  errno = 36 // ENAMETOOLONG
	errLoop         errno = 40 // ELOOP
	errMessageSize  errno = 90 // EMSGSIZE
	errNotSupported errno = 95 // EOPNOTSUPP
)

// Error names the number.
func (e errno) Error() string { return "ninep: errno " + strconv.Itoa(int(e)) }

// numbers are those of the host's errors.
var numbers = map[syscall.Errno]errno{
	syscall.EPERM: 1, syscall.ENOENT: errNotExist, syscall.EIO: errIO, syscall.ENXIO: errNoDevice, syscall.E2BIG: errTooBig,
	syscall.EBADF: errBadFid, syscall.EAGAIN: 11, syscall.ENOMEM: errNoMemory, syscall.EACCES: 13, syscall.EBUSY: errBusy,
	syscall.EEXIST: 17, syscall.EXDEV: 18, syscall.ENOTDIR: errNotDir, syscall.EISDIR: errIsDir, syscall.EINVAL: errInvalid,
	syscall.EFBIG: 27, syscall.ENOSPC: 28, syscall.EROFS: 30, syscall.EMLINK: 31, syscall.ERANGE: 34, syscall.EDEADLK: 35,
	syscall.ENAMETOOLONG: errNameTooLong, syscall.ENOLCK: 37, syscall.ENOTEMPTY: 39, syscall.ELOOP: errLoop,
	syscall.ENOTSUP: errNotSupported, syscall.ESHUTDOWN: 108, syscall.ETIMEDOUT: 110, syscall.ESTALE: 116,
	syscall.EDQUOT: 122, syscall.ECANCELED: 125,
}

// wireErrno returns the protocol's number for err.
func wireErrno(err error) errno {
	var e errno
	if errors.As(err, &e) {
		return e
	}
	if n, ok := numbers[servers.Errno(err)]; ok {
		return n
	}
	return errIO
}
