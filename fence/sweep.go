package fence

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"zerofs/tiers/object"
)

const (
	filesPrefix = "files/"
	sweepEvery  = 24 * time.Hour
)

// sweeper finds bodies whose record was never sent: their owner died in between. It goes through the
// listing page by page, once a day.
type sweeper struct {
	after string        // where the next page begins; empty between sweeps
	next  time.Duration // boot time at which the next sweep begins; zero until the first tick
}

// due reports whether a page is to be read at now.
func (s *sweeper) due(now time.Duration) bool {
	if s.next == 0 {
		s.next = now + sweepEvery/24
	}
	return s.after != "" || now >= s.next
}

// sweepPage reads a page and discards what nothing names.
func (o *Owner) sweepPage(s *sweeper) error {
	var page object.Page
	err := attempt(o.ctx, o.store.timeout, func(ctx context.Context) (err error) {
		page, err = o.store.store.List(ctx, filesPrefix, s.after)
		return err
	})
	if err != nil {
		return fmt.Errorf("fence: list bodies: %w", err)
	}
	if s.after = page.Next; s.after == "" {
		s.next = o.opts.Boottime() + sweepEvery
	}
	o.mu.Lock()
	orphans := o.log.orphans(page, o.epoch, o.opts.Retention)
	o.mu.Unlock()
	if len(orphans) > 0 {
		o.opts.Logger.Info("fence: discarding bodies without a record", "objects", len(orphans), "first", orphans[0])
		o.Discard(orphans)
	}
	return nil
}

// orphans returns the bodies in the page that are of an epoch before ours, older than minAge by the
// store's clock, and named by nothing. A dead epoch appends no more, so that nothing will name them.
func (s *logState) orphans(page object.Page, ours Epoch, minAge time.Duration) (keys []string) {
	for _, e := range page.Entries {
		epoch, ok := bodyEpoch(e.Key)
		_, doomed := s.trash[e.Key]
		named := s.live[e.Key] > 0 || slices.ContainsFunc(s.bodies, func(b bodyAt) bool { return b.object == e.Key })
		switch {
		case !ok || epoch >= ours || named || doomed:
		case page.Date.IsZero() || e.Modified.IsZero() || page.Date.Sub(e.Modified) < minAge:
		default:
			keys = append(keys, e.Key)
		}
	}
	return keys
}

// bodyEpoch returns the epoch in the key of a body; ok is false for every other key.
func bodyEpoch(key string) (epoch Epoch, ok bool) {
	name, found := strings.CutPrefix(key, filesPrefix)
	digits, rest, dashed := strings.Cut(name, "-")
	_, ext, dotted := strings.Cut(rest, ".")
	if !found || !dashed || !dotted || len(digits) != 16 {
		return 0, false
	}
	if ext != kindShip.String() && ext != kindCommit.String() && ext != kindBase.String() {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return Epoch(n), err == nil
}
