package nvme

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/disk"
)

// ballastMax is the ballast's size in bytes, or a sixteenth of the budget if that is less.
const ballastMax = 256 << 20

// fullMark is the available space in bytes below which a disk counts as full when the tier opens.
const fullMark = 16 << 20

// writeCategory is how the disk accounts for what this package writes beside direct I/O.
const writeCategory vfs.DiskWriteCategory = "nvme"

// ballast is a file of reserved space that nobody needs, until somebody does.
type ballast struct {
	disk disk.FS
	dir  string
	path string
	size int64

	mu      sync.Mutex // guards what follows; held while the file is made or removed
	present bool       // there is a file of that name
	whole   bool       // it was made by this process: what a former one left may be smaller
}

func newBallast(fs disk.FS, dir string, budget int64) ballast {
	return ballast{disk: fs, dir: dir, path: fs.PathJoin(dir, "ballast"), size: min(ballastMax, budget/16) &^ (disk.Align - 1)}
}

// adopt looks for the ballast of a former process.
func (b *ballast) adopt() {
	_, err := b.disk.Stat(b.path)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.present = err == nil
}

// restore makes the ballast if it is missing, or is a former process's, and takes no more than a
// quarter of what is available.
func (b *ballast) restore(log *slog.Logger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.whole {
		return
	}
	usage, err := b.disk.GetDiskUsage(b.dir)
	if err != nil || usage.AvailBytes < uint64(4*b.size) {
		return
	}
	if err := b.make(); err != nil {
		log.Warn("no ballast file", "file", b.path, "err", err)
		if err := b.disk.Remove(b.path); err == nil { // a part of it is of no use
			b.present = false
		}
		return
	}
	b.present, b.whole = true, true
}

// make reserves the space. Where the file system cannot reserve, the file is empty.
func (b *ballast) make() error {
	f, err := b.disk.Create(b.path, writeCategory)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := f.Preallocate(0, b.size); err != nil {
		_ = f.Close()
		return fmt.Errorf("reserve %d bytes: %w", b.size, err)
	}
	return f.Close()
}

func (b *ballast) release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.present {
		return nil
	}
	if err := b.disk.Remove(b.path); err != nil {
		return fmt.Errorf("nvme: release ballast %s: %w", b.path, err)
	}
	b.present, b.whole = false, false
	return nil
}

func (b *ballast) held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.present {
		return b.size
	}
	return 0
}
