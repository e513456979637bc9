// Package nvme is the direct-I/O tier: table files that are not in the bucket yet, and a part
// cache for those that are. docs/design/nvme.md tells why it is built as it is.
//
// # Invariants
//
//   - A file under its final name is whole and durable: its bytes are synced before it is renamed.
//   - A dirty local copy leaves the disk through Remove only. After Open every copy is dirty
//     until MarkClean says otherwise.
//   - What is below Dir stays within Options.Size, unless dirty files alone exceed it: room is
//     made before it is used, from clean copies and parts; dirty bytes are counted, never refused.
//   - Bytes that do not authenticate are never returned as plaintext.
//   - The part cache may forget anything at any time, and may lie: its readers authenticate each frame.
//
// # Files
//
//	<Dir>/tables/<file id, 32 hex digits>.table  a sealed file (seal.File), exactly as the store gets it
//	<Dir>/tables/<file id, 32 hex digits>.new    one that is being written; removed by Open
//	<Dir>/parts.slab                             slots of PartSize bytes, holes where nothing is held
//	<Dir>/parts.index                            which slot holds which part; see internal/slots
//	<Dir>/ballast                                space to give back when the disk is full
//
// # Concurrency
//
// Any goroutine may call any method of Tier and Reader; a Writer belongs to one goroutine. Locks,
// in order: Tier.making; then one of Tier.mu, partCache.mu; budget.mu last. None is held while
// the disk reads; making alone is held while it unlinks and punches, and no reader takes it.
package nvme

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"

	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

// PartFrames is the number of frames in a part, PartSize their bytes. Part k of a stored file is
// its bytes from seal.HeaderSize + k*PartSize on, so that parts and frames never cross.
const (
	PartFrames = 8
	PartSize   = PartFrames * seal.FrameSize
)

// SizeMin is the smallest budget in bytes that Open accepts.
const SizeMin = 4 << 20

var (
	// ErrNotLocal reports that there is no local copy of a table file.
	ErrNotLocal = errors.New("nvme: no local copy")
	// ErrClosed reports a call after Close, or one that Close or Abort ended.
	ErrClosed = errors.New("nvme: closed")
	// ErrDirty reports that a copy is the only one and was not dropped.
	ErrDirty = errors.New("nvme: the local copy is the only one")
)

// Options is what Open needs.
type Options struct {
	Disk   disk.FS
	Dir    string
	Size   int64 // budget in bytes of everything below Dir, at least SizeMin
	Key    *seal.Key
	Rand   io.Reader
	Logger *slog.Logger
}

// Tier is the open tier.
type Tier struct {
	disk   disk.FS
	dir    string
	tables string // directory
	key    *seal.Key
	log    *slog.Logger

	budget  budget
	parts   *partCache
	ballast ballast
	frames  frameCache

	mu      sync.Mutex // guards the maps, what table says it guards, and uses
	local   map[seal.FileID]*table
	writing map[seal.FileID]struct{}
	uses    uint64 // calls of OpenFile so far: the clock of eviction

	opened  atomic.Int64  // tables with an open file
	serial  atomic.Uint64 // of tables, for the frame cache
	evicted atomic.Int64

	making  sync.Mutex   // held by the one that makes room
	waiting atomic.Int64 // writers that wait for a full disk
	telling atomic.Bool  // one of them logs it

	stopped  chan struct{} // closed by Stop: nobody waits for a full disk any more
	stopping sync.Once
	closed   chan struct{}
	closing  sync.Once
	running  sync.WaitGroup // maintain
}

// Open opens the tier, keeps what a former process left, and empties the part cache first if the disk is full.
func Open(ctx context.Context, opts Options) (*Tier, error) {
	if opts.Size < SizeMin {
		return nil, fmt.Errorf("nvme: size %d is below %d bytes", opts.Size, int64(SizeMin))
	}
	d := opts.Disk
	t := &Tier{
		disk:    d,
		dir:     opts.Dir,
		tables:  d.PathJoin(opts.Dir, "tables"),
		key:     opts.Key,
		log:     opts.Logger,
		ballast: newBallast(d, opts.Dir, opts.Size),
		local:   map[seal.FileID]*table{},
		writing: map[seal.FileID]struct{}{},
		stopped: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	t.ballast.adopt()
	t.budget.size = opts.Size - t.ballast.size - margin(opts.Size)
	t.parts = newPartCache(t)
	if t.diskIsFull() {
		t.log.Warn("disk full: emptying the part cache", "dir", opts.Dir)
		if err := t.parts.removeFiles(); err != nil {
			return nil, fmt.Errorf("nvme: empty the part cache in %s: %w", opts.Dir, err)
		}
	}
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	if err := t.parts.open(); err != nil {
		return nil, err
	}
	t.makeRoom()
	t.ballast.restore(t.log)
	t.running.Go(t.maintain)
	return t, nil
}

// margin is what the budget keeps for what is not counted: directories, extent maps, the index
// of the part cache and its next version.
func margin(size int64) int64 { return max(size/64, 256<<10) }

// load makes the names of the directory durable and registers the local copies.
func (t *Tier) load(ctx context.Context) error {
	if err := t.disk.MkdirAll(t.tables, 0o700); err != nil {
		return fmt.Errorf("nvme: make %s: %w", t.tables, err)
	}
	names, err := t.disk.List(t.tables)
	if err != nil {
		return fmt.Errorf("nvme: list %s: %w", t.tables, err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.loadName(name); err != nil {
			return err
		}
	}
	return t.syncDirs()
}

// syncDirs makes the names of what is below Dir durable, and Dir's own. Names above it are the
// caller's, and so is Dir's where its parent cannot be opened.
func (t *Tier) syncDirs() error {
	for _, dir := range []string{t.tables, t.dir, t.disk.PathDir(t.dir)} {
		err := t.disk.SyncDir(dir)
		if errors.Is(err, fs.ErrPermission) && dir != t.dir && dir != t.tables {
			t.log.Warn("the directory's name may not be durable", "dir", t.dir, "err", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("nvme: sync %s: %w", dir, err)
		}
	}
	return nil
}

func (t *Tier) loadName(name string) error {
	path := t.disk.PathJoin(t.tables, name)
	id, final, ok := parseName(name)
	if !ok {
		t.log.Warn("unknown file in the table directory is left alone", "file", path)
		return nil
	}
	if !final {
		if err := t.disk.Remove(path); err != nil {
			return fmt.Errorf("nvme: remove unfinished %s: %w", path, err)
		}
		return nil
	}
	info, err := t.disk.Stat(path)
	if err != nil {
		return fmt.Errorf("nvme: stat %s: %w", path, err)
	}
	t.local[id] = t.newTable(id, info.Size())
	t.budget.addDirty(onDisk(info.Size()))
	return nil
}

// Usage tells where the budget went, in bytes.
type Usage struct {
	Dirty int64 `json:"dirty_bytes"` // local copies that no Commit names
	Clean int64 `json:"clean_bytes"` // local copies that may be evicted
	Parts int64 `json:"parts_bytes"` // part cache
	Size  int64 `json:"size_bytes"`  // what these three may take together

	PartHits     int64 `json:"part_hits"`
	PartMisses   int64 `json:"part_misses"`
	PartsDropped int64 `json:"parts_dropped"` // offered parts that were not kept
	Evicted      int64 `json:"evicted"`       // clean local copies
	Waiting      int64 `json:"waiting"`       // writers that wait for a full disk at the moment
	Ballast      int64 `json:"ballast_bytes"`
}

// Usage returns the tier's state.
func (t *Tier) Usage() Usage {
	u := t.budget.usage()
	u.Evicted = t.evicted.Load()
	u.Waiting = t.waiting.Load()
	u.Ballast = t.ballast.held()
	t.parts.addUsage(&u)
	return u
}

// ReleaseBallast gives the ballast's space back to the file system, so that meta files and an
// orderly stop find some on a full disk. It comes back by itself when there is space again.
func (t *Tier) ReleaseBallast() error { return t.ballast.release() }

// Stop makes writers that wait for a full disk, and those that would, fail with ErrClosed, so that
// a shutdown does not wait for them. All else goes on.
func (t *Tier) Stop() { t.stopping.Do(func() { close(t.stopped) }) }

// ended reports whether Close was called.
func (t *Tier) ended() bool {
	select {
	case <-t.closed:
		return true
	default:
		return false
	}
}

// Close makes the part cache's index durable and closes the files. It stops the tier; later
// calls of Create and OpenFile fail with ErrClosed. Readers that are still open stay usable until their Close.
func (t *Tier) Close() error {
	var err error
	t.closing.Do(func() {
		t.Stop()
		close(t.closed)
		t.running.Wait()
		err = t.parts.close()
		t.closeIdle(0)
	})
	return err
}
