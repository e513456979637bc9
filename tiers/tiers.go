package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/fence"
	"zerofs/tiers/disk"
	"zerofs/tiers/nvme"
	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

// CommitLog is what write-back asks of the fenced log. *fence.Owner is one.
type CommitLog interface {
	Commit(ctx context.Context, c fence.Commit) error
	Discard(objects []string)
	Deletable(grace time.Duration) []string
	Deleted(objects []string)
}

// Options is what Open needs. All fields are required.
type Options struct {
	Disk     disk.FS
	Dir      string // of the map and the meta files; the NVMe tier has its own
	NVMe     *nvme.Tier
	Store    object.Store // retries by itself
	Key      *seal.Key
	Epoch    fence.Epoch
	Log      CommitLog
	Barrier  func() error // returns when every LSN enqueued at the call is durable in the local journal
	Rand     io.Reader    // of ids and object names: crypto/rand.Reader
	Boottime func() time.Duration
	Logger   *slog.Logger
}

// ErrClosed reports use after Close.
var ErrClosed = errors.New("tiers: closed")

// FS is the directory. It implements vfs.FS.
type FS struct {
	opts   Options
	ctx    context.Context // ends with Stop or Close
	closed atomic.Bool
	cancel context.CancelCauseFunc
	fetch  *fetcher

	randMu sync.Mutex // guards opts.Rand

	// mu guards what follows, and what table, metaFile and scratch say it guards. It is taken
	// last, but for fetcher.mu, and never held across a read or write of disk or store.
	mu         sync.Mutex
	names      map[string]file
	pending    []byte // operations that the map file does not have yet
	pendingOps uint64 // operations ever made
	flushedOps uint64 // of those, how many are durable
	deadTables []*table
	deadMetas  []deadMeta
	changes    uint64 // changes of what a Commit would say
	dirtyFiles int64  // table files that no Commit named
	dirtyBytes int64  // and their bytes
	wholeFiles int64  // table files that have a name and are whole
	wholeBytes int64  // and the bytes of their plaintext

	// live is every table file whose local bytes or object may still be needed: those that have
	// a name, a handle or a round, and those that tidy has not removed yet.
	live map[*table]struct{}

	// flushMu guards the map file. Taken after metaFile.syncMu and before mu.
	flushMu    sync.Mutex
	mapFile    vfs.File
	mapLog     *seal.Log
	mapStored  int64         // bytes of the map file
	mapBase    int64         // of them, what the last rewrite wrote
	mapErr     error         // of a write that failed: final
	flushedSeq atomic.Uint64 // number of the last durable record; changed under flushMu

	broken   atomic.Pointer[error] // why no MANIFEST may be synced any more
	tidyKick chan struct{}
	tasks    sync.WaitGroup // tidy

	wb writeback
}

// Usage is the FS's state.
type Usage struct {
	DirtyBytes int64 `json:"dirty_bytes"` // sealed bytes of table files that no Commit names
	DirtyFiles int64 `json:"dirty_files"`
	Tables     int64 `json:"tables"`         // table files that have a name
	TableBytes int64 `json:"table_bytes"`    // of their plaintext
	Uploaded   int64 `json:"uploaded_bytes"` // since Open
	Fetched    int64 `json:"fetched_bytes"`  // since Open
	Rounds     int64 `json:"rounds"`         // that appended a Commit, since Open
}

// DirtyBytes returns Usage().DirtyBytes alone, which is cheap.
func (f *FS) DirtyBytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dirtyBytes
}

// Usage returns counters. It costs little however many files there are.
func (f *FS) Usage() Usage {
	u := Usage{
		Uploaded: f.wb.uploadedBytes.Load(),
		Fetched:  f.fetch.bytes.Load(),
		Rounds:   f.wb.rounds.Load(),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	u.DirtyBytes, u.DirtyFiles = f.dirtyBytes, f.dirtyFiles
	u.Tables, u.TableBytes = f.wholeFiles, f.wholeBytes
	return u
}

// Stop ends what waits for the store, with cause, and fails with it what needs the store from now on,
// and new table files. A Commit on its way is no longer waited for. What else is local goes on until
// Close: Pebble does not outlive a MANIFEST that cannot be synced, nor does its Close.
func (f *FS) Stop(cause error) { f.cancel(cause) }

// Close ends the goroutines and makes the directory durable. Pebble must be closed before.
func (f *FS) Close() error {
	f.closed.Store(true)
	f.cancel(ErrClosed)
	f.fetch.close()
	f.tasks.Wait()
	f.wb.running.Wait()
	err := f.flush(true)
	if err == nil {
		f.removeDead()
	}
	err = errors.Join(err, f.closeMap())
	for _, m := range f.metas() {
		err = errors.Join(err, closeMeta(m))
	}
	return err
}

// metas returns the meta files that have a name.
func (f *FS) metas() (metas []*metaFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.names {
		if m, ok := x.(*metaFile); ok {
			metas = append(metas, m)
		}
	}
	return metas
}

// stopped returns why the file system stopped, or nil.
func (f *FS) stopped() error { return context.Cause(f.ctx) }

// ended is stopped, but nil until Close.
func (f *FS) ended() error {
	if f.closed.Load() {
		return f.stopped()
	}
	return nil
}

// pause waits for d and returns false when the file system stopped meanwhile.
func (f *FS) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-f.ctx.Done():
		return false
	}
}

// local returns the path of a file in Dir.
func (f *FS) local(name string) string { return f.opts.Disk.PathJoin(f.opts.Dir, name) }

// random fills p with random bytes.
func (f *FS) random(p []byte) error {
	f.randMu.Lock()
	defer f.randMu.Unlock()
	if _, err := io.ReadFull(f.opts.Rand, p); err != nil {
		return fmt.Errorf("tiers: random bytes: %w", err)
	}
	return nil
}
