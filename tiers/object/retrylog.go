package object

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// retryLog writes the errors that retries end: a line when the store begins to fail, one every
// retryLogPause while it goes on failing, and one when it is well again.
type retryLog struct {
	logger *slog.Logger
	now    func() time.Time

	failing atomic.Bool // so that good costs a load while all is well

	mu         sync.Mutex // taken alone
	since      time.Time  // of the first failure
	last       time.Time  // of the last line
	suppressed int        // failures since the last line
}

// bad reports a failed attempt that will be made again.
func (l *retryLog) bad(op, key string, attempt int, err error) {
	if l.logger == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !l.failing.Load() {
		l.since = now
		l.failing.Store(true)
	}
	if !l.last.IsZero() && now.Sub(l.last) < retryLogPause {
		l.suppressed++
		return
	}
	l.logger.Warn("object store request failed, trying again",
		"op", op, "key", key, "attempt", attempt, "suppressed", l.suppressed, "err", err)
	l.last, l.suppressed = now, 0
}

// good reports a request that succeeded. The store counts as well when the last line about
// failures is older than retryLogPause: single failures among successes stay one line.
func (l *retryLog) good() {
	if l.logger == nil || !l.failing.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !l.failing.Load() || now.Sub(l.last) < retryLogPause {
		return
	}
	l.failing.Store(false)
	l.logger.Info("object store answers again", "failing_for", now.Sub(l.since), "suppressed", l.suppressed)
	l.suppressed = 0
}
