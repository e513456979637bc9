package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"zerofs/config"
)

// newLogger returns the process's logger: slog on w, as the configuration says.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.Level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if c.Format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(&limiter{Handler: h, state: &limits{now: time.Now, seen: map[string]*repeats{}}})
}

// Repeated warnings and errors: so many of the same message in a window are written, the rest are
// counted, and the count is written with the next one that is.
const (
	repeatWindow = 10 * time.Second
	repeatBurst  = 3
	repeatKeys   = 1000 // messages remembered at once
)

// limiter is a handler that keeps a message at warning or above from filling the log.
type limiter struct {
	slog.Handler
	state *limits
}

type limits struct {
	now  func() time.Time
	mu   sync.Mutex
	seen map[string]*repeats // guarded by mu
}

type repeats struct {
	since   time.Time
	written int
	dropped int64
}

// Handle writes r or counts it.
func (l *limiter) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return l.Handler.Handle(ctx, r)
	}
	dropped, write := l.state.admit(r.Message)
	if !write {
		return nil
	}
	if dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int64("repeated", dropped))
	}
	return l.Handler.Handle(ctx, r)
}

func (s *limits) admit(message string) (dropped int64, write bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	r := s.seen[message]
	if r == nil || now.Sub(r.since) >= repeatWindow {
		if r != nil {
			dropped = r.dropped
		}
		if len(s.seen) >= repeatKeys {
			clear(s.seen)
		}
		s.seen[message] = &repeats{since: now, written: 1}
		return dropped, true
	}
	if r.written < repeatBurst {
		r.written++
		return 0, true
	}
	r.dropped++
	return 0, false
}

// WithAttrs keeps the limits.
func (l *limiter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &limiter{Handler: l.Handler.WithAttrs(attrs), state: l.state}
}

// WithGroup keeps the limits.
func (l *limiter) WithGroup(name string) slog.Handler {
	return &limiter{Handler: l.Handler.WithGroup(name), state: l.state}
}
