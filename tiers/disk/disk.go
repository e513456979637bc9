// Package disk is the local disk as the journal, the NVMe tier and the fence's lineage file use
// it: Pebble's vfs.FS for ordinary files, and files for direct I/O beside it.
//
// OS returns the real one. Package disktest has one in memory that forgets what was not synced
// and fails on demand.
//
// # Invariants
//
//   - When WriteAtSync, Sync or SyncDir returned nil, what they cover survives a power cut, as
//     far as the disk keeps its word about flushes.
//   - After an error of a write or a sync nothing is known about the bytes it covered. In
//     particular a later Sync that succeeds proves nothing about them: the kernel may have
//     dropped the pages (see fsync(2)). Callers write again, or stop.
//   - A descriptor's number is never used after Close: calls that are under way end first.
//   - Files are made with mode 0600 and directories with 0700, whatever the umask allows.
//   - Every error that stems from a full disk or quota matches ErrFull and, still, the errno.
//
// # Direct I/O
//
// On Linux a File is opened with O_DIRECT, and WriteAtSync is one pwritev2(2) with RWF_DSYNC. A
// file system that refuses O_DIRECT (tmpfs of old, some network and stacked ones), or whose
// alignment is larger than Align (statx(2) tells), gives a buffered file; WriteAtSync is then
// pwrite(2) and fdatasync(2), and Direct says false. darwin uses F_NOCACHE and F_FULLFSYNC,
// freebsd O_DIRECT and fsync(2). Alignment is checked everywhere, so that a caller's mistake shows
// on any file system.
//
// # Concurrency
//
// Any goroutine may call any method of FS and File. A vfs.File is as Pebble wants it: reads at any
// time, one Write or Sync at a time.
package disk

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Align is the alignment in bytes that direct I/O needs of buffers, offsets and lengths.
const Align = 4096

// ErrFull reports that the disk has no space left. Errors of this package and of files opened
// through it that stem from ENOSPC or EDQUOT match it with errors.Is.
var ErrFull = errors.New("disk: no space left")

// ErrMisaligned reports a call of a File whose buffer, offset or length is not a multiple of Align.
var ErrMisaligned = errors.New("disk: misaligned direct I/O")

// FS is a tree of files on a local disk.
type FS interface {
	vfs.FS

	// OpenDirect opens name for reading and writing with direct I/O; with create it is made
	// (0600) if it does not exist. Where the file system has no direct I/O the file is
	// buffered, WriteAtSync is a write and a data sync, and Direct says so.
	OpenDirect(name string, create bool) (File, error)

	// SyncDir makes the names in directory name durable.
	SyncDir(name string) error
}

// File is a file opened for direct I/O. Buffers, offsets and lengths of reads and writes are
// multiples of Align; see Alloc. Reads may end short at the end of the file. Any goroutine may
// call any method; writes to one range are the caller's to order.
type File interface {
	io.ReaderAt
	io.WriterAt

	// WriteAtSync writes p at off and returns when those bytes, and the metadata needed to
	// read them, are durable (pwritev2(2) with RWF_DSYNC on Linux).
	WriteAtSync(p []byte, off int64) (int, error)

	// Sync makes everything written to the file durable.
	Sync() error

	// Truncate sets the size in bytes.
	Truncate(size int64) error

	// PunchHole gives the space of the range back to the file system; it reads as zeros.
	PunchHole(off, n int64) error

	// Size returns the size in bytes.
	Size() (int64, error)

	// Direct reports whether reads and writes pass by the page cache.
	Direct() bool

	Close() error
}
