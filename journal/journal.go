// Package journal is the write-back journal: where a write first becomes durable.
package journal

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"zerofs/fence"
	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

// LSN is a record's place in the journal, from 1, without gaps. Zero means none.
type LSN uint64

var (
	// ErrCorrupt reports damage: a record that was durable and cannot be read.
	ErrCorrupt = errors.New("journal: corrupt")
	// ErrGone reports that an LSN asked for is no longer held.
	ErrGone = errors.New("journal: released")
	// ErrFailed reports that a write to disk failed; it is final for this Journal.
	ErrFailed = errors.New("journal: failed")
	// ErrClosed reports use after Close.
	ErrClosed = errors.New("journal: closed")
)

// Options is what Open needs.
type Options struct {
	Disk   disk.FS
	Dir    string
	Size   int64 // bytes of all segments
	Key    *seal.Key
	Rand   io.Reader
	Logger *slog.Logger
}

// Journal is an open journal.
type Journal struct{}

// Open fsyncs and reads what Dir holds. Nothing is appended before Start.
func Open(ctx context.Context, opts Options) (*Journal, error) { panic("not built") }

// Held returns the first and last LSN that can be replayed; zeros when there is none.
func (j *Journal) Held() (first, last LSN) { panic("not built") }

// Replay calls fn for each record from the given LSN on. covered is the highest LSN that is known
// to have been durable from elsewhere (the tree, the fenced log): damage at or below it is no torn tail.
// payload is valid during the call only.
func (j *Journal) Replay(ctx context.Context, from, covered LSN, fn func(lsn LSN, payload []byte) error) error {
	panic("not built")
}

// Start ends reading and begins appending under epoch: the first Append gives last+1, and
// records above last that older epochs left are void from now on.
func (j *Journal) Start(epoch fence.Epoch, last LSN) error { panic("not built") }

// Reserve waits until a record of n bytes fits the ring and sets that space aside for one Append.
// It is called before any lock is taken.
func (j *Journal) Reserve(ctx context.Context, n int) error { panic("not built") }

// Unreserve gives back a reservation that will not be used.
func (j *Journal) Unreserve(n int) { panic("not built") }

// Append queues a record, whose payload it copies, and returns its LSN. Calls are in LSN order;
// it never waits for the disk. reserved is what Reserve was called with.
func (j *Journal) Append(payload []byte, reserved int) (LSN, error) { panic("not built") }

// Sync waits until every record up to and with upTo is durable.
func (j *Journal) Sync(ctx context.Context, upTo LSN) error { panic("not built") }

// Last returns the last LSN that Append gave out; Durable the last that is durable.
func (j *Journal) Last() LSN    { panic("not built") }
func (j *Journal) Durable() LSN { panic("not built") }

// Batches returns durable records from the given LSN on, encoded as a Ship's body of at most
// max bytes of payload (but at least one record), and the last LSN in it. ErrGone if from was released.
func (j *Journal) Batches(ctx context.Context, from LSN, max int) (body []byte, last LSN, err error) {
	panic("not built")
}

// DecodeBatches calls fn for each record of a Ship's body.
func DecodeBatches(body []byte, fn func(lsn LSN, payload []byte) error) error { panic("not built") }

// Release allows segments whose records are all at or below upTo to be reused.
func (j *Journal) Release(upTo LSN) { panic("not built") }

// Usage tells how full the ring is.
type Usage struct {
	Used, Size int64 // bytes, reservations included
	First      LSN   // oldest record held
	Last       LSN
	Durable    LSN
	Failed     error // nil while the disk works
}

// Usage returns the ring's state.
func (j *Journal) Usage() Usage { panic("not built") }

// Close ends the writers after what is queued is durable, or the context ends.
func (j *Journal) Close(ctx context.Context) error { panic("not built") }
