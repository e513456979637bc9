package servers

import (
	"sync"
	"time"
)

// limited lets something be said once per interval and counts what was left unsaid meanwhile.
// It needs no clock: a timer of its own ends the silence.
type limited struct {
	every time.Duration

	mu     sync.Mutex
	quiet  bool  // guarded by mu
	missed int64 // guarded by mu; since the last say
}

// do calls say, with the number of calls that were left out before, unless it was called less
// than the interval ago.
func (l *limited) do(say func(missed int64)) {
	l.mu.Lock()
	if l.quiet {
		l.missed++
		l.mu.Unlock()
		return
	}
	missed := l.missed
	l.missed, l.quiet = 0, true
	l.mu.Unlock()
	time.AfterFunc(l.every, func() {
		l.mu.Lock()
		l.quiet = false
		l.mu.Unlock()
	})
	say(missed)
}
