package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/journal"
	"zerofs/tiers/memory"
)

// fakeLog is a journal in memory. Like the real one it knows what was appended and what is durable.
type fakeLog struct {
	mu       sync.Mutex
	first    journal.LSN // of records[0]; those before it were released
	records  [][]byte
	durable  journal.LSN
	reserved int
	fail     error // of the next Append
	discard  bool  // keep nothing: for benchmarks
	last     journal.LSN
}

func newFakeLog() *fakeLog { return &fakeLog{first: 1} }

func (l *fakeLog) Reserve(ctx context.Context, n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved += n
	return ctx.Err()
}

func (l *fakeLog) Unreserve(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved -= n
}

func (l *fakeLog) Append(payload []byte, reserved int) (journal.LSN, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return 0, l.fail
	}
	if len(payload) > reserved {
		return 0, fmt.Errorf("record of %d bytes in %d reserved", len(payload), reserved)
	}
	l.reserved -= reserved
	l.last++
	if !l.discard {
		l.records = append(l.records, bytes.Clone(payload))
	}
	return l.last, nil
}

func (l *fakeLog) Last() journal.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// sync makes what was appended up to lsn durable.
func (l *fakeLog) sync(_ context.Context, lsn journal.LSN) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lsn > l.last {
		return fmt.Errorf("sync of lsn %d after %d", lsn, l.last)
	}
	l.durable = max(l.durable, lsn)
	return nil
}

// cut returns the log after a crash that kept records up to lsn.
func (l *fakeLog) cut(lsn journal.LSN) *fakeLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &fakeLog{first: l.first, records: l.records[: lsn-l.first+1 : lsn-l.first+1], last: lsn, durable: lsn}
}

// replay hands every record to the engine, as the journal does.
func (l *fakeLog) replay(e *Engine) error {
	for i, r := range l.records {
		if err := e.Replay(l.first+journal.LSN(i), r); err != nil {
			return err
		}
	}
	l.last = max(l.last, e.Applied()) // as Journal.Start is told
	return nil
}

var testTime = time.Unix(1_700_000_000, 0)

func testOptions(fs vfs.FS, log *fakeLog) Options {
	return Options{
		FS: fs, Dir: "tree", Log: log, Durable: log.sync,
		MemTableSize: 1 << 20, BlockCache: 4 << 20,
		Now:    func() time.Time { return testTime },
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Fatal:  func(err error) { panic(err) },
	}
}

// openEngine opens, replays and starts; the test closes it.
func openEngine(t testing.TB, opts Options, log *fakeLog) *Engine {
	t.Helper()
	e, err := openStarted(opts, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if e.failed.Load() == nil && e.guard.state.Load()&1 == 0 {
			if _, err := e.Check(context.Background(), true, func(p Problem) { t.Errorf("check: %s", p) }); err != nil {
				t.Errorf("check: %v", err)
			}
		}
		if err := e.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func openStarted(opts Options, log *fakeLog) (*Engine, error) {
	e, err := Open(context.Background(), opts)
	if err != nil {
		return nil, err
	}
	if err := log.replay(e); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if err := e.Start(context.Background()); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func openDevice(t testing.TB, e *Engine, name string, size int64) *Device {
	t.Helper()
	ctx := context.Background()
	if err := e.EnsureDevice(ctx, name, size); err != nil {
		t.Fatal(err)
	}
	d, err := e.Device(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// mapCache is a memory tier that forgets nothing by itself and checks its users: a fill that raced
// with a write loses, as chunkCache says.
type mapCache struct {
	mu      sync.Mutex
	chunks  map[[2]uint64][]byte
	version map[[2]uint64]uint64
	tokens  uint64
	began   map[memory.Token]uint64
	evict   func() bool // forget the chunk that is asked for
}

func newMapCache(evict func() bool) *mapCache {
	return &mapCache{chunks: map[[2]uint64][]byte{}, version: map[[2]uint64]uint64{}, began: map[memory.Token]uint64{}, evict: evict}
}

func (c *mapCache) Get(dst []byte, inode, index uint64) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.evict != nil && c.evict() {
		delete(c.chunks, [2]uint64{inode, index})
	}
	v, ok := c.chunks[[2]uint64{inode, index}]
	return append(dst, v...), ok
}

func (c *mapCache) BeginFill(inode, index uint64) memory.Token {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens++
	c.began[memory.Token(c.tokens)] = c.version[[2]uint64{inode, index}]
	return memory.Token(c.tokens)
}

func (c *mapCache) Fill(tok memory.Token, inode, index uint64, chunk []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := [2]uint64{inode, index}
	if v, ok := c.began[tok]; ok && v == c.version[k] {
		c.chunks[k] = bytes.Clone(chunk)
	}
	delete(c.began, tok)
}

func (c *mapCache) Write(inode, index uint64, chunk []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := [2]uint64{inode, index}
	c.version[k]++
	c.chunks[k] = bytes.Clone(chunk)
}

func (c *mapCache) Invalidate(inode, first, last uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := first; i <= last; i++ {
		k := [2]uint64{inode, i}
		c.version[k]++
		delete(c.chunks, k)
	}
}
