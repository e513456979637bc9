package servers

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"syscall"

	"zerofs/engine"
	"zerofs/engine/locks"
	"zerofs/fence"
	"zerofs/journal"
	"zerofs/tiers/disk"
)

// errnos is the one table from what went wrong inside to what a client is told. The first entry
// that an error matches counts, so the final and the general stand before the particular.
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{fence.ErrFenced, syscall.EIO}, // final for this process: another epoch owns the volume
	{fence.ErrCorrupt, syscall.EIO},
	{journal.ErrCorrupt, syscall.EIO},
	{journal.ErrFailed, syscall.EIO},
	{fence.ErrClosed, syscall.ESHUTDOWN},
	{journal.ErrClosed, syscall.ESHUTDOWN},
	{net.ErrClosed, syscall.ESHUTDOWN},
	{disk.ErrFull, syscall.ENOSPC},
	{engine.ErrStale, syscall.ESTALE},
	{engine.ErrPerm, syscall.EPERM},
	{engine.ErrAccess, syscall.EACCES},
	{engine.ErrNotDir, syscall.ENOTDIR},
	{engine.ErrIsDir, syscall.EISDIR},
	{engine.ErrNotEmpty, syscall.ENOTEMPTY},
	{engine.ErrNameTooLong, syscall.ENAMETOOLONG},
	{engine.ErrTooLarge, syscall.EFBIG},
	{engine.ErrBusy, syscall.EBUSY},
	{engine.ErrNoData, errNoData},
	{engine.ErrRange, syscall.ERANGE},
	{engine.ErrTooBig, syscall.E2BIG},
	{engine.ErrLoop, syscall.ELOOP},
	{engine.ErrLinks, syscall.EMLINK},
	{engine.ErrCrossDevice, syscall.EXDEV},
	{engine.ErrNoSpace, syscall.ENOSPC},
	{engine.ErrNoAddress, syscall.ENXIO},
	{engine.ErrChanged, syscall.EAGAIN},
	{locks.ErrWouldBlock, syscall.EAGAIN},
	{locks.ErrDeadlock, syscall.EDEADLK},
	{locks.ErrInvalid, syscall.EINVAL},
	{syscall.ENOSPC, syscall.ENOSPC},
	{syscall.EDQUOT, syscall.ENOSPC},
	{context.DeadlineExceeded, syscall.ETIMEDOUT},
	{context.Canceled, syscall.ECANCELED},
	{syscall.EINVAL, syscall.EINVAL},
	{fs.ErrInvalid, syscall.EINVAL},
	{fs.ErrNotExist, syscall.ENOENT},
	{fs.ErrExist, syscall.EEXIST},
	{fs.ErrPermission, syscall.EACCES},
	{errors.ErrUnsupported, syscall.ENOTSUP},
}

// Errno returns what a client is told of err: zero for nil, and EIO for everything that the table
// does not name. Protocols which know fewer numbers map the rest to their own EIO.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			return e.errno
		}
	}
	return syscall.EIO
}
