package volume

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"zerofs/fence"
	"zerofs/tiers/disk"
	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

// Options is all that a volume needs. Every field is required unless it says otherwise.
type Options struct {
	Disk        disk.FS
	NVMeDir     string
	NVMeSize    int64 // bytes
	JournalDir  string
	JournalSize int64 // bytes
	MemorySize  int64 // bytes of the memory tier; may be zero
	MaxSize     int64 // bytes of data that the volume may hold; zero: no bound

	Store  object.Store // retries reads by itself; conditional puts pass through
	Volume *seal.Volume // as seal.OpenVolume returned it

	Durability fence.Durability
	Interval   time.Duration // of write-back

	Owner           string
	Lease           time.Duration
	Takeover        fence.Takeover
	ContinueOnLoss  bool
	RefuseAfterLoss bool
	// Identity returns the parts of our identity that the machine tells: boot id, and device and
	// inode of the lock file at path. Dir is filled in here.
	Identity func(lock string) (fence.Identity, error)

	// Volatile reports whether a directory lies on a file system in memory. It may be nil.
	Volatile func(dir string) (bool, error)

	Boottime func() time.Duration // CLOCK_BOOTTIME
	Now      func() time.Time     // wall clock, for file times
	Rand     io.Reader            // of keys, ids and nonces
	Logger   *slog.Logger
	// Waiting is told what Open waits for, and when that is over. It may be nil.
	Waiting func(what string) (done func())

	// Locked is called once the directories are ours; its error ends Open. It may be nil.
	Locked func(ctx context.Context) error

	// MemTableSize is the size in bytes of one memtable; zero: as the journal allows, 48 MiB at most.
	MemTableSize int64
}

func (o *Options) waiting(what string) func() {
	if o.Waiting == nil {
		return func() {}
	}
	return o.Waiting(what)
}

// memTables is the number of memtables that may exist at once. The ring must hold twice their
// bytes, or a full ring could wait for a flush that waits for the ring.
const memTables = 3

func (o *Options) memTableSize() int64 {
	if o.MemTableSize > 0 {
		return o.MemTableSize
	}
	return max(min(o.JournalSize/(4*memTables), 48<<20), 1<<20)
}

// durabilityName is the word of the configuration.
func durabilityName(d fence.Durability) string {
	switch d {
	case fence.Local:
		return "local"
	case fence.Object:
		return "object"
	}
	return fmt.Sprintf("durability %d", d)
}
