package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/journal"
)

// Engine is an open volume's tree. Any goroutine may call any method; Replay is called by one
// goroutine before Start, everything that reads or changes files after it.
type Engine struct {
	opts   Options
	db     *pebble.DB
	guard  guard
	nodes  nodeTable
	cache  chunkCache
	pools  pools
	counts counters

	dentries dentryCache
	reaper   inoQueue // unlinked inodes whose last user has gone, to be removed
	touch    inoQueue // inodes that were read and whose access times are not stored yet
	counting inoQueue // devices that are to be counted

	watchers atomic.Pointer[[]*watcher] // nil: none

	life    context.Context // ends with Close or failure
	endLife context.CancelCauseFunc
	bg      sync.WaitGroup // goroutines that Close waits for

	mu      sync.Mutex    // the commit lock: log order is apply order. Taken after a node's locks.
	applied atomic.Uint64 // last LSN in the tree; advances under mu
	next    atomic.Uint64 // next inode number; a commit that creates an inode stores it
	used    usage         // of the volume; guarded by mu
	failed  atomic.Pointer[error]
	dead    chan struct{} // closed once failed is set
	started atomic.Bool

	moving sync.Mutex    // held while a directory moves to another, before nodes' locks
	moves  atomic.Uint64 // counts those; it changes under moving

	mem        memTableGauge
	flushEnded chan struct{} // holds one

	aheads chan struct{} // one for each reading ahead under way; nil without a memory tier

	tidying   sync.Mutex    // one Tidy at a time
	quiet     atomic.Bool   // space counts for more than writes; set by Tidy
	rewritten chan struct{} // holds one: a blob file was rewritten
}

// Open opens the tree in opts.Dir, or makes an empty one. Then come Replay for what the tree lacks,
// and Start.
func Open(ctx context.Context, opts Options) (*Engine, error) {
	if err := opts.ensureDefaults(); err != nil {
		return nil, err
	}
	if opts.Gate == nil {
		opts.Gate = func(context.Context, int) error { return nil }
	}
	e := &Engine{opts: opts, cache: newChunkCache(opts.Memory), dead: make(chan struct{}), flushEnded: make(chan struct{}, 1), rewritten: make(chan struct{}, 1)}
	if opts.Memory != nil {
		e.aheads = make(chan struct{}, aheadsMax)
	}
	e.nodes.nodes = make(map[Ino]*node)
	e.nodes.idleMax = int(opts.MetadataCache / 2 / nodeBytes)
	e.dentries.init(int(opts.MetadataCache / 2 / dentryBytes))
	e.reaper.init()
	e.touch.init()
	e.counting.init()
	e.pools.init(opts.ChunkSize)
	e.guard.init()
	e.life, e.endLife = context.WithCancelCause(context.Background())
	log := pebbleLogger{log: opts.Logger, fatal: e.fail}
	db, err := pebble.Open(opts.Dir, opts.pebbleOptions(e.valuePolicy, log, e.events()))
	if err != nil {
		e.endLife(ErrClosed)
		return nil, fmt.Errorf("engine: open the tree in %q: %w", opts.Dir, err)
	}
	e.db = db
	if err := e.loadState(); err != nil {
		e.endLife(ErrClosed)
		return nil, errors.Join(err, db.Close())
	}
	e.bg.Add(1)
	go e.watchFlushes()
	return e, nil
}

// loadState reads the volume's counters.
func (e *Engine) loadState() error {
	lsn, err := e.getState(stateLSN, 0)
	if err != nil {
		return err
	}
	e.applied.Store(lsn)
	next, err := e.getState(stateNext, uint64(RootIno)+1)
	if err != nil {
		return err
	}
	e.next.Store(next)
	size, err := e.getState(stateChunk, uint64(e.opts.ChunkSize))
	if err != nil {
		return err
	}
	v, err := e.get(appendStateKey(nil, stateUsage))
	if err != nil && !errors.Is(err, errNotExist) {
		return fmt.Errorf("engine: state %q: %w", stateUsage, err)
	}
	if err == nil {
		if e.used, err = decodeUsage(v); err != nil {
			return err
		}
	}
	if size != uint64(e.opts.ChunkSize) {
		return fmt.Errorf("engine: the volume's chunks are of %d bytes, not of %d: %w", size, e.opts.ChunkSize, errInvalid)
	}
	return nil
}

func (e *Engine) getState(name string, absent uint64) (uint64, error) {
	v, err := e.get(appendStateKey(nil, name))
	if errors.Is(err, errNotExist) {
		return absent, nil
	}
	if err != nil {
		return 0, fmt.Errorf("engine: state %q: %w", name, err)
	}
	n, err := decodeUint64(v)
	if err != nil {
		return 0, fmt.Errorf("engine: state %q: %w", name, err)
	}
	return n, nil
}

// Applied returns the last LSN whose change is in the tree.
func (e *Engine) Applied() journal.LSN { return journal.LSN(e.applied.Load()) }

// Replay applies a record of the log. Records at or below Applied are skipped; one beyond the next
// is refused with ErrGap. payload is copied.
func (e *Engine) Replay(lsn journal.LSN, payload []byte) error {
	if err := e.guard.enter(); err != nil {
		return err
	}
	defer e.guard.exit()
	e.mu.Lock()
	defer e.mu.Unlock()
	applied := e.Applied()
	switch {
	case e.started.Load():
		return fmt.Errorf("engine: replay of lsn %d after start: %w", lsn, errInvalid)
	case lsn <= applied:
		return nil
	case lsn != applied+1:
		return fmt.Errorf("engine: replay: lsn %d follows %d: %w", lsn, applied, ErrGap)
	}
	if err := checkRecord(lsn, payload, e.opts.ChunkSize); err != nil {
		return fmt.Errorf("engine: replay lsn %d: %w", lsn, err)
	}
	b := e.db.NewBatch()
	defer b.Close()
	if err := b.SetRepr(append([]byte(nil), payload...)); err != nil {
		return fmt.Errorf("engine: replay lsn %d: %w: %w", lsn, ErrCorrupt, err)
	}
	ops := b.Count()
	if err := e.db.Apply(b, pebble.NoSync); err != nil {
		return fmt.Errorf("engine: replay lsn %d: %w", lsn, err)
	}
	e.mem.grew(lsn, len(payload), ops)
	e.applied.Store(uint64(lsn))
	return nil
}

// Start ends replay. From now on the log must take Append. It makes the root directory of a new
// volume, and removes what unlinked files left behind.
func (e *Engine) Start(ctx context.Context) error {
	if err := e.loadState(); err != nil {
		return err
	}
	if last := e.opts.Log.Last(); last != e.Applied() {
		return fmt.Errorf("engine: start: the log ends at lsn %d, the tree at %d: %w", last, e.Applied(), ErrGap)
	}
	e.started.Store(true)
	if err := e.makeRoot(ctx); err != nil {
		return err
	}
	if err := e.reclaimOrphans(ctx); err != nil {
		return err
	}
	e.bg.Add(3)
	go e.reap()
	go e.keepCounted()
	go e.keepTouched()
	if e.opts.TidyAfter > 0 {
		e.bg.Add(1)
		go e.keepTidy()
	}
	return nil
}

// Flushed returns the last LSN that table files hold durably.
func (e *Engine) Flushed() (journal.LSN, error) {
	if err := e.guard.enter(); err != nil {
		return 0, err
	}
	defer e.guard.exit()
	key := []byte(lsnKey)
	it, err := e.db.NewIter(&pebble.IterOptions{
		LowerBound: key, UpperBound: append(key, 0), OnlyReadGuaranteedDurable: true,
	})
	if err != nil {
		return 0, fmt.Errorf("engine: read the durable lsn: %w", err)
	}
	defer it.Close()
	if !it.First() {
		if err := it.Error(); err != nil {
			return 0, fmt.Errorf("engine: read the durable lsn: %w", err)
		}
		return 0, nil
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return 0, fmt.Errorf("engine: read the durable lsn: %w", err)
	}
	lsn, err := decodeUint64(v)
	return journal.LSN(lsn), err
}

// Flush begins to write the memtable out; the channel is closed when its table files are durable.
// It takes a lock that a commit holds while it waits for memtables, so it may wait as long.
func (e *Engine) Flush() (<-chan struct{}, error) {
	if err := e.guard.enter(); err != nil {
		return nil, err
	}
	defer e.guard.exit()
	done, err := e.db.AsyncFlush()
	if err != nil {
		return nil, fmt.Errorf("engine: flush: %w", err)
	}
	return done, nil
}

// Close waits for calls that have begun and closes the tree. What was not flushed is left to the
// log. After a failure, before Close or in its course, it leaves the tree alone: a goroutine of
// Pebble's is parked with what it holds, and whoever waits for it waits for ever.
func (e *Engine) Close() error {
	e.endLife(ErrClosed)
	if !e.guard.close() {
		return ErrClosed
	}
	if e.failed.Load() != nil {
		return nil
	}
	closed := make(chan error, 1)
	go func() {
		e.guard.wait()
		e.bg.Wait()
		closed <- e.db.Close()
	}()
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("engine: close the tree: %w", err)
		}
	case <-e.dead:
	}
	return nil
}

// fail makes err final, and tells the owner once.
func (e *Engine) fail(err error) {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	if e.failed.CompareAndSwap(nil, &err) {
		close(e.dead)
		e.endLife(err)
		e.opts.Fatal(err)
	}
}

// get returns a copy of a key's value.
func (e *Engine) get(key []byte) ([]byte, error) {
	v, closer, err := e.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, errNotExist
	}
	if err != nil {
		return nil, err
	}
	v = append([]byte(nil), v...)
	return v, closer.Close()
}

// guard counts the calls in progress, so that Close can wait for them.
type guard struct {
	state atomic.Int64 // 2 × calls in progress + 1 when closed
	once  sync.Once
	idle  chan struct{}
}

func (g *guard) init() { g.idle = make(chan struct{}) }

func (g *guard) enter() error {
	if g.state.Add(2)&1 != 0 {
		g.exit()
		return ErrClosed
	}
	return nil
}

func (g *guard) exit() {
	if g.state.Add(-2) == 1 {
		g.once.Do(func() { close(g.idle) })
	}
}

// close refuses further calls; false if it was called before.
func (g *guard) close() bool {
	if g.state.Or(1)&1 != 0 {
		return false
	}
	if g.state.Load() == 1 {
		g.once.Do(func() { close(g.idle) })
	}
	return true
}

func (g *guard) wait() { <-g.idle }
