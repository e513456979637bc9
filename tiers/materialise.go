package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/fence"
	"zerofs/tiers/seal"
)

// Materialise makes Dir hold exactly the tree of state. Dir must not exist; it appears whole or
// not at all. Table files get no local copy: they are read from the store. Of opts it uses Disk,
// Dir, Key and Rand.
func Materialise(ctx context.Context, opts Options, state *fence.State) error {
	if _, err := opts.Disk.Stat(opts.Dir); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return fmt.Errorf("tiers: materialise %s: %w", opts.Dir, err)
	}
	w := &materialiser{opts: &opts, dir: opts.Dir + ".new"}
	if err := w.run(ctx, state); err != nil {
		return fmt.Errorf("tiers: materialise %s: %w", opts.Dir, err)
	}
	return nil
}

// materialiser writes a directory beside the place where it belongs.
type materialiser struct {
	opts *Options
	dir  string
}

func (w *materialiser) run(ctx context.Context, state *fence.State) error {
	disk := w.opts.Disk
	if err := disk.RemoveAll(w.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := disk.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	ops := make([]byte, 0, 128*(len(state.Tables)+len(state.Meta)))
	for name, t := range state.Tables {
		ops = appendTableOp(ops, name, tableEntry{t.ID, t.Object, t.Size})
	}
	for name, data := range state.Meta {
		if err := ctx.Err(); err != nil {
			return err
		}
		var id seal.FileID
		if classify(name) != classMarker {
			var err error
			if id, err = w.write("", appendMetaRecord(nil, 1, data)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		ops = appendLengthOp(appendMetaOp(ops, name, id), name, int64(len(data)))
	}
	if _, err := w.write(mapName, appendMapRecord(nil, 1, ops)); err != nil {
		return fmt.Errorf("map: %w", err)
	}
	if err := disk.SyncDir(w.dir); err != nil {
		return err
	}
	if err := disk.Rename(w.dir, w.opts.Dir); err != nil {
		return err
	}
	return disk.SyncDir(disk.PathDir(w.opts.Dir))
}

// write writes and syncs a sealed log of one record. Without a name it is a meta file.
func (w *materialiser) write(name string, record []byte) (id seal.FileID, err error) {
	if _, err := io.ReadFull(w.opts.Rand, id[:]); err != nil {
		return id, err
	}
	if name == "" {
		name = metaName(id)
	}
	log, err := w.opts.Key.NewLog(id)
	if err != nil {
		return id, err
	}
	file, err := w.opts.Disk.Create(w.opts.Disk.PathJoin(w.dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return id, err
	}
	_, err = file.Write(log.Seal(log.Header(), record))
	if err == nil {
		err = file.Sync()
	}
	return id, errors.Join(err, file.Close())
}
