package engine

import (
	"context"

	"zerofs/journal"
)

// Flags of SetXattr, as setxattr(2)'s.
const (
	XattrCreate  = 1 // the name must not be there
	XattrReplace = 2 // it must
)

// GetXattr returns an extended attribute.
func (e *Engine) GetXattr(ctx context.Context, c *Cred, ino Ino, name string) ([]byte, error) {
	return nil, ErrUnsupported
}

// SetXattr sets an extended attribute.
func (e *Engine) SetXattr(ctx context.Context, c *Cred, ino Ino, name string, value []byte, flags int) (journal.LSN, error) {
	return 0, ErrUnsupported
}

// ListXattr returns the names of an inode's extended attributes.
func (e *Engine) ListXattr(ctx context.Context, c *Cred, ino Ino) ([]string, error) {
	return nil, nil
}

// RemoveXattr removes an extended attribute.
func (e *Engine) RemoveXattr(ctx context.Context, c *Cred, ino Ino, name string) (journal.LSN, error) {
	return 0, ErrUnsupported
}
