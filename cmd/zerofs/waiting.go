package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A wait is told from waitFirst on, every waitEvery.
const (
	waitFirst = 2 * time.Second
	waitEvery = 10 * time.Second
)

// waits makes waiting visible: in the log, and in the status.
type waits struct {
	log *slog.Logger

	mu    sync.Mutex
	what  string    // guarded by mu; empty while nothing is waited for
	since time.Time // guarded by mu
}

// begin says that the process waits for something, until done is called.
func (w *waits) begin(what string) (done func()) {
	ctx, cancel := context.WithCancel(context.Background())
	start := time.Now()
	w.set(what, start)
	var ended sync.WaitGroup
	ended.Add(1)
	go func() {
		defer ended.Done()
		w.tell(ctx, what, start)
	}()
	return func() {
		cancel()
		ended.Wait()
		w.set("", time.Time{})
	}
}

func (w *waits) tell(ctx context.Context, what string, start time.Time) {
	t := time.NewTimer(waitFirst)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			w.log.Info("waiting", "for", what, "seconds", int(time.Since(start).Seconds()+0.5))
			t.Reset(waitEvery)
		case <-ctx.Done():
			return
		}
	}
}

func (w *waits) set(what string, since time.Time) {
	w.mu.Lock()
	w.what, w.since = what, since
	w.mu.Unlock()
}

// now returns what is waited for and for how long.
func (w *waits) now() (what string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.what == "" {
		return "", 0
	}
	return w.what, time.Since(w.since)
}
