package engine

import (
	"errors"
	"io/fs"
)

// Kinds of error. A missing name, inode or device matches fs.ErrNotExist, a name that is taken
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
	// ErrNotDir, ErrIsDir, ErrNotEmpty and ErrNameTooLong are POSIX's.
	ErrNotDir      = errors.New("engine: not a directory")
	ErrIsDir       = errors.New("engine: is a directory")
	ErrNotEmpty    = errors.New("engine: directory not empty")
	ErrNameTooLong = errors.New("engine: name too long")
	// ErrTooLarge reports an offset beyond the largest file.
	ErrTooLarge = errors.New("engine: file too large")
)

// What the package wraps of io/fs.
var (
	errNotExist = fs.ErrNotExist
	errExist    = fs.ErrExist
	errInvalid  = fs.ErrInvalid
)
