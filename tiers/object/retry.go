package object

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// RetryOptions says how Retry retries. The zero value is usable: no jitter, no log.
type RetryOptions struct {
	DelayMin time.Duration // before the second attempt, 50 ms if zero; each further one waits twice as long
	DelayMax time.Duration // at most, 5 s if zero
	// Jitter returns a number in [0,1), from which each delay is drawn between its half and its
	// whole. Called by many goroutines. Nil: always the whole.
	Jitter func() float64

	// Timeout and RateMin bound one attempt: Timeout and as long as its body takes at RateMin
	// bytes a second. 30 s and 256 KiB/s if zero.
	Timeout time.Duration
	RateMin int64

	Now    func() time.Time // times the lines of Logger; needed with Logger only
	Logger *slog.Logger     // told of failed attempts, a line every ten seconds at most; nil: nobody
}

// The defaults of RetryOptions, and the pace of its log.
const (
	retryDelayMin = 50 * time.Millisecond
	retryDelayMax = 5 * time.Second
	retryTimeout  = 30 * time.Second
	retryRateMin  = 256 << 10
	retryLogPause = 10 * time.Second
)

// Retrying is a Store that retries. See Retry.
type Retrying struct {
	store   Store
	opts    RetryOptions
	retried atomic.Int64
	log     retryLog
}

// Retry returns a store that makes requests again after transient errors, with capped exponential
// backoff and jitter, until the caller's context ends: a caller that wants an end sets a deadline.
//
// A Put with IfAbsent passes through once and unretried, within the bound of one attempt. After a
// lost answer a second attempt could only say "exists", and whose object that is only the caller
// can know: the fenced log by its nonce, PutUnique by a name that nobody else can have.
// A plain Put is retried, so that an earlier attempt of it may land late, over a newer Put of the
// same key: plain puts are for hints.
func Retry(store Store, opts RetryOptions) *Retrying {
	if opts.DelayMin <= 0 {
		opts.DelayMin = retryDelayMin
	}
	if opts.DelayMax <= 0 {
		opts.DelayMax = retryDelayMax
	}
	if opts.Timeout <= 0 {
		opts.Timeout = retryTimeout
	}
	if opts.RateMin <= 0 {
		opts.RateMin = retryRateMin
	}
	return &Retrying{store: store, opts: opts, log: retryLog{logger: opts.Logger, now: opts.Now}}
}

// Unwrap returns the store below.
func (r *Retrying) Unwrap() Store { return r.store }

// Put stores body. With IfAbsent it makes one attempt.
func (r *Retrying) Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error) {
	if opts.IfAbsent {
		ctx, cancel := context.WithTimeout(ctx, r.bound(body.Size()))
		defer cancel()
		return r.store.Put(ctx, key, body, opts)
	}
	var info Info
	err := r.do(ctx, OpPut, key, body.Size(), func(ctx context.Context) (err error) {
		info, err = r.store.Put(ctx, key, body, opts)
		return err
	})
	return info, err
}

// Get reads a range of an object.
func (r *Retrying) Get(ctx context.Context, key string, off int64, dst []byte) (int, Info, error) {
	var n int
	var info Info
	err := r.do(ctx, OpGet, key, int64(len(dst)), func(ctx context.Context) (err error) {
		n, info, err = r.store.Get(ctx, key, off, dst)
		return err
	})
	return n, info, err
}

// Head returns an object's Info.
func (r *Retrying) Head(ctx context.Context, key string) (Info, error) {
	var info Info
	err := r.do(ctx, OpHead, key, 0, func(ctx context.Context) (err error) {
		info, err = r.store.Head(ctx, key)
		return err
	})
	return info, err
}

// List returns a page of objects.
func (r *Retrying) List(ctx context.Context, prefix, after string) (Page, error) {
	var page Page
	err := r.do(ctx, OpList, prefix, 0, func(ctx context.Context) (err error) {
		page, err = r.store.List(ctx, prefix, after)
		return err
	})
	return page, err
}

// Delete removes objects.
func (r *Retrying) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	// A backend may take several requests for many keys; each key is allowed for as a KiB.
	return r.do(ctx, OpDelete, keys[0], int64(len(keys))<<10, func(ctx context.Context) error {
		return r.store.Delete(ctx, keys...)
	})
}

// Ordered passes on.
func (r *Retrying) Ordered() bool { return r.store.Ordered() }

// bound returns how long one attempt with n bytes of body may take.
func (r *Retrying) bound(n int64) time.Duration {
	return r.opts.Timeout + time.Duration(float64(n)/float64(r.opts.RateMin)*float64(time.Second))
}

// do makes attempts until one does not fail as transient or ctx ends.
func (r *Retrying) do(ctx context.Context, op, key string, size int64, attempt func(context.Context) error) error {
	for n := 1; ; n++ {
		err := r.once(ctx, size, attempt)
		if err == nil {
			r.log.good()
			return nil
		}
		if !errors.Is(err, ErrTransient) || ctx.Err() != nil {
			return err
		}
		r.log.bad(op, key, n, err)
		if !Pause(ctx, r.opts.delay(n)) {
			return &Error{op, key, Transient, fmt.Errorf("%w after %d attempts, the last: %w", ctx.Err(), n, err)}
		}
		r.retried.Add(1)
	}
}

func (r *Retrying) once(ctx context.Context, size int64, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.bound(size))
	defer cancel()
	return attempt(ctx)
}

// delay returns how long to wait after the n-th attempt, from 1.
func (o *RetryOptions) delay(n int) time.Duration {
	d := o.DelayMax
	if shift := n - 1; shift < 32 && o.DelayMin<<shift < o.DelayMax {
		d = o.DelayMin << shift
	}
	if o.Jitter == nil {
		return d
	}
	return d/2 + time.Duration(o.Jitter()*float64(d/2))
}

// Pause waits for d and reports true, or false as soon as ctx ends.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
