// Package disk is the local disk as the journal, the NVMe tier and the fence's lineage file use
// it: Pebble's vfs.FS for ordinary files, and files for direct I/O beside it.
//
// OS returns the real one. Package disktest has one in memory that forgets what was not synced
// and fails on demand.
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

// Alloc returns a zeroed slice of n bytes whose first byte is aligned to Align.
func Alloc(n int) []byte { panic("not built") }
