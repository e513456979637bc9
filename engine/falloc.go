package engine

import (
	"context"
	"errors"
	"fmt"

	"zerofs/journal"
)

// FallocMode is fallocate(2)'s mode.
type FallocMode uint32

// The modes that Fallocate knows.
const (
	FallocKeepSize  FallocMode = 1
	FallocPunchHole FallocMode = 2 // only with FallocKeepSize
	FallocZeroRange FallocMode = 16
)

// Fallocate is fallocate(2). Space is not set aside: the journal makes room for a write when it comes, and what a
// range needs counts as used when it is written. A range that could not be filled is refused. Permission was checked
// by Open.
func (e *Engine) Fallocate(ctx context.Context, c *Cred, ino Ino, mode FallocMode, off, n int64) (journal.LSN, error) {
	nd, err := e.open(ctx, ino, TypeRegular)
	if err != nil {
		return 0, err
	}
	defer e.release(nd)
	switch {
	case off < 0 || n <= 0:
		return 0, fmt.Errorf("engine: inode %d: allocate %d bytes at %d: %w", ino, n, off, errInvalid)
	case off > maxFileSize-n:
		return 0, fmt.Errorf("engine: inode %d: allocate %d bytes at %d: %w", ino, n, off, ErrTooLarge)
	case mode == FallocPunchHole|FallocKeepSize, mode == FallocZeroRange|FallocKeepSize:
		return e.punchFile(ctx, c, nd, off, n)
	case mode == FallocZeroRange:
		if _, err := e.punchFile(ctx, c, nd, off, n); err != nil {
			return 0, err
		}
	case mode != 0 && mode != FallocKeepSize:
		return 0, fmt.Errorf("engine: fallocate with mode %x: %w", mode, ErrUnsupported)
	}
	return e.allocateRange(ctx, c, nd, mode, off+n, n)
}

// allocateRange extends a file to end, or with FallocKeepSize does not.
func (e *Engine) allocateRange(ctx context.Context, c *Cred, n *node, mode FallocMode, end, length int64) (journal.LSN, error) {
	a := n.attr.Load()
	if limit := e.opts.MaxSize; limit > 0 && mode != FallocZeroRange {
		e.mu.Lock()
		used := e.used.bytes
		e.mu.Unlock()
		if used+length-min(length, int64(a.Blocks)) > limit {
			return 0, fmt.Errorf("engine: inode %d: allocate %d bytes: %w", n.ino, length, ErrNoSpace)
		}
	}
	size := uint64(end)
	if mode&FallocKeepSize != 0 {
		size = 0
	}
	if err := e.mayResize(n, max(a.Size, size)); err != nil {
		return 0, err
	}
	return e.touchContent(ctx, c, n, func(a *Attr) error { a.Size = max(a.Size, size); return nil })
}

// touchContent changes attributes as a change of the content does.
func (e *Engine) touchContent(ctx context.Context, c *Cred, n *node, change func(*Attr) error) (journal.LSN, error) {
	t, err := e.begin(ctx, attrOpMax+capabilityOpMax)
	if err != nil {
		return 0, err
	}
	defer t.end()
	t.setContent(c, n, change)
	return t.commit()
}

// punchFile makes a range of a file read as zeros and gives its space back. The size stays.
func (e *Engine) punchFile(ctx context.Context, c *Cred, n *node, off, length int64) (lsn journal.LSN, err error) {
	piece := groupsMax * groupChunks * int64(e.opts.ChunkSize)
	for {
		k := min(length, int64(n.attr.Load().Size)-off, piece-off%piece)
		part, err := e.punchPiece(ctx, c, n, off, max(k, 0))
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return 0, err
		}
		lsn = part
		if k <= 0 { // nothing is there
			return lsn, nil
		}
		if off, length, err = e.skipHole(ctx, n, off+k, length-k); err != nil || length == 0 {
			return lsn, err
		}
	}
}

// skipHole returns what is left of a range from its first data on, or a length of 0.
func (e *Engine) skipHole(ctx context.Context, n *node, off, length int64) (int64, int64, error) {
	a := n.attr.Load()
	size := int64(a.Size)
	if length == 0 || off >= size {
		return off, 0, nil
	}
	if a.Flags&flagDevice != 0 {
		return off, length, nil
	}
	at, err := e.seekFile(ctx, n, off, size, false)
	if err != nil {
		return off, length, err
	}
	if at >= min(off+length, size) {
		return at, 0, nil
	}
	return at, off + length - at, nil
}

// punchPiece punches what goes into one record, which may be nothing but the times.
func (e *Engine) punchPiece(ctx context.Context, c *Cred, n *node, off, length int64) (journal.LSN, error) {
	if length == 0 {
		return e.touchContent(ctx, c, n, func(*Attr) error { return nil })
	}
	h := e.hole(off, length)
	view, err := e.viewGroups(ctx, n, h.first, h.last)
	if err != nil {
		return 0, err
	}
	records := int(h.last/groupChunks-h.first/groupChunks) + 1
	t, err := e.begin(ctx, 2*e.chunkOpMax()+deletesMax*(chunkKeyLen+opOverhead)+attrOpMax+usageOpMax+records*groupOpMax+capabilityOpMax)
	if err != nil {
		return 0, err
	}
	defer t.end()
	n.lock(h.mask)
	defer n.unlock(h.mask)
	if end := (h.off + h.length); end > int64(n.attr.Load().Size) { // it has shrunk
		return 0, errChanged
	}
	h.edges = e.newEdges()
	defer h.edges.free()
	t.counted = n.attr.Load().Flags&flagDevice == 0
	h.build(&t, n, view)
	al, err := e.allocate(&t, n, view, false, 0)
	if err != nil {
		return 0, err
	}
	t.setContent(c, n, func(a *Attr) error { al.apply(a, e.opts.ChunkSize); return nil })
	lsn, err := t.commit()
	al.done(err == nil)
	n.changed()
	if err != nil {
		return 0, err
	}
	h.publish(n.ino)
	return lsn, nil
}

// copyMax is the most that one CopyRange copies.
const copyMax = 64 << 20

// CopyRange is copy_file_range(2): it copies bytes from one file to another, or within one, and returns how many
// those were, perhaps fewer than asked for. Permission was checked by Open.
func (e *Engine) CopyRange(ctx context.Context, c *Cred, src Ino, srcOff int64, dst Ino, dstOff, n int64) (int64, journal.LSN, error) {
	a, err := e.GetAttr(ctx, src)
	if err != nil {
		return 0, 0, err
	}
	if left := max(int64(a.Size)-max(srcOff, 0), 0); a.Type == TypeRegular && n > left {
		n = left // what lies beyond the end does not overlap
	}
	if srcOff < 0 || dstOff < 0 || n < 0 || src == dst && srcOff < dstOff+n && dstOff < srcOff+n {
		return 0, 0, fmt.Errorf("engine: copy %d bytes from %d of inode %d to %d of %d: %w", n, srcOff, src, dstOff, dst, errInvalid)
	}
	buf := e.pools.piece.Get().(*chunkBuf)
	defer e.pools.piece.Put(buf)
	var (
		done int64
		last journal.LSN
	)
	for n = min(n, copyMax); done < n; {
		p := buf.b[:min(int64(len(buf.b)), n-done)]
		k, err := e.Read(ctx, src, p, srcOff+done)
		if err == nil && k > 0 {
			var lsn journal.LSN
			if _, lsn, err = e.Write(ctx, c, dst, p[:k], dstOff+done); err == nil {
				last = lsn
			}
		}
		switch {
		case err != nil && done == 0:
			return 0, 0, err
		case err != nil || k == 0:
			return done, last, nil
		}
		done += int64(k)
	}
	return done, last, nil
}
