package engine

import (
	"errors"
	"fmt"
	"io/fs"
)

// Kinds of error. A missing name or device matches fs.ErrNotExist, a name that is taken
// fs.ErrExist, an argument out of range fs.ErrInvalid.
var (
	// ErrClosed reports use after Close.
	ErrClosed = errors.New("engine: closed")
	// ErrFailed reports that the tree and the journal can no longer agree, or that the tree can no
	// longer be written; it is final for this Engine. What was durable is found at the next open.
	ErrFailed = errors.New("engine: failed")
	// ErrCorrupt reports a record that cannot be what was written. It names the key.
	ErrCorrupt = errors.New("engine: corrupt")
	// ErrGap reports a replay that skips an LSN.
	ErrGap = errors.New("engine: gap in the log")
	// ErrSmaller reports that a device would have to shrink.
	ErrSmaller = errors.New("engine: device is larger than asked for")
	// ErrChanged reports that SetAttr's guard did not hold.
	ErrChanged = errors.New("engine: inode changed meanwhile")
	// ErrStale reports an inode number that no inode has any more. It matches fs.ErrNotExist too.
	ErrStale = fmt.Errorf("engine: no such inode: %w", fs.ErrNotExist)
)

// POSIX's errors, each with its errno.
var (
	ErrPerm        = errors.New("engine: operation not permitted")       // EPERM
	ErrAccess      = errors.New("engine: permission denied")             // EACCES
	ErrNotDir      = errors.New("engine: not a directory")               // ENOTDIR
	ErrIsDir       = errors.New("engine: is a directory")                // EISDIR
	ErrNotEmpty    = errors.New("engine: directory not empty")           // ENOTEMPTY
	ErrNameTooLong = errors.New("engine: name too long")                 // ENAMETOOLONG
	ErrTooLarge    = errors.New("engine: file too large")                // EFBIG; an offset beyond the largest file
	ErrBusy        = errors.New("engine: device or resource busy")       // EBUSY
	ErrNoData      = errors.New("engine: no such extended attribute")    // ENODATA
	ErrRange       = errors.New("engine: extended attribute's name")     // ERANGE
	ErrTooBig      = errors.New("engine: extended attribute's value")    // E2BIG
	ErrLoop        = errors.New("engine: is a symbolic link")            // ELOOP
	ErrLinks       = errors.New("engine: too many links")                // EMLINK
	ErrCrossDevice = errors.New("engine: not between these directories") // EXDEV
	ErrNoSpace     = errors.New("engine: volume's size is used up")      // ENOSPC
	ErrNoAddress   = errors.New("engine: no data or hole from there on") // ENXIO
	ErrUnsupported = fmt.Errorf("engine: %w", errors.ErrUnsupported)     // EOPNOTSUPP
)

// What the package wraps of io/fs.
var (
	errNotExist = fs.ErrNotExist
	errExist    = fs.ErrExist
	errInvalid  = fs.ErrInvalid
)
