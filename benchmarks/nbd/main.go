// Command nbd serves a block device in memory with the project's NBD server, for measuring the
// server without what stands behind it. run.sh compares it with nbdkit's memory plugin.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"time"

	"zerofs/servers/nbd"
)

func main() {
	socket := flag.String("socket", "", "Unix socket to listen on")
	listen := flag.String("listen", "", "TCP address to listen on")
	size := flag.Int64("size", 1<<30, "size of the device in bytes")
	fast := flag.Bool("fast", true, "answer reads from memory on the reading goroutine")
	sync := flag.Duration("sync", 0, "time that a group commit takes, for FUA and FLUSH")
	pprof := flag.String("pprof", "", "address of an HTTP server for profiles")
	flag.Parse()
	if err := run(*socket, *listen, *size, *fast, *sync, *pprof); err != nil {
		fmt.Fprintln(os.Stderr, "nbd:", err)
		os.Exit(1)
	}
}

func run(socket, listen string, size int64, fast bool, sync time.Duration, pprof string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	network, addr := "unix", socket
	if socket == "" {
		network, addr = "tcp", listen
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	if pprof != "" {
		go func() { fmt.Fprintln(os.Stderr, http.ListenAndServe(pprof, nil)) }()
	}
	mem := &memory{data: make([]byte, size), commit: newCommit(sync)}
	exports := exports{mem}
	if fast {
		exports.dev = fastMemory{mem}
	}
	srv := nbd.Server{Exports: exports}
	err = srv.Serve(ctx, ln, nbd.Options{DefaultExport: "memory"})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// exports is one device under one name.
type exports struct{ dev nbd.Device }

func (e exports) Names() []string { return []string{"memory"} }

func (e exports) Open(_ context.Context, name string) (nbd.Device, func(), error) {
	if name != "memory" {
		return nil, nil, fs.ErrNotExist
	}
	return e.dev, func() {}, nil
}

func (e exports) Wait(context.Context) error { return nil }

// memory is a device in memory. Like nbdkit's memory plugin it orders nothing between requests
// that overlap.
type memory struct {
	data   []byte
	commit *commit
}

func (m *memory) Size() int64 { return int64(len(m.data)) }

func (m *memory) ReadAt(_ context.Context, p []byte, off int64) error {
	copy(p, m.data[off:])
	return nil
}

func (m *memory) WriteAt(ctx context.Context, p []byte, off int64, durable bool) error {
	copy(m.data[off:], p)
	return m.durable(ctx, durable)
}

func (m *memory) Zero(ctx context.Context, off, n int64, _, durable bool) error {
	clear(m.data[off : off+n])
	return m.durable(ctx, durable)
}

func (m *memory) Trim(ctx context.Context, off, n int64, durable bool) error {
	return m.Zero(ctx, off, n, false, durable)
}

func (m *memory) Flush(ctx context.Context) error           { return m.durable(ctx, true) }
func (m *memory) Cache(context.Context, int64, int64) error { return nil }
func (m *memory) durable(ctx context.Context, durable bool) error {
	if !durable {
		return nil
	}
	return m.commit.wait(ctx)
}

func (m *memory) Extents(_ context.Context, _, n int64, fn func(int64, bool) bool) error {
	fn(n, false)
	return nil
}

// fastMemory is memory that says so.
type fastMemory struct{ *memory }

func (m fastMemory) TryReadAt(p []byte, off int64) bool {
	copy(p, m.data[off:])
	return true
}

// commit stands for a journal: everybody who waits when a sync begins is done when it ends.
type commit struct {
	takes   time.Duration
	mu      sync.Mutex
	next    chan struct{} // guarded by mu; closed when the sync that serves today's waiters ends
	runs    bool          // guarded by mu; run is running
	waiting int           // guarded by mu; for next
}

func newCommit(takes time.Duration) *commit { return &commit{takes: takes, next: make(chan struct{})} }

func (c *commit) wait(ctx context.Context) error {
	if c.takes == 0 {
		return nil
	}
	c.mu.Lock()
	done := c.next
	c.waiting++
	if !c.runs {
		c.runs = true
		go c.run()
	}
	c.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run does one sync after another while somebody waits for the next.
func (c *commit) run() {
	for {
		c.mu.Lock()
		done := c.next
		c.next = make(chan struct{})
		c.waiting = 0
		c.mu.Unlock()
		time.Sleep(c.takes)
		close(done)
		c.mu.Lock()
		c.runs = c.waiting > 0
		again := c.runs
		c.mu.Unlock()
		if !again {
			return
		}
	}
}
