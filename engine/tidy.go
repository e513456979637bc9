package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// While the volume is busy, table files hold garbage: values that newer ones shadow, and values in blob
// files that nothing refers to. Getting the space back costs writes, which a busy volume had better
// spend on its users. When it has been quiet for a while the space comes back.

// valuePolicy says how hard blob files are rewritten. Pebble asks it at each decision.
func (e *Engine) valuePolicy() pebble.ValueSeparationPolicy {
	v := pebble.ValueSeparationPolicy{
		Enabled:               true,
		MinimumSize:           separatedMin,
		MaxBlobReferenceDepth: refDepthBusy,
		RewriteMinimumAge:     0,
		TargetGarbageRatio:    garbageBusy,
	}
	if e.quiet.Load() {
		v.MaxBlobReferenceDepth, v.TargetGarbageRatio = refDepthQuiet, garbageQuiet
	}
	return v
}

// Value separation while the volume is busy and while it is tidied, as measured by TestTidy: busy,
// write amplification binds; quiet, space does.
const (
	separatedMin  = 512  // bytes of the smallest value that goes to a blob file
	refDepthBusy  = 10   // blob files that a table may refer to in one place, before values are rewritten
	refDepthQuiet = 40   // and when quiet
	garbageBusy   = 0.30 // share of garbage from which on blob files are rewritten
	garbageQuiet  = 0.10 // and when quiet
	upperQuiet    = 0.05 // share of the tree above its bottom level that is left there when quiet
	deletedQuiet  = 0.05 // share of it below range tombstones that is left there when quiet
)

const (
	tidyLook    = 10 * time.Second // between two looks whether the volume is quiet
	tidyStalled = 2 * time.Second  // without a rewrite, after which Pebble is reminded
	quietBytes  = 2 << 20          // applied in tidyLook, at most, while it counts as quiet
	tidyAgain   = 32 << 20         // applied since it was tidied, from which on it is worth it again
	busyBytes   = 16 << 20         // applied while it is tidied, from which on it is no longer quiet
)

// keepTidy tidies when little has been changed for a while, once after each busy time.
func (e *Engine) keepTidy() {
	defer e.bg.Done()
	tick := time.NewTicker(tidyLook)
	defer tick.Stop()
	seen, tidied := e.mem.applied.Load(), int64(-tidyAgain)
	quiet := time.Duration(0)
	for {
		select {
		case <-tick.C:
		case <-e.life.Done():
			return
		}
		now := e.mem.applied.Load()
		if quiet += tidyLook; now-seen > quietBytes {
			quiet = 0
		}
		seen = now
		if quiet < e.opts.TidyAfter || (now-tidied < tidyAgain && e.deletedShare() <= deletedQuiet) {
			continue
		}
		switch err := e.Tidy(e.life); {
		case err == nil:
			tidied = now
		case errors.Is(err, errBusy), e.life.Err() != nil:
		default:
			e.opts.Logger.Warn("cannot tidy the tree", "err", err)
		}
	}
}

// errBusy says that many changes came while the tree was tidied.
var errBusy = errors.New("engine: no longer quiet")

// Tidy gets space back until little is left to be had: it flushes, brings the tree into one level
// and rewrites blob files. It gives up, with an error, when many changes come meanwhile; what it did stays.
func (e *Engine) Tidy(ctx context.Context) error {
	if err := e.guard.enter(); err != nil {
		return err
	}
	defer e.guard.exit()
	e.tidying.Lock()
	defer e.tidying.Unlock()
	e.quiet.Store(true)
	defer e.quiet.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(e.life, cancel)
	defer stop()
	start := e.mem.applied.Load()
	if err := e.nudge(ctx); err != nil {
		return err
	}
	if e.upperShare() > upperQuiet || e.deletedShare() > deletedQuiet {
		if err := e.db.Compact(ctx, []byte{0}, []byte{0xff}, true); err != nil {
			return fmt.Errorf("engine: tidy: %w", err)
		}
	}
	return e.rewriteGarbage(ctx, start)
}

// upperShare returns the share of the tree, values included, that lies above its bottom level.
func (e *Engine) upperShare() float64 {
	m := e.db.Metrics()
	var upper, all float64
	for i, l := range m.Levels {
		n := float64(l.TablesSize) + float64(l.EstimatedReferencesSize)
		all += n
		if i < len(m.Levels)-1 {
			upper += n
		}
	}
	if all == 0 {
		return 0
	}
	return upper / all
}

// deletedShare estimates the share of the tree that lies below range tombstones: a discarded range weighs
// nothing where it was written, so that only this tells of it. Values in blob files are counted on neither side.
func (e *Engine) deletedShare() float64 {
	m := e.db.Metrics()
	var all int64
	for _, l := range m.Levels {
		all += l.TablesSize
	}
	if all == 0 {
		return 0
	}
	return float64(m.Table.Garbage.RangeDeletionsBytesEstimate) / float64(all)
}

// rewriteGarbage waits until Pebble has rewritten the blob files that are worth it. It does one at a
// time, and looks for the next when one is done.
func (e *Engine) rewriteGarbage(ctx context.Context, start int64) error {
	reminder := time.NewTimer(tidyStalled)
	defer reminder.Stop()
	reminded := false
	for {
		b := e.db.Metrics().BlobFiles
		if float64(b.ValueSize-b.ReferencedValueSize) <= garbageQuiet*float64(b.ValueSize) {
			return nil
		}
		if e.mem.applied.Load()-start > busyBytes {
			return errBusy
		}
		select {
		case <-e.rewritten:
			reminded = false
			reminder.Reset(tidyStalled)
		case <-reminder.C:
			if reminded { // nothing came of it: what is left cannot be had now
				return nil
			}
			reminded = true
			if err := e.nudge(ctx); err != nil {
				return err
			}
			reminder.Reset(tidyStalled)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// nudge flushes, after which Pebble looks for something to compact.
func (e *Engine) nudge(ctx context.Context) error {
	done, err := e.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("engine: tidy: %w", err)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
