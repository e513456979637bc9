package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/fence"
	"zerofs/tiers/seal"
)

// noID is the id of a meta file without bytes.
var noID seal.FileID

// Open opens Dir. With no Dir yet it is an empty tree. What a killed process left in the page
// cache is made durable before it is believed. base is the state that the next Commit's deltas
// build on: what the log says at its head. Local copies that the directory does not name are
// removed; one that it names and that neither the NVMe tier nor base has is an error.
func Open(ctx context.Context, opts Options, base *fence.State) (*FS, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if base == nil {
		base = &fence.State{}
	}
	f := newFS(opts)
	stop := context.AfterFunc(ctx, func() { f.cancel(context.Cause(ctx)) })
	err := f.load(ctx, base)
	if !stop() && err == nil {
		err = fmt.Errorf("tiers: open %s: %w", opts.Dir, context.Cause(ctx))
	}
	if err != nil {
		f.cancel(err)
		return nil, errors.Join(err, f.closeMap())
	}
	f.tasks.Go(f.tidy)
	return f, nil
}

func (o *Options) check() error {
	for name, missing := range map[string]bool{
		"Disk": o.Disk == nil, "Dir": o.Dir == "", "NVMe": o.NVMe == nil, "Store": o.Store == nil,
		"Key": o.Key == nil, "Log": o.Log == nil, "Barrier": o.Barrier == nil, "Rand": o.Rand == nil,
		"Logger": o.Logger == nil,
	} {
		if missing {
			return fmt.Errorf("tiers: option %s is missing", name)
		}
	}
	return nil
}

func newFS(opts Options) *FS {
	f := &FS{opts: opts, names: map[string]file{}, live: map[*table]struct{}{}, tidyKick: make(chan struct{}, 1)}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	f.fetch = newFetcher(f.ctx, &f.opts, f.frames)
	f.wb.init()
	return f
}

// load reads the directory, checks it against base and what the NVMe tier holds, and begins a
// new map file: a torn record at the end of the old one is never written over.
func (f *FS) load(ctx context.Context, base *fence.State) error {
	if err := f.makeDir(ctx, base); err != nil {
		return err
	}
	d, err := f.readMap()
	if err != nil {
		return err
	}
	if err := f.loadMetas(ctx, d, base); err != nil {
		return err
	}
	if err := f.loadTables(ctx, d, base); err != nil {
		return err
	}
	f.loadBase(base)
	f.flushMu.Lock()
	defer f.flushMu.Unlock()
	if err := f.rewriteMap(d.seq + 1); err != nil {
		return fmt.Errorf("tiers: write the map in %s: %w", f.opts.Dir, err)
	}
	return f.removeStrays(d)
}

// makeDir makes an empty directory where there is none, and makes the names in it durable.
func (f *FS) makeDir(ctx context.Context, base *fence.State) error {
	_, err := f.opts.Disk.Stat(f.opts.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		if len(base.Tables)+len(base.Meta) > 0 {
			return fmt.Errorf("tiers: there is no directory %s, and the log has %d table files: %w", f.opts.Dir, len(base.Tables), err)
		}
		err = Materialise(ctx, f.opts, base)
	}
	if err != nil {
		return fmt.Errorf("tiers: open %s: %w", f.opts.Dir, err)
	}
	if err := f.opts.Disk.SyncDir(f.opts.Dir); err != nil {
		return fmt.Errorf("tiers: sync %s: %w", f.opts.Dir, err)
	}
	return nil
}

// readMap reads the map file.
func (f *FS) readMap() (*directory, error) {
	path := f.local(mapName)
	plain, err := f.readSealed(path)
	if err != nil {
		return nil, fmt.Errorf("tiers: read the map: %w", err)
	}
	d, err := decodeMap(plain)
	if err != nil {
		return nil, fmt.Errorf("tiers: map %s: %w", path, err)
	}
	if d.seq == 0 {
		return nil, fmt.Errorf("tiers: map %s: %w: it has no record", path, seal.ErrCorrupt)
	}
	return d, nil
}

// readSealed syncs and reads a sealed log of the directory.
func (f *FS) readSealed(path string) (plain []byte, err error) {
	if _, err := f.opts.Disk.Stat(path); err != nil {
		return nil, err // OpenReadWrite would make it
	}
	file, err := f.opts.Disk.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := file.Sync(); err != nil {
		return nil, fmt.Errorf("sync %s: %w", path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	plain, stored, _, err := f.opts.Key.ReadLog(path, file, info.Size(), 0)
	if err == nil && stored < info.Size() {
		f.opts.Logger.Warn("torn record at the end of a log", "file", path, "bytes", info.Size()-stored)
	}
	return plain, err
}

// loadMetas reads the meta files. What the map or the log says to be there must be there, and
// the map must have every record that a meta file names: the last records of each vouch for
// the other, so that a damaged one is not taken for torn.
func (f *FS) loadMetas(ctx context.Context, d *directory, base *fence.State) error {
	for name, id := range d.metas {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := &metaFile{id: id, err: errClosedMeta}
		if id != noID {
			seq, err := f.loadMeta(name, m)
			if err != nil {
				return err
			}
			if seq > d.seq {
				return fmt.Errorf("tiers: map %s: %w: it ends at record %d, %s names record %d", f.local(mapName), seal.ErrCorrupt, d.seq, name, seq)
			}
		}
		if int64(len(m.data)) < d.lengths[name] {
			return fmt.Errorf("tiers: %s (%s): %w: it has %d bytes, the map says %d", name, f.local(metaName(id)), seal.ErrCorrupt, len(m.data), d.lengths[name])
		}
		if was, ok := base.Meta[name]; ok && !bytes.HasPrefix(m.data, was) {
			return fmt.Errorf("tiers: %s (%s): %w: its %d bytes do not begin with the %d bytes in the log", name, f.local(metaName(id)), seal.ErrCorrupt, len(m.data), len(was))
		}
		f.names[name] = m
	}
	return nil
}

// loadMeta reads one meta file; one that was never synced has no local file.
func (f *FS) loadMeta(name string, m *metaFile) (mapSeq uint64, err error) {
	path := f.local(metaName(m.id))
	plain, err := f.readSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("tiers: read %s: %w", name, err)
	}
	m.data, mapSeq, err = decodeMeta(plain)
	if err != nil {
		return 0, fmt.Errorf("tiers: %s (%s): %w", name, path, err)
	}
	m.synced = len(m.data)
	return mapSeq, nil
}

// loadTables checks the table files against the NVMe tier and the log.
func (f *FS) loadTables(ctx context.Context, d *directory, base *fence.State) error {
	local := f.opts.NVMe.Local()
	known := make(map[seal.FileID]struct{}, len(d.tables))
	for name, e := range d.tables {
		t := &table{id: e.id, object: e.object, size: e.size, whole: true, refs: 1}
		known[e.id] = struct{}{}
		committed := base.Tables[name].Object == e.object
		size, here := local[e.id]
		switch {
		case committed && here && size != t.stored():
			f.opts.Logger.Warn("local copy of a clean table file has the wrong size", "file", name, "bytes", size, "want", t.stored())
			f.opts.NVMe.MarkClean(e.id)
			if err := f.opts.NVMe.Drop(e.id); err != nil {
				return fmt.Errorf("tiers: drop the local copy of %s: %w", name, err)
			}
		case committed:
			f.opts.NVMe.MarkClean(e.id)
		case !here:
			return fmt.Errorf("tiers: %s: %w: it is not in the bucket yet and has no local copy %v", name, seal.ErrCorrupt, e.id)
		case size != t.stored():
			return fmt.Errorf("tiers: %s: %w: it is not in the bucket yet and its local copy %v has %d bytes, not %d", name, seal.ErrCorrupt, e.id, size, t.stored())
		default:
			f.opts.NVMe.MarkDirty(e.id)
			t.offered = true // by a former process, for all we know
			f.dirtyFiles++
			f.dirtyBytes += t.stored()
		}
		t.committed.Store(committed)
		f.names[name] = t
		f.live[t] = struct{}{}
		f.count(t, 1)
	}
	for id := range local {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, ok := known[id]; ok {
			continue
		}
		if err := f.opts.NVMe.Remove(id); err != nil {
			return fmt.Errorf("tiers: remove local copy %v, which no name stands for: %w", id, err)
		}
	}
	return nil
}

// removeStrays removes meta files that a crash left without a name.
func (f *FS) removeStrays(d *directory) error {
	known := map[string]struct{}{}
	for _, id := range d.metas {
		known[metaName(id)] = struct{}{}
	}
	names, err := f.opts.Disk.List(f.opts.Dir)
	if err != nil {
		return fmt.Errorf("tiers: list %s: %w", f.opts.Dir, err)
	}
	for _, name := range names {
		if _, ok := known[name]; ok || !strings.HasPrefix(name, metaPrefix) {
			continue
		}
		if err := f.opts.Disk.Remove(f.local(name)); err != nil {
			return fmt.Errorf("tiers: remove %s, which no name stands for: %w", f.local(name), err)
		}
	}
	return nil
}
