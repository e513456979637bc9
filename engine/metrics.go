package engine

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/journal"
)

// counters count since Open.
type counters struct {
	pointReads, runReads, prefetched atomic.Int64
	flushes, rewrites                atomic.Int64
}

// Metrics is the engine's state and what it did since Open.
type Metrics struct {
	Applied       journal.LSN
	MemTableBytes int64 // not in table files yet
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
		MemTableBytes: e.MemTableBytes(),
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
		m.Written += int64(l.TableBytesFlushed + l.TableBytesCompacted + l.BlobBytesCompacted) // flushed blobs are in the last
	}
	return m, nil
}

// memTableGauge knows how much of what was applied is not in table files yet. It keeps how many bytes
// had been applied at some LSNs, and looks there when the tree tells the last LSN that was flushed.
type memTableGauge struct {
	applied atomic.Int64 // bytes since Open
	flushed atomic.Int64 // of these, in table files

	mu      sync.Mutex // taken after the commit lock
	samples []memTableSample
}

type memTableSample struct {
	lsn     journal.LSN
	applied int64
}

const (
	sampleBytes = 256 << 10 // from one sample to the next
	// entryBytes is what the memtable needs for an entry beyond key and value.
	entryBytes = 64
)

// grew says that a record of n bytes and so many operations was applied. The commit lock is held.
func (g *memTableGauge) grew(lsn journal.LSN, n int, ops uint32) {
	applied := g.applied.Add(int64(n) + entryBytes*int64(ops))
	g.mu.Lock()
	defer g.mu.Unlock()
	if k := len(g.samples); k == 0 || applied-g.samples[k-1].applied >= sampleBytes {
		g.samples = append(g.samples, memTableSample{lsn, applied})
	}
}

// drained says that everything up to lsn is in table files.
func (g *memTableGauge) drained(lsn journal.LSN) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := 0
	for k < len(g.samples) && g.samples[k].lsn <= lsn {
		k++
	}
	if k == 0 {
		return
	}
	g.flushed.Store(g.samples[k-1].applied)
	g.samples = append(g.samples[:0], g.samples[k:]...)
}

// MemTableBytes returns the bytes of memtable that hold what was applied and is not in table files
// yet, to within 256 KiB. Pebble stops commits at MemTables × MemTableSize. It takes no lock.
func (e *Engine) MemTableBytes() int64 { return e.mem.applied.Load() - e.mem.flushed.Load() }

// watchFlushes keeps the gauge.
func (e *Engine) watchFlushes() {
	defer e.bg.Done()
	for {
		select {
		case <-e.flushEnded:
		case <-e.life.Done():
			return
		}
		lsn, err := e.Flushed()
		if err == nil {
			e.mem.drained(lsn)
		} else if !errors.Is(err, ErrClosed) {
			e.opts.Logger.Warn("cannot tell what was flushed", "err", err)
		}
	}
}

// events returns the listener that keeps the counters.
func (e *Engine) events() *pebble.EventListener {
	return &pebble.EventListener{
		FlushEnd: func(info pebble.FlushInfo) {
			select {
			case e.flushEnded <- struct{}{}:
			default: // one is due already
			}
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
			select {
			case e.rewritten <- struct{}{}:
			default: // the waiter will look anyway
			}
		},
	}
}
