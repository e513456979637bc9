package engine

import (
	"context"
	"errors"
	"fmt"
)

// makeRoot makes the root directory of a volume that has none.
func (e *Engine) makeRoot(ctx context.Context) error {
	_, err := e.read1(appendInodeKey(nil, RootIno))
	if err == nil || !errors.Is(err, errNotExist) {
		return err
	}
	t, err := e.begin(ctx, 2*attrOpMax+opOverhead+len(stateChunk)+9)
	if err != nil {
		return fmt.Errorf("engine: make the root directory: %w", err)
	}
	defer t.end()
	var size [8]byte
	putUint64(size[:], uint64(e.opts.ChunkSize))
	t.set(appendStateKey(nil, stateChunk), size[:])
	t.set(appendInodeKey(nil, RootIno), newInode(Attr{Type: TypeDir, Mode: 0o755}, RootIno, nanos(e.opts.Now())))
	if _, err := t.commit(); err != nil {
		return fmt.Errorf("engine: make the root directory: %w", err)
	}
	return nil
}

// reclaimOrphans removes what files left that were unlinked while open, when the volume was last used.
func (e *Engine) reclaimOrphans(ctx context.Context) error {
	var orphans []Ino
	err := e.scan(ctx, []byte{prefixOrphan}, []byte{prefixOrphan + 1}, func(key, _ []byte) (bool, error) {
		ino, err := inoOfKey(key)
		orphans = append(orphans, ino)
		return true, err
	})
	if err != nil {
		return err
	}
	for _, ino := range orphans {
		if err := e.reclaim(ctx, ino); err != nil {
			return err
		}
	}
	return nil
}

// reclaim removes an inode which no name and no user has any more: one range tombstone, whatever its size.
func (e *Engine) reclaim(ctx context.Context, ino Ino) error {
	t, err := e.begin(ctx, 8*(chunkKeyLen+opOverhead))
	if err != nil {
		return fmt.Errorf("engine: remove inode %d: %w", ino, err)
	}
	defer t.end()
	_ = t.b.DeleteRange(appendChunkKey(nil, ino, 0), appendChunkKey(nil, ino+1, 0), nil) // an unindexed batch never fails
	_ = t.b.DeleteRange(appendXattrKey(nil, ino, ""), appendXattrKey(nil, ino+1, ""), nil)
	t.delete(appendSymlinkKey(nil, ino))
	t.delete(appendInodeKey(nil, ino))
	t.delete(appendOrphanKey(nil, ino))
	if _, err := t.commit(); err != nil {
		return fmt.Errorf("engine: remove inode %d: %w", ino, err)
	}
	return nil
}
