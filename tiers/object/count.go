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
	var c Counts
	for store != nil {
		switch s := store.(type) {
		case *Retrying:
			c.Retried += s.retried.Load()
			store = s.store
		case *Hedging:
			c.Hedged += s.hedged.Load()
			c.HedgedWon += s.won.Load()
			store = s.store
		case Counter:
			below := s.Counts()
			below.Retried += c.Retried
			below.Hedged += c.Hedged
			below.HedgedWon += c.HedgedWon
			return below
		default:
			return c
		}
	}
	return c
}

// Counting is a Store that counts. See Count.
type Counting struct {
	store Store
	Counters
}

// Count returns a store that counts the requests to store, for backends that do not count by
// themselves. It belongs directly above the backend, below Hedge and Retry.
func Count(store Store) *Counting { return &Counting{store: store} }

// Put counts and passes on.
func (c *Counting) Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error) {
	c.Counters.Put.Add(1)
	c.BytesUp.Add(body.Size())
	info, err := c.store.Put(ctx, key, body, opts)
	return info, c.Done(err)
}

// Get counts and passes on.
func (c *Counting) Get(ctx context.Context, key string, off int64, dst []byte) (int, Info, error) {
	c.Counters.Get.Add(1)
	n, info, err := c.store.Get(ctx, key, off, dst)
	c.BytesDown.Add(int64(n))
	return n, info, c.Done(err)
}

// Head counts and passes on.
func (c *Counting) Head(ctx context.Context, key string) (Info, error) {
	c.Counters.Head.Add(1)
	info, err := c.store.Head(ctx, key)
	return info, c.Done(err)
}

// List counts and passes on.
func (c *Counting) List(ctx context.Context, prefix, after string) (Page, error) {
	c.Counters.List.Add(1)
	page, err := c.store.List(ctx, prefix, after)
	return page, c.Done(err)
}

// Delete counts and passes on.
func (c *Counting) Delete(ctx context.Context, keys ...string) error {
	c.Counters.Delete.Add(int64(len(keys)))
	return c.Done(c.store.Delete(ctx, keys...))
}

// Ordered passes on.
func (c *Counting) Ordered() bool { return c.store.Ordered() }
