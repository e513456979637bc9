package tiers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"zerofs/fence"
	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

const (
	uploads    = 8 // in parallel
	recaptures = 3 // of one round, because of files that Pebble removed before their upload
)

// writeback is the state of write-back rounds.
type writeback struct {
	turn chan struct{} // holds a token while no round runs

	// Of the round that holds the turn, and of the goroutine that waits for its Commit.
	landing *landing // a Commit whose answer was not waited for; nil if there is none
	failed  error    // of a Commit: final, since nobody knows what the log says now

	running       sync.WaitGroup // goroutines that wait for a Commit
	uploadedBytes atomic.Int64
	rounds        atomic.Int64

	// What the log says, as far as we know. Guarded by FS.mu.
	tables  map[string]string // name -> object
	metas   map[string]mark   // by name
	changes uint64            // FS.changes when that was captured
}

// mark is how much of which meta file the log has.
type mark struct {
	m *metaFile // nil: not one of ours
	n int
}

// landing is a Commit on its way into the log.
type landing struct {
	done chan struct{}
	err  error
}

func (w *writeback) init() {
	w.turn = make(chan struct{}, 1)
	w.turn <- struct{}{}
	w.tables = map[string]string{}
	w.metas = map[string]mark{}
}

// loadBase takes over what the log says.
func (f *FS) loadBase(base *fence.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, t := range base.Tables {
		f.wb.tables[name] = t.Object
	}
	for name, data := range base.Meta {
		m, _ := f.names[name].(*metaFile)
		f.wb.metas[name] = mark{m, len(data)}
	}
	r := f.capture()
	if !r.empty() {
		f.changes++
	}
	f.drop(r)
}

// Changed reports whether a round would change the bucket.
func (f *FS) Changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes != f.wb.changes
}

// WriteBack runs one round: capture, upload what is dirty, Commit with the given LSN. lsn is
// called before each capture, so that the captured tree holds at least what it returns. One round
// runs at a time; a second one waits for its turn.
//
// When ctx ends during uploads the round is abandoned, and the next one uses what was uploaded.
// When it ends during the Commit, that goes on by itself and the next round waits for it first.
// An error of the Commit is final: every later round fails with it.
func (f *FS) WriteBack(ctx context.Context, lsn func() (uint64, error)) error {
	select {
	case <-f.wb.turn:
		defer func() { f.wb.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("tiers: write-back: %w", context.Cause(ctx))
	}
	if err := f.landed(ctx); err != nil {
		return err
	}
	ctx, cancel := f.join(ctx)
	defer cancel()
	r, at, err := f.prepare(ctx, lsn)
	if err != nil {
		return fmt.Errorf("tiers: write-back: %w", err)
	}
	if err := f.stopped(); err != nil { // with nothing to upload, nobody has asked yet
		f.mu.Lock()
		defer f.mu.Unlock()
		f.drop(r)
		return fmt.Errorf("tiers: write-back: %w", err)
	}
	f.commit(r, at)
	return f.landed(ctx)
}

// join returns a context that ends with ctx and with the file system.
func (f *FS) join(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(f.ctx, func() { cancel(context.Cause(f.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

// prepare captures and uploads until everything captured is in the store. It captures anew, and
// keeps what was uploaded, when a file went that was not uploaded yet: its upload would be wasted.
func (f *FS) prepare(ctx context.Context, lsn func() (uint64, error)) (r *round, at uint64, err error) {
	for tries := 0; ; tries++ {
		if at, err = lsn(); err != nil {
			return nil, 0, fmt.Errorf("lowest durable LSN: %w", err)
		}
		f.mu.Lock()
		r = f.capture()
		f.mu.Unlock()
		// What the log says must be durable here as well: names that a crash takes back would
		// come again with other bytes.
		err = f.flush(false)
		if err == nil {
			err = f.upload(ctx, r, tries < recaptures)
		}
		if err == nil {
			return r, at, nil
		}
		f.mu.Lock()
		f.drop(r)
		f.mu.Unlock()
		if !errors.Is(err, errStale) {
			return nil, 0, err
		}
	}
}

// commit begins to append the round's Commit. The log is asked for it to the end, whatever the
// caller does, since the next deltas build on the outcome.
func (f *FS) commit(r *round, lsn uint64) {
	l := &landing{done: make(chan struct{})}
	f.wb.landing = l
	f.wb.running.Go(func() {
		defer close(l.done)
		c := r.commit(lsn)
		if l.err = f.opts.Log.Commit(f.ctx, c); l.err == nil {
			f.apply(r)
			f.wb.rounds.Add(1)
		}
		f.mu.Lock()
		f.drop(r)
		f.mu.Unlock()
	})
}

// landed waits for the Commit on its way, if there is one.
func (f *FS) landed(ctx context.Context) error {
	if l := f.wb.landing; l != nil {
		select {
		case <-l.done:
			f.wb.landing = nil
			if l.err == nil {
				break
			}
			err := fmt.Errorf("tiers: write-back: %w", l.err)
			if !final(l.err) {
				return err // the record was never sent: the next round builds on the same state
			}
			f.wb.failed = err
		case <-ctx.Done():
			return fmt.Errorf("tiers: write-back: the commit is still on its way: %w", context.Cause(ctx))
		}
	}
	return f.wb.failed
}

// final reports whether an error of CommitLog.Commit leaves open what the log holds, or that
// nothing can be appended any more. After any other the record is not in the log.
func final(err error) bool {
	return errors.Is(err, fence.ErrFenced) || errors.Is(err, fence.ErrClosed) || errors.Is(err, fence.ErrUnanswered)
}

// apply takes over what the log says now, and makes the round's table files clean.
func (f *FS) apply(r *round) {
	f.mu.Lock()
	for _, name := range r.dropped {
		delete(f.wb.tables, name)
	}
	for _, c := range r.added {
		f.wb.tables[c.name] = c.t.object
		if !c.t.committed.Swap(true) {
			f.dirtyFiles--
			f.dirtyBytes -= c.t.stored()
		}
	}
	for _, d := range r.metas {
		if d.delta.Removed {
			delete(f.wb.metas, d.delta.Name)
		} else {
			f.wb.metas[d.delta.Name] = mark{d.m, int(d.delta.Offset) + len(d.delta.Data)}
		}
	}
	f.wb.changes = r.changes
	f.mu.Unlock()
	for _, c := range r.added {
		f.opts.NVMe.MarkClean(c.t.id)
	}
}

// putObject uploads one table file. An object that exists already is an upload of the same bytes
// which an abandoned round, or a process before us, did not live to see: nobody else has the name.
func (f *FS) putObject(ctx context.Context, c captured) error {
	r, err := f.opts.NVMe.OpenFile(c.t.id, c.t.size)
	if err != nil {
		return fmt.Errorf("upload %s: %w", c.name, err)
	}
	defer r.Close()
	_, err = object.PutUnique(ctx, f.opts.Store, c.t.object, r.Stored())
	if errors.Is(err, object.ErrExists) {
		return f.checkObject(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("upload %s: %w", c.name, err)
	}
	f.wb.uploadedBytes.Add(c.t.stored())
	return nil
}

// checkObject makes sure that an object which exists is the table file by its size.
func (f *FS) checkObject(ctx context.Context, c captured) error {
	info, err := f.opts.Store.Head(ctx, c.t.object)
	if err == nil && info.Size != c.t.stored() {
		err = fmt.Errorf("object %s: %w: it has %d bytes, not %d", c.t.object, seal.ErrCorrupt, info.Size, c.t.stored())
	}
	if err != nil {
		return fmt.Errorf("upload %s: %w", c.name, err)
	}
	return nil
}
