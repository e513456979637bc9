package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math/bits"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/journal"
	"zerofs/tiers"
	"zerofs/tiers/memory"
)

// Log is what the engine asks of the journal. *journal.Journal is one.
type Log interface {
	// Reserve waits until a record of n bytes fits and sets that space aside for one Append.
	Reserve(ctx context.Context, n int) error
	// Unreserve gives a reservation back.
	Unreserve(n int)
	// Append queues a record, which it copies, under Last()+1, and never waits for the disk.
	Append(payload []byte, reserved int) (journal.LSN, error)
	// Last returns the last LSN that Append gave out.
	Last() journal.LSN
}

// Options is what Open needs. Fields without a default must be set.
type Options struct {
	FS  vfs.FS
	Dir string // Pebble's directory

	Log Log
	// Durable waits until lsn is durable as far as the configured durability asks.
	Durable func(ctx context.Context, lsn journal.LSN) error
	// Gate is called before each change, before any lock is taken, with the change's size: it waits
	// for the lease and for room. Nil lets everything pass.
	Gate func(ctx context.Context, bytes int) error

	Memory *memory.Tier // nil for none

	// MetadataCache is the memory in bytes for inodes and names that nobody uses at the moment; default 64 MiB,
	// negative: none.
	MetadataCache int64
	// MaxSize is how many bytes of data the volume may hold; 0: no bound.
	MaxSize int64

	ChunkSize   int    // bytes, a power of two from 4 KiB to 64 KiB; default 4 KiB
	Compression string // "minlz" (default), "zstd" or "none"

	MemTableSize int64 // bytes of one memtable; default 48 MiB
	MemTables    int   // at most so many before commits wait for a flush; default 3
	BlockCache   int64 // bytes of Pebble's cache, which holds mostly metadata; default 32 MiB
	BlockSize    int   // bytes of a block of a table file before compression; default 16 KiB
	Compactions  int   // at most so many at once; default half of the CPUs, at least 2

	// TidyAfter is how long little must have been changed before the tree is tidied: space that
	// overwritten data still take is given back. Default one minute; negative: only Tidy does it.
	TidyAfter time.Duration

	Now    func() time.Time
	Logger *slog.Logger

	// Fatal is told of an error after which tree and journal cannot go on together. It may return:
	// the goroutine that met the error is parked if it is Pebble's, and every later call fails.
	Fatal func(error)
}

// Memory that an idle node and a remembered name take, about.
const (
	nodeBytes   = 1300
	dentryBytes = 200
)

// Sizes that the options must keep to.
const (
	minChunkSize = 4 << 10
	maxChunkSize = 64 << 10
)

func (o *Options) ensureDefaults() error {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.ChunkSize, 4<<10)
	def(&o.MemTables, 3)
	def(&o.BlockSize, 16<<10)
	def(&o.Compactions, max(2, runtime.GOMAXPROCS(0)/2))
	if o.MemTableSize == 0 {
		o.MemTableSize = 48 << 20
	}
	if o.MetadataCache == 0 {
		o.MetadataCache = 64 << 20
	}
	o.MetadataCache = max(o.MetadataCache, 0)
	if o.BlockCache == 0 {
		o.BlockCache = 32 << 20
	}
	if o.TidyAfter == 0 {
		o.TidyAfter = time.Minute
	}
	if o.Compression == "" {
		o.Compression = "minlz"
	}
	switch {
	case o.ChunkSize < minChunkSize || o.ChunkSize > maxChunkSize || bits.OnesCount(uint(o.ChunkSize)) != 1:
		return fmt.Errorf("engine: chunk size %d is no power of two from %d to %d", o.ChunkSize, minChunkSize, maxChunkSize)
	case compressions[o.Compression] == nil:
		return fmt.Errorf("engine: unknown compression %q", o.Compression)
	case o.FS == nil || o.Log == nil || o.Durable == nil || o.Now == nil || o.Logger == nil || o.Fatal == nil:
		return fmt.Errorf("engine: FS, Log, Durable, Now, Logger and Fatal must be set")
	}
	return nil
}

var compressions = map[string]*block.CompressionProfile{
	"none":  block.NoCompression,
	"minlz": block.MinLZCompression,
	"zstd":  block.ZstdCompression,
}

// pebbleOptions returns the tree's options. Sizes of files go with the memtable's: 32 MiB for one of
// 48 MiB. The write-ahead log is ours, the files are immutable,
// and what is synced when is the file system's business.
func (o *Options) pebbleOptions(policy func() pebble.ValueSeparationPolicy, log pebble.Logger, events *pebble.EventListener) *pebble.Options {
	p := &pebble.Options{
		FS:                          o.FS,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		Merger:                      newMerger(o.ChunkSize),
		Logger:                      log,
		EventListener:               events,
		DisableWAL:                  true,
		CacheSize:                   o.BlockCache,
		MemTableSize:                uint64(o.MemTableSize),
		MemTableStopWritesThreshold: o.MemTables,
		L0CompactionThreshold:       2,
		L0CompactionFileThreshold:   500,
		L0StopWritesThreshold:       1000, // the disk's budget binds first
		LBaseMaxBytes:               o.MemTableSize * 4 / 3,
		MaxManifestFileSize:         4 << 20,
		MaxOpenFiles:                1e5,
		BytesPerSync:                1 << 40, // or a file without a descriptor is synced each 512 KiB
		NoSyncOnClose:               true,    // or an aborted compaction publishes its table
		FlushSplitBytes:             max(o.MemTableSize/12, 256<<10),
		FlushDelayDeleteRange:       10 * time.Second,
		CompactionConcurrencyRange:  func() (int, int) { return 1, o.Compactions },
	}
	p.Local.ReadaheadConfig = tiers.ReadaheadConfig()
	p.Experimental.ValueSeparationPolicy = policy
	p.Experimental.SpanPolicyFunc = spanPolicy
	p.Experimental.EnableColumnarBlocks = func() bool { return true }
	// EnableDeleteOnlyCompactionExcises stays off: what is left of an excised table keeps all the values of
	// its blob files while Pebble takes most of them for garbage, and rewrites the same file for ever.
	p.Experimental.ReadSamplingMultiplier = -1 // a read-only volume should not write
	for i := range p.Levels {
		p.Levels[i] = pebble.LevelOptions{
			BlockSize:      o.BlockSize,
			IndexBlockSize: 256 << 10,
			FilterPolicy:   bloom.FilterPolicy(10),
			Compression:    func() *block.CompressionProfile { return compressions[o.Compression] },
		}
		p.TargetFileSizes[i] = max(o.MemTableSize*2/3, 512<<10)
	}
	return p
}

// spanPolicy keeps chunks and everything else in different tables. Every record sets the LSN key: in one
// table with chunks it would make each flush span all files, and a compaction of files that were
// written one after the other could not just move them.
func spanPolicy(start []byte) (pebble.SpanPolicy, []byte, error) {
	if len(start) == 0 || start[0] <= prefixChunk {
		return pebble.SpanPolicy{}, []byte{prefixChunk + 1}, nil
	}
	return pebble.SpanPolicy{ValueStoragePolicy: pebble.ValueStorageLowReadLatency}, nil, nil
}

// pebbleLogger hands Pebble's log on, and never returns from Fatalf.
type pebbleLogger struct {
	log   *slog.Logger
	fatal func(error)
}

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "text", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "text", fmt.Sprintf(format, args...))
}

// Fatalf reports the error and parks the goroutine: what Pebble does after a return is undefined.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("pebble: "+format, args...))
	select {}
}
