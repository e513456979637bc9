package engine

import (
	"context"
	"errors"
	"fmt"

	"zerofs/journal"
)

// Read fills p from off and returns how much of it lies below the end of the file. Of a write that
// runs meanwhile, each chunk shows either all or nothing. Permission was checked by Open.
func (e *Engine) Read(ctx context.Context, ino Ino, p []byte, off int64) (int, error) {
	return e.readFile(ctx, ino, p, off, true)
}

// ReadNoAtime is Read that leaves the access time: O_NOATIME.
func (e *Engine) ReadNoAtime(ctx context.Context, ino Ino, p []byte, off int64) (int, error) {
	return e.readFile(ctx, ino, p, off, false)
}

func (e *Engine) readFile(ctx context.Context, ino Ino, p []byte, off int64, touch bool) (int, error) {
	n, err := e.open(ctx, ino, TypeRegular)
	if err != nil {
		return 0, err
	}
	defer e.release(n)
	if off < 0 {
		return 0, fmt.Errorf("engine: inode %d: read at %d: %w", ino, off, errInvalid)
	}
	if touch {
		e.accessed(n)
	}
	size := int64(n.attr.Load().Size)
	if off >= size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), size-off)]
	if err := e.read(ctx, n, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// TryRead is Read for an inode that is held, if the memory tier has all of it. It waits for nothing; if it
// is not ok, p holds anything.
func (e *Engine) TryRead(ino Ino, p []byte, off int64) (int, bool) {
	if len(p) == 0 || len(p) > tryMax || off < 0 {
		return 0, false
	}
	n := e.nodes.find(ino)
	if n == nil {
		return 0, false
	}
	defer e.release(n)
	a := n.attr.Load()
	if a.Type != TypeRegular || off >= int64(a.Size) {
		return 0, false
	}
	p = p[:min(int64(len(p)), int64(a.Size)-off)]
	if !e.tryRead(n, p, off) {
		return 0, false
	}
	e.accessed(n)
	return len(p), true
}

// Write writes p at off. Every chunk of it is visible when Write returns, and durable after Sync with the LSN.
// It extends the file, sets its times and clears setuid and setgid unless c may keep them. A write of
// more than 512 KiB may be found in part after a crash. Permission was checked by Open.
func (e *Engine) Write(ctx context.Context, c *Cred, ino Ino, p []byte, off int64) (Change, journal.LSN, error) {
	if off < 0 {
		return Change{}, 0, fmt.Errorf("engine: inode %d: write at %d: %w", ino, off, ErrTooLarge)
	}
	_, ch, lsn, err := e.writeFile(ctx, c, ino, p, off)
	return ch, lsn, err
}

// Append is Write at the end of the file; it returns where that was. Of more than 512 KiB each 512 KiB are
// appended for themselves.
func (e *Engine) Append(ctx context.Context, c *Cred, ino Ino, p []byte) (off int64, ch Change, lsn journal.LSN, err error) {
	return e.writeFile(ctx, c, ino, p, atEnd)
}

// atEnd is the offset of appended writes.
const atEnd = -1

func (e *Engine) writeFile(ctx context.Context, c *Cred, ino Ino, p []byte, off int64) (at int64, ch Change, lsn journal.LSN, err error) {
	n, err := e.open(ctx, ino, TypeRegular)
	if err != nil {
		return 0, Change{}, 0, err
	}
	defer e.release(n)
	if off > maxFileSize-int64(len(p)) {
		return 0, Change{}, 0, fmt.Errorf("engine: inode %d: write of %d bytes at %d: %w", ino, len(p), off, ErrTooLarge)
	}
	if len(p) == 0 {
		a := n.current()
		return int64(a.Size), Change{a, a}, 0, nil
	}
	first := true
	for len(p) > 0 {
		k := min(len(p), writeMax)
		if off != atEnd {
			k = min(k, writeMax-int(off%int64(e.opts.ChunkSize)))
		}
		begin, part, l, err := e.writeFilePiece(ctx, c, n, p[:k:k], off)
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return 0, Change{}, 0, err
		}
		if first {
			at, ch, first = begin, part, false
		}
		ch.After, lsn = part.After, l
		p = p[k:]
		if off != atEnd {
			off += int64(k)
		}
	}
	return at, ch, lsn, nil
}

// writeFilePiece writes what goes into one record. It fails with errChanged if it is to be tried again.
func (e *Engine) writeFilePiece(ctx context.Context, c *Cred, n *node, p []byte, off int64) (int64, Change, journal.LSN, error) {
	view, err := e.viewWrite(ctx, n, p, off)
	if err != nil {
		return 0, Change{}, 0, err
	}
	chunks := len(p)/e.opts.ChunkSize + 2
	t, err := e.begin(ctx, chunks*e.chunkOpMax()+attrOpMax+2*groupOpMax+usageOpMax+capabilityOpMax)
	if err != nil {
		return 0, Change{}, 0, err
	}
	defer t.end()
	mask := ^uint64(0) // where the end is only those know who hold all
	if off != atEnd {
		w := e.window(n.ino, p, off)
		mask = stripeMask(w.first, w.last)
	}
	n.lock(mask)
	defer n.unlock(mask)
	if off == atEnd {
		off = int64(n.attr.Load().Size)
		if off > maxFileSize-int64(len(p)) {
			return 0, Change{}, 0, fmt.Errorf("engine: inode %d: append of %d bytes at %d: %w", n.ino, len(p), off, ErrTooLarge)
		}
	}
	w := e.window(n.ino, p, off)
	edges := e.newEdges()
	defer edges.free()
	t.counted = n.attr.Load().Flags&flagDevice == 0
	e.build(&t, &edges, &w)
	al, err := e.allocate(&t, n, view, false, 0)
	if err != nil {
		return 0, Change{}, 0, err
	}
	end := uint64(off) + uint64(len(p))
	t.setContent(c, n, func(a *Attr) error {
		if a.Flags&flagDevice != 0 && end > a.Size && end%SectorSize != 0 {
			return fmt.Errorf("engine: device %d: size %d is no multiple of %d: %w", n.ino, end, SectorSize, errInvalid)
		}
		a.Size = max(a.Size, end)
		al.apply(a, e.opts.ChunkSize)
		return nil
	})
	lsn, err := t.commit()
	al.done(err == nil)
	n.changed()
	if err != nil {
		return 0, Change{}, 0, err
	}
	e.publish(n.ino, &w, len(p))
	edges.publish(n.ino)
	return off, t.changed(0), lsn, nil
}

// viewWrite reads the allocation records that a write needs, if any.
func (e *Engine) viewWrite(ctx context.Context, n *node, p []byte, off int64) (*groupView, error) {
	a := n.attr.Load()
	if a.Flags&flagGroups == 0 {
		return nil, nil
	}
	if off == atEnd {
		off = int64(a.Size)
	}
	w := e.window(n.ino, p, off)
	return e.viewGroups(ctx, n, w.first, w.last)
}
