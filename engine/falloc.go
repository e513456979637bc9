package engine

import (
	"context"

	"zerofs/journal"
)

// FallocMode is fallocate(2)'s mode.
type FallocMode uint32

// The modes that Fallocate knows.
const (
	FallocKeepSize  FallocMode = 1
	FallocPunchHole FallocMode = 2
	FallocZeroRange FallocMode = 16
)

// Fallocate is fallocate(2).
func (e *Engine) Fallocate(ctx context.Context, c *Cred, ino Ino, mode FallocMode, off, n int64) (journal.LSN, error) {
	return 0, ErrUnsupported
}

// Seek is lseek(2) with SEEK_DATA, or with hole SEEK_HOLE.
func (e *Engine) Seek(ctx context.Context, ino Ino, off int64, hole bool) (int64, error) {
	return 0, ErrUnsupported
}

// CopyRange is copy_file_range(2).
func (e *Engine) CopyRange(ctx context.Context, c *Cred, src Ino, srcOff int64, dst Ino, dstOff, n int64) (int64, journal.LSN, error) {
	return 0, 0, ErrUnsupported
}
