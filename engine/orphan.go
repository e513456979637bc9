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
	t, err := e.begin(ctx, attrOpMax+opOverhead+len(stateChunk)+9+usageOpMax)
	if err != nil {
		return fmt.Errorf("engine: make the root directory: %w", err)
	}
	defer t.end()
	var size [8]byte
	putUint64(size[:], uint64(e.opts.ChunkSize))
	t.set(appendStateKey(nil, stateChunk), size[:])
	now := nanos(e.opts.Now())
	t.set(appendInodeKey(nil, RootIno), appendAttr(nil, &Attr{
		Type: TypeDir, Mode: 0o755, Nlink: 2, Parent: RootIno, Atime: now, Mtime: now, Ctime: now, Btime: now, Generation: 1,
	}))
	t.use(usage{inodes: 1})
	if _, err := t.commit(); err != nil {
		return fmt.Errorf("engine: make the root directory: %w", err)
	}
	return nil
}

// dropOpMax bounds what drop adds to a batch.
const dropOpMax = deletesMax*(chunkKeyLen+opOverhead) + 4*2*(chunkKeyLen+opOverhead) + usageOpMax

// drop removes an inode which no name and no user has any more: at most one range tombstone for its
// content, whatever its size.
func (t *txn) drop(ino Ino, a *Attr) {
	size := uint64(t.e.opts.ChunkSize)
	switch chunks := ChunkIndex((a.Size + size - 1) / size); {
	case a.Type == TypeSymlink:
		t.delete(appendSymlinkKey(nil, ino))
	case a.Type != TypeRegular:
	case a.Flags&(flagGroups|flagDevice) == 0: // then nothing else is there
		t.deleteChunks(ino, 0, min(chunks, ChunkIndex(a.dense)))
	default:
		t.deleteChunks(ino, 0, chunks)
	}
	if a.Flags&flagGroups != 0 {
		t.deleteGroups(ino, 0)
	}
	if a.Flags&flagXattrs != 0 {
		_ = t.b.DeleteRange(appendXattrKey(nil, ino, ""), appendXattrKey(nil, ino+1, ""), nil) // an unindexed batch never fails
	}
	t.delete(appendInodeKey(nil, ino))
	t.use(usage{bytes: -int64(a.Blocks), inodes: -1})
}

// reap runs until the engine is closed. What it does not come to is removed at the next start.
func (e *Engine) reap() {
	defer e.bg.Done()
	for {
		select {
		case <-e.reaper.wake:
		case <-e.life.Done():
			return
		}
		if err := e.reclaim(e.life, e.reaper.take()); err != nil && !errors.Is(err, ErrClosed) && e.life.Err() == nil {
			e.opts.Logger.Warn("unlinked files are left for the next start", "err", err)
		}
	}
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
	return e.reclaim(ctx, orphans)
}

// reclaimMax is how many inodes go in one record of the log.
const reclaimMax = 32

// reclaim removes inodes which no name and no user has any more.
func (e *Engine) reclaim(ctx context.Context, inodes []Ino) error {
	for len(inodes) > 0 {
		k := min(len(inodes), reclaimMax)
		if err := e.reclaimSome(ctx, inodes[:k]); err != nil {
			return err
		}
		inodes = inodes[k:]
	}
	return nil
}

func (e *Engine) reclaimSome(ctx context.Context, inodes []Ino) error {
	t, err := e.begin(ctx, len(inodes)*(dropOpMax+inodeKeyLen+opOverhead))
	if err != nil {
		return fmt.Errorf("engine: remove %d inodes: %w", len(inodes), err)
	}
	defer t.end()
	for _, ino := range inodes {
		a, err := e.orphanAttr(ino)
		if err != nil {
			return fmt.Errorf("engine: remove inode %d: %w", ino, err)
		}
		t.drop(ino, &a)
		t.delete(appendOrphanKey(nil, ino))
	}
	if _, err := t.commit(); err != nil {
		return fmt.Errorf("engine: remove %d inodes: %w", len(inodes), err)
	}
	return nil
}

// orphanAttr reads the attributes of an inode that is in no table any more.
func (e *Engine) orphanAttr(ino Ino) (Attr, error) {
	v, err := e.get(appendInodeKey(nil, ino))
	if err != nil {
		return Attr{}, err
	}
	return decodeAttr(v)
}
