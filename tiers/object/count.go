package object

import (
	"context"
	"sync/atomic"
)

// Counts is how many requests went to a store since it was opened, and how many bytes of bodies.
// What a store bills is requests, so the parts of a large put count each for itself, and every
// attempt counts, whatever came of it.
type Counts struct {
	Put             int64 `json:"put"`
	CreateMultipart int64 `json:"create_multipart"`
	UploadPart      int64 `json:"upload_part"`
	Complete        int64 `json:"complete_multipart"`
	Abort           int64 `json:"abort_multipart"`
	Get             int64 `json:"get"`
	Head            int64 `json:"head"`
	List            int64 `json:"list"`
	Delete          int64 `json:"delete"`      // of one object
	DeleteMany      int64 `json:"delete_many"` // of up to PageMax objects
	BytesUp         int64 `json:"bytes_up"`    // of bodies sent whole or in part; what an error cut short counts as sent
	BytesDown       int64 `json:"bytes_down"`  // of bodies received
	Errors          int64 `json:"errors"`      // requests that failed, expected failures (Exists, NotFound) excepted
	Hedged          int64 `json:"hedged"`      // Gets that were asked a second time; in Get too
	HedgedWon       int64 `json:"hedged_won"`  // whose second answer came first
	Retried         int64 `json:"retried"`     // requests made again after a transient error
}

// Requests returns the number of requests of all kinds.
func (c Counts) Requests() int64 {
	return c.Put + c.CreateMultipart + c.UploadPart + c.Complete + c.Abort + c.Get + c.Head + c.List + c.Delete + c.DeleteMany
}

// Sub returns what came in addition since before.
func (c Counts) Sub(before Counts) Counts {
	return Counts{
		Put: c.Put - before.Put, CreateMultipart: c.CreateMultipart - before.CreateMultipart,
		UploadPart: c.UploadPart - before.UploadPart, Complete: c.Complete - before.Complete,
		Abort: c.Abort - before.Abort, Get: c.Get - before.Get, Head: c.Head - before.Head,
		List: c.List - before.List, Delete: c.Delete - before.Delete,
		DeleteMany: c.DeleteMany - before.DeleteMany, BytesUp: c.BytesUp - before.BytesUp,
		BytesDown: c.BytesDown - before.BytesDown, Errors: c.Errors - before.Errors,
		Hedged: c.Hedged - before.Hedged, HedgedWon: c.HedgedWon - before.HedgedWon,
		Retried: c.Retried - before.Retried,
	}
}

// Counters are Counts that many goroutines add to. The zero value is ready.
type Counters struct {
	Put, CreateMultipart, UploadPart, Complete, Abort atomic.Int64
	Get, Head, List, Delete, DeleteMany               atomic.Int64
	BytesUp, BytesDown, Errors                        atomic.Int64
}

// Counts returns the counts of now.
func (c *Counters) Counts() Counts {
	return Counts{
		Put: c.Put.Load(), CreateMultipart: c.CreateMultipart.Load(), UploadPart: c.UploadPart.Load(),
		Complete: c.Complete.Load(), Abort: c.Abort.Load(), Get: c.Get.Load(), Head: c.Head.Load(),
		List: c.List.Load(), Delete: c.Delete.Load(), DeleteMany: c.DeleteMany.Load(),
		BytesUp: c.BytesUp.Load(), BytesDown: c.BytesDown.Load(), Errors: c.Errors.Load(),
	}
}

// Done counts err if it is one that a healthy store does not answer with, and returns it.
func (c *Counters) Done(err error) error {
	switch KindOf(err) {
	case 0, Exists, NotFound:
	default:
		c.Errors.Add(1)
	}
	return err
}

// Counter is a store that counts its own requests.
type Counter interface {
	Counts() Counts
}

// CountsOf returns the counts of store: what the backend or Count counted, with what the wrappers
// above it add. A store that nothing counts gives zeros.
func CountsOf(store Store) Counts {
	var above Counts
	for ; store != nil; store = below(store) {
		switch s := store.(type) {
		case *Retrying:
			above.Retried += s.retried.Load()
		case *Hedging:
			above.Hedged += s.hedged.Load()
			above.HedgedWon += s.won.Load()
		case Counter:
			c := s.Counts()
			c.Retried, c.Hedged, c.HedgedWon = above.Retried, above.Hedged, above.HedgedWon
			return c
		}
	}
	return above
}

// Counting is a Store that counts. See Count.
type Counting struct {
	store Store
	count Counters
}

// Count returns a store that counts the requests to store, for backends that do not count by
// themselves. It belongs directly above the backend, below Hedge and Retry.
func Count(store Store) *Counting { return &Counting{store: store} }

// Counts returns how many requests there were.
func (c *Counting) Counts() Counts { return c.count.Counts() }

// Unwrap returns the store below.
func (c *Counting) Unwrap() Store { return c.store }

// Put counts and passes on.
func (c *Counting) Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error) {
	c.count.Put.Add(1)
	c.count.BytesUp.Add(body.Size())
	info, err := c.store.Put(ctx, key, body, opts)
	return info, c.count.Done(err)
}

// Get counts and passes on.
func (c *Counting) Get(ctx context.Context, key string, off int64, dst []byte) (int, Info, error) {
	c.count.Get.Add(1)
	n, info, err := c.store.Get(ctx, key, off, dst)
	c.count.BytesDown.Add(int64(n))
	return n, info, c.count.Done(err)
}

// Head counts and passes on.
func (c *Counting) Head(ctx context.Context, key string) (Info, error) {
	c.count.Head.Add(1)
	info, err := c.store.Head(ctx, key)
	return info, c.count.Done(err)
}

// List counts and passes on.
func (c *Counting) List(ctx context.Context, prefix, after string) (Page, error) {
	c.count.List.Add(1)
	page, err := c.store.List(ctx, prefix, after)
	return page, c.count.Done(err)
}

// Delete counts and passes on.
func (c *Counting) Delete(ctx context.Context, keys ...string) error {
	c.count.Delete.Add(int64(len(keys)))
	return c.count.Done(c.store.Delete(ctx, keys...))
}

// Ordered passes on.
func (c *Counting) Ordered() bool { return c.store.Ordered() }
