package engine

import "context"

// streams remembers where recent reads of an inode ended.
type streams struct{}

// noteRead is told of each read, and whether it missed the memory tier.
func (e *Engine) noteRead(n *node, w *window, missed bool) {}

// prefetch reads a range into the memory tier.
func (e *Engine) prefetch(ctx context.Context, n *node, off, length int64) error {
	buf := make([]byte, min(length, 1<<20))
	for length > 0 {
		k := min(length, int64(len(buf)))
		if err := e.read(ctx, n, buf[:k], off); err != nil {
			return err
		}
		off, length = off+k, length-k
	}
	return nil
}
