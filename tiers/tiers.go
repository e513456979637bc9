// Package tiers gives Pebble a directory whose table files live on NVMe first and in the bucket later.
package tiers

import (
	"context"
	"io"
	"log/slog"
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

// Options is what Open needs.
type Options struct {
	Disk     disk.FS
	Dir      string // of the map and the meta files; the NVMe tier has its own
	NVMe     *nvme.Tier
	Store    object.Store // retries by itself
	Key      *seal.Key
	Epoch    fence.Epoch
	Log      CommitLog
	Barrier  func() error // returns when every LSN enqueued at the call is durable in the local journal
	Rand     io.Reader
	Boottime func() time.Duration
	Logger   *slog.Logger
}

// FS is the directory. It implements vfs.FS.
type FS struct{ vfs.FS }

// Materialise makes Dir hold exactly the tree of state. Dir must not exist; it appears whole or not at all.
func Materialise(ctx context.Context, opts Options, state *fence.State) error { panic("not built") }

// Open opens Dir. With no Dir yet it is an empty tree. What a killed process left in the page
// cache is made durable before it is believed. base is the state that the next Commit's deltas build on.
func Open(ctx context.Context, opts Options, base *fence.State) (*FS, error) { panic("not built") }

// WriteBack runs one round: capture, upload what is dirty, Commit with the given LSN.
func (f *FS) WriteBack(ctx context.Context, lsn func() (uint64, error)) error { panic("not built") }

// Changed reports whether a round would change the bucket.
func (f *FS) Changed() bool { panic("not built") }

// Collect deletes objects that nothing needs any more.
func (f *FS) Collect(ctx context.Context) error { panic("not built") }

// SweepOrphans deletes objects of dead epochs that no state and no local file names.
func (f *FS) SweepOrphans(ctx context.Context, state *fence.State, minAge time.Duration) error {
	panic("not built")
}

// Usage is the FS's state.
type Usage struct {
	DirtyBytes, DirtyFiles int64
	Tables, TableBytes     int64
	Uploaded, Fetched      int64 // bytes since Open
	Rounds                 int64
}

// Usage returns counters.
func (f *FS) Usage() Usage { panic("not built") }

// Stop ends reads that wait for the store, with cause; every later call fails with it.
func (f *FS) Stop(cause error) { panic("not built") }

// Close ends the goroutines.
func (f *FS) Close() error { panic("not built") }
