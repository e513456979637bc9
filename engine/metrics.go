package engine

import (
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/journal"
)

// counters count since Open.
type counters struct {
	pointReads, runReads, prefetched atomic.Int64
	flushes, flushedBytes            atomic.Int64
	rewrites                         atomic.Int64
}

// Metrics is the engine's state and what it did since Open.
type Metrics struct {
	Applied       journal.LSN
	MemTableBytes int64 // allocated for what was not flushed yet
	PointReads    int64 // reads of the tree for one chunk
	RunReads      int64 // and for several
	Prefetched    int64 // bytes read ahead
	Flushes       int64
	Rewrites      int64 // blob files rewritten to get space back

	LiveBytes    int64 // table files in use, on disk or in the bucket
	ValueBytes   int64 // uncompressed values in blob files
	GarbageBytes int64 // of these, values which nothing refers to any more
	DebtBytes    int64 // estimate of what compaction has still to do
	Written      int64 // bytes written by flushes and compactions
}

// Metrics returns counters. It takes Pebble's lock: not for hot paths.
func (e *Engine) Metrics() (Metrics, error) {
	if err := e.guard.enter(); err != nil {
		return Metrics{}, err
	}
	defer e.guard.exit()
	p := e.db.Metrics()
	m := Metrics{
		Applied:       e.Applied(),
		MemTableBytes: int64(p.MemTable.Size),
		PointReads:    e.counts.pointReads.Load(),
		RunReads:      e.counts.runReads.Load(),
		Prefetched:    e.counts.prefetched.Load(),
		Flushes:       e.counts.flushes.Load(),
		Rewrites:      e.counts.rewrites.Load(),
		LiveBytes:     int64(p.BlobFiles.LiveSize),
		ValueBytes:    int64(p.BlobFiles.ValueSize),
		GarbageBytes:  int64(p.BlobFiles.ValueSize - p.BlobFiles.ReferencedValueSize),
		DebtBytes:     int64(p.Compact.EstimatedDebt),
	}
	for _, l := range p.Levels {
		m.LiveBytes += l.TablesSize
		m.Written += int64(l.TableBytesFlushed + l.TableBytesCompacted + l.BlobBytesFlushed + l.BlobBytesCompacted)
	}
	return m, nil
}

// memTableGauge estimates the memtables' size without Pebble's lock: what Pebble said last, plus
// what has been applied since.
type memTableGauge struct {
	since atomic.Int64 // bytes applied since Pebble was asked
	stale atomic.Bool  // a flush ended since
	mu    sync.Mutex   // one asks at a time
	base  atomic.Int64 // what Pebble said
}

func (g *memTableGauge) grew(n int) { g.since.Add(int64(n)) }

// MemTableBytes returns the bytes of what was applied and not yet flushed, to within one memtable, and
// the bytes at which Pebble stops commits. It is cheap enough for every write.
func (e *Engine) MemTableBytes() (used, limit int64) {
	limit = e.opts.MemTableSize * int64(e.opts.MemTables)
	g := &e.mem
	if (g.stale.Load() || g.since.Load() > e.opts.MemTableSize/4) && g.mu.TryLock() {
		if e.guard.enter() == nil {
			g.stale.Store(false)
			g.since.Store(0)
			g.base.Store(int64(e.db.Metrics().MemTable.Size))
			e.guard.exit()
		}
		g.mu.Unlock()
	}
	return g.base.Load(), limit
}

// events returns the listener that keeps the counters.
func (e *Engine) events() *pebble.EventListener {
	return &pebble.EventListener{
		FlushEnd: func(info pebble.FlushInfo) {
			e.mem.stale.Store(true)
			if info.Err == nil {
				e.counts.flushes.Add(1)
			}
		},
		BackgroundError: func(err error) { e.opts.Logger.Error("flush or compaction failed", "err", err) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			e.opts.Logger.Error("table file is damaged", "path", info.Path, "err", info.Details)
		},
		BlobFileRewriteEnd: func(info pebble.BlobFileRewriteInfo) {
			if info.Err == nil {
				e.counts.rewrites.Add(1)
			}
		},
	}
}
