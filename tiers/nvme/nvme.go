// Package nvme is the direct-I/O tier: table files that are not in the bucket yet, and a part
// cache for those that are.
package nvme

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"zerofs/tiers/disk"
	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

// PartFrames is the number of frames in a part, PartSize their bytes. Part k of a stored file is
// its bytes from seal.HeaderSize + k*PartSize on, so that parts and frames never cross.
const (
	PartFrames = 8
	PartSize   = PartFrames * seal.FrameSize
)

// ErrNotLocal reports that there is no local copy of a table file.
var ErrNotLocal = errors.New("nvme: no local copy")

// Options is what Open needs.
type Options struct {
	Disk   disk.FS
	Dir    string
	Size   int64 // budget in bytes of everything below Dir
	Key    *seal.Key
	Rand   io.Reader
	Logger *slog.Logger
}

// Tier is the open tier.
type Tier struct{}

// Open opens the tier, keeps what a former process left, and empties the part cache first if the disk is full.
func Open(ctx context.Context, opts Options) (*Tier, error) { panic("not built") }

// Create begins a local table file. It counts against the budget as dirty until MarkClean.
func (t *Tier) Create(id seal.FileID) (*Writer, error) { panic("not built") }

// Writer writes one table file, sealed, through aligned buffers with direct I/O.
type Writer struct{}

// Write appends plaintext. ENOSPC on the disk makes it wait, paced, and not fail.
func (w *Writer) Write(p []byte) (int, error) { panic("not built") }

// Size returns the plaintext bytes written so far.
func (w *Writer) Size() int64 { panic("not built") }

// Finish seals the last frame and makes file and name durable.
func (w *Writer) Finish() error { panic("not built") }

// Abort removes the file.
func (w *Writer) Abort() { panic("not built") }

// Reader reads a local copy. Any goroutine may use it; the copy is not removed before Close.
type Reader struct{}

// Open opens the local copy of a table file of size bytes of plaintext, or fails with ErrNotLocal.
func (t *Tier) OpenFile(id seal.FileID, size int64) (*Reader, error) { panic("not built") }

// ReadAt reads plaintext. A frame that does not authenticate is an error that wraps seal.ErrCorrupt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) { panic("not built") }

// Stored returns the sealed bytes as they go to the store. It is valid until Close.
func (r *Reader) Stored() object.Body { panic("not built") }

// Close gives the reference back.
func (r *Reader) Close() error { panic("not built") }

// MarkDirty and MarkClean say whether the local copy is the only one. Clean copies are evicted when space is needed.
func (t *Tier) MarkDirty(id seal.FileID) { panic("not built") }
func (t *Tier) MarkClean(id seal.FileID) { panic("not built") }

// Remove removes the local copy and the parts of a file, after the last Reader closed.
func (t *Tier) Remove(id seal.FileID) error { panic("not built") }

// Drop removes a clean local copy which turned out bad.
func (t *Tier) Drop(id seal.FileID) error { panic("not built") }

// Local returns the ids and stored sizes in bytes of all local copies.
func (t *Tier) Local() map[seal.FileID]int64 { panic("not built") }

// GetPart fills dst with the sealed bytes of a part (fewer at the file's end) and returns their number; 0 is a miss.
func (t *Tier) GetPart(id seal.FileID, part uint64, dst []byte) int { panic("not built") }

// PutPart offers a part's sealed bytes to the cache. It never blocks on a full cache or disk.
func (t *Tier) PutPart(id seal.FileID, part uint64, sealed []byte) { panic("not built") }

// DropPart forgets a part which turned out bad.
func (t *Tier) DropPart(id seal.FileID, part uint64) { panic("not built") }

// Usage tells where the budget went, in bytes.
type Usage struct {
	Dirty, Clean, Parts, Size     int64
	PartHits, PartMisses, Evicted int64 // counts
}

// Usage returns the tier's state.
func (t *Tier) Usage() Usage { panic("not built") }

// Close makes the part cache's index durable and closes the files.
func (t *Tier) Close() error { panic("not built") }
