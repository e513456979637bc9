package fence

import (
	"errors"
	"io"
	"log/slog"
	"time"

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
	// ErrLapsed reports that the lease ran out and nobody is known to have taken the volume: a
	// request must wait. See Owner.Wait.
	ErrLapsed = errors.New("fence: lease lapsed")
	// ErrUnanswered reports that the caller's context ended while its record was under way: the
	// owner goes on sending it, and it may be in the log or come to be.
	ErrUnanswered = errors.New("fence: append not answered yet")
	// ErrNotAdopted reports a Ship or Commit before Adopt.
	ErrNotAdopted = errors.New("fence: the local directory is not adopted")
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

// LeaseMax is the longest lease: the retention of records is far above it.
const LeaseMax = 10 * time.Minute

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
	Owner      string        // a name for people
	Lease      time.Duration // at least 1 s, at most LeaseMax
	Durability Durability
	Takeover   Takeover
	// ContinueOnLoss keeps Wait and Valid answering nil when the lease lapsed and nobody is known to have fenced us.
	ContinueOnLoss bool
	Retention      time.Duration        // of log records, 1 h if zero; at least four leases
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
	First, Last uint64  // LSNs, both included
	hash        hash    // of the record, which holds the body unless
	body        bodyRef // has an object
}

// Size returns the bytes of the Ship's body.
func (s ShipRef) Size() int64 { return s.body.size }

// State is the volume at one record of the log.
type State struct {
	Seq    Seq
	LSN    uint64            // of the newest Commit
	Tables map[string]Table  // by name
	Meta   map[string][]byte // by name
	Ships  []ShipRef         // not known to be covered by the tree, ascending

	bodies map[string]struct{} // objects that hold bodies of records
}

// NamesBody reports whether object holds the body of a Ship, Commit or Base that a reader of this
// state needs. Who sweeps orphans asks this beside Tables.
func (s *State) NamesBody(object string) bool {
	if _, ok := s.bodies[object]; ok {
		return true
	}
	for _, sh := range s.Ships {
		if sh.body.object == object {
			return true
		}
	}
	return false
}

// Previous tells how the volume was left by the owner before us.
type Previous struct {
	Epoch      Epoch // zero for a new volume
	Owner      string
	Durability Durability
	Released   bool // cleanly
	Ours       bool // the local directory holds everything it acknowledged
	// Diverged says that the log has another record where the local directory knows one: the store
	// was rolled back and went on from there, so that only the directory has what came before.
	Diverged bool
}

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
