// Package fence decides who may write a volume: the fenced log.
package fence

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"zerofs/tiers/disk"
	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

// Epoch numbers one writer's turn at the volume; it only grows. Zero means none.
type Epoch uint64

// Seq is a record's place in the log, from 1. Zero means none.
type Seq uint64

var (
	// ErrFenced reports that another epoch owns the volume. It is final for the process.
	ErrFenced = errors.New("fence: another owner took the volume")
	// ErrOwned reports that another owner holds the volume and takeover is Never.
	ErrOwned = errors.New("fence: volume is owned by another")
	// ErrRolledBack reports a store that is older than what the local directory saw, or a gap in the log.
	ErrRolledBack = errors.New("fence: store was rolled back")
	// ErrCorrupt reports a log record or body that does not authenticate.
	ErrCorrupt = errors.New("fence: corrupt record")
	// ErrClosed reports use after Release or Close.
	ErrClosed = errors.New("fence: closed")
)

// Identity is what makes an owner the same owner after a restart of its process.
type Identity struct {
	Dir   [16]byte // random id of the data directory
	Boot  [16]byte // the kernel's boot id
	Dev   uint64   // device and inode of the lock file
	Ino   uint64
	Local bool // the lock file is on a local file system; false never equals
}

// Durability is what fsync waits for. Values are part of the format.
type Durability uint8

// The durabilities.
const (
	Local  Durability = 1
	Object Durability = 2
)

// Takeover says what Open does when another owner has not released the volume.
type Takeover uint8

// The takeovers.
const (
	Wait  Takeover = iota // until the head has not moved for its lease and a tenth more
	Never                 // fail with ErrOwned
	Force                 // claim at once; the old owner answers until its next append
)

// Options is what Open needs. All fields are required unless said.
type Options struct {
	Store      object.Store // without retries of its own for Put with IfAbsent
	Key        *seal.Key
	Volume     seal.VolumeID
	Lineage    *Lineage
	Identity   Identity
	Owner      string // a name for people
	Lease      time.Duration
	Durability Durability
	Takeover   Takeover
	// ContinueOnLoss keeps Wait and Valid answering nil when the lease lapsed and nobody is known to have fenced us.
	ContinueOnLoss bool
	Retention      time.Duration        // of log records, 1 h if zero
	Boottime       func() time.Duration // CLOCK_BOOTTIME; timers come from package time
	Rand           io.Reader
	Logger         *slog.Logger
	Waiting        func(what string) (done func()) // told what Open waits for; may be nil
}

// Table is one immutable table file of the tree and its object.
type Table struct {
	Name   string // as Pebble knows it
	Object string // key in the store
	Size   int64  // bytes of plaintext
	ID     seal.FileID
}

// MetaDelta changes one meta file (MANIFEST, OPTIONS, marker): its bytes from Offset on become
// Data, or, with Removed, the file goes. Markers are empty files, Offset 0 and no Data.
type MetaDelta struct {
	Name    string
	Offset  int64
	Data    []byte
	Removed bool
}

// Commit is one write-back round: the tree in the bucket now holds at least LSN.
type Commit struct {
	LSN     uint64
	Meta    []MetaDelta
	Added   []Table
	Dropped []string // names
}

// ShipRef is a Ship that may still be needed for replay.
type ShipRef struct {
	Seq         Seq
	First, Last uint64 // LSNs, both included
	body        []byte // in the record, or
	object      string // in an object of its own
	id          seal.FileID
}

// State is the volume at one record of the log.
type State struct {
	Seq    Seq
	LSN    uint64            // of the newest Commit
	Tables map[string]Table  // by name
	Meta   map[string][]byte // by name
	Ships  []ShipRef         // not known to be covered by the tree, ascending
}

// Previous tells how the volume was left by the owner before us.
type Previous struct {
	Epoch      Epoch // zero for a new volume
	Owner      string
	Durability Durability
	Released   bool // cleanly
	Ours       bool // the local directory holds everything it acknowledged
}

// Lineage is the local file that remembers which log this directory belongs to.
type Lineage struct{}

// OpenLineage opens, or with create makes, the lineage file.
func OpenLineage(fs disk.FS, path string, key *seal.Key, volume seal.VolumeID, rand io.Reader) (*Lineage, error) {
	panic("not built")
}

// Close closes the file.
func (l *Lineage) Close() error { panic("not built") }

// Owner is our turn at the volume.
type Owner struct{}

// Open reads the log, waits as Takeover says, claims the volume and begins to renew the lease.
func Open(ctx context.Context, opts Options) (*Owner, error) { panic("not built") }

// Epoch returns our epoch.
func (o *Owner) Epoch() Epoch { panic("not built") }

// LocalWins reports whether the local directory holds everything in the log, so that it may be used as it stands.
func (o *Owner) LocalWins() bool { panic("not built") }

// State returns the volume's state at our Claim. The caller may keep but not change it.
func (o *Owner) State() *State { panic("not built") }

// Previous tells of the owner before.
func (o *Owner) Previous() Previous { panic("not built") }

// Adopt records that the local directory now equals State (materialised, or it won). Until then no
// append moves the lineage.
func (o *Owner) Adopt() error { panic("not built") }

// ShipBody returns the body of a Ship.
func (o *Owner) ShipBody(ctx context.Context, s ShipRef) ([]byte, error) { panic("not built") }

// Ship appends the batches first..last, both included. first must be Covered()+1.
func (o *Owner) Ship(ctx context.Context, first, last uint64, body []byte) error { panic("not built") }

// Commit appends a write-back round.
func (o *Owner) Commit(ctx context.Context, c Commit) error { panic("not built") }

// Covered returns the highest LSN that the log holds: of any Ship, or of the last Commit.
func (o *Owner) Covered() uint64 { panic("not built") }

// ShippedBytes returns the bytes of Ships since the last Commit.
func (o *Owner) ShippedBytes() int64 { panic("not built") }

// Valid returns nil if a request may be answered now: the lease holds. It never blocks.
func (o *Owner) Valid() error { panic("not built") }

// Wait returns once Valid would return nil; with ErrFenced when that will never be, or with ctx's error.
func (o *Owner) Wait(ctx context.Context) error { panic("not built") }

// Done is closed when the owner is fenced or closed; Err then says which.
func (o *Owner) Done() <-chan struct{} { panic("not built") }

// Err returns nil, ErrFenced or ErrClosed.
func (o *Owner) Err() error { panic("not built") }

// Discard remembers uploaded objects that no Commit will ever name, for deletion.
func (o *Owner) Discard(objects []string) { panic("not built") }

// Deletable returns objects that no state needs and whose grace (from when a record stopped naming them) is over.
func (o *Owner) Deletable(grace time.Duration) []string { panic("not built") }

// Deleted forgets objects that were deleted.
func (o *Owner) Deleted(objects []string) { panic("not built") }

// Release ends our turn cleanly: Valid fails from its beginning, nothing is appended after it.
func (o *Owner) Release(ctx context.Context) error { panic("not built") }

// Close ends our goroutines without a Release.
func (o *Owner) Close() error { panic("not built") }

// Status is what Inspect tells of a volume's log without claiming it.
type Status struct {
	Head       Seq           `json:"head"`
	Epoch      Epoch         `json:"epoch"`
	Owner      string        `json:"owner"`
	Lease      time.Duration `json:"lease_ns"`
	Durability Durability    `json:"durability"`
	Released   bool          `json:"released"`
	LSN        uint64        `json:"commit_lsn"`
	Covered    uint64        `json:"covered_lsn"`
	Tables     int           `json:"tables"`
	Bytes      int64         `json:"bytes"`
	HeadAge    time.Duration `json:"head_age_ns"` // by the store's clock
}

// Inspect reads the log's head and state.
func Inspect(ctx context.Context, store object.Store, key *seal.Key, volume seal.VolumeID) (Status, error) {
	panic("not built")
}
