package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Seek is lseek(2) with SEEK_DATA, or with hole SEEK_HOLE: the first offset from off on where there is data, or
// none. At the end of the file is a hole.
func (e *Engine) Seek(ctx context.Context, ino Ino, off int64, hole bool) (int64, error) {
	n, err := e.open(ctx, ino, TypeRegular)
	if err != nil {
		return 0, err
	}
	defer e.release(n)
	a := n.attr.Load()
	size := int64(a.Size)
	if off < 0 || off >= size {
		return 0, fmt.Errorf("engine: inode %d: seek from %d of %d: %w", ino, off, size, ErrNoAddress)
	}
	var at int64
	if a.Flags&flagDevice != 0 {
		at, err = e.seekDevice(ctx, n, off, size, hole)
	} else {
		at, err = e.seekFile(ctx, n, off, size, hole)
	}
	switch {
	case err != nil:
		return 0, err
	case at >= size && !hole:
		return 0, fmt.Errorf("engine: inode %d: no data from %d on: %w", ino, off, ErrNoAddress)
	}
	return min(at, size), nil
}

// seekDevice looks through a device's chunks. Without success it returns size.
func (e *Engine) seekDevice(ctx context.Context, n *node, off, size int64, hole bool) (int64, error) {
	at := off
	err := e.extents(ctx, n, off, size-off, func(length int64, isHole bool) bool {
		if isHole == hole {
			return false
		}
		at += length
		return true
	})
	return at, err
}

// seekFile looks through a file's account of chunks. Without success it returns size or more.
func (e *Engine) seekFile(ctx context.Context, n *node, off, size int64, hole bool) (int64, error) {
	chunk := int64(e.opts.ChunkSize)
	if err := e.guard.enter(); err != nil {
		return 0, err
	}
	defer e.guard.exit()
	snap := e.db.NewSnapshot() // the inode and the records are of one moment
	defer snap.Close()
	a, err := snapAttr(snap, n.ino)
	if err != nil {
		return 0, fmt.Errorf("engine: inode %d: %w", n.ino, err)
	}
	pos, end := uint64(off/chunk), uint64((size+chunk-1)/chunk)
	found := false
	plain := func(to uint64) { // chunks before to have no record
		if hole {
			pos = max(pos, min(a.dense, to))
			found = pos < to
		} else if found = pos < min(a.dense, to); !found {
			pos = max(pos, to)
		}
	}
	if a.Flags&flagGroups != 0 {
		err := e.scanGroups(ctx, snap, n.ino, pos/groupChunks, (end-1)/groupChunks, func(i uint64, g *group) bool {
			base := i * groupChunks
			if pos < base {
				if plain(base); found {
					return false
				}
			}
			for ; pos < base+groupChunks; pos++ {
				if g.has(pos-base) != hole {
					found = true
					return false
				}
			}
			return true
		})
		if err != nil {
			return 0, err
		}
	}
	if !found {
		plain(end)
	}
	return max(off, int64(pos)*chunk), nil
}

// snapAttr reads an inode's attributes, without ACLs.
func snapAttr(r pebble.Reader, ino Ino) (Attr, error) {
	v, closer, err := r.Get(appendInodeKey(nil, ino))
	if err != nil {
		return Attr{}, err
	}
	a, err := decodeAttr(v)
	return a, errors.Join(err, closer.Close())
}
