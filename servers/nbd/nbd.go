// Package nbd serves block devices over the NBD protocol.
package nbd

import "context"

// Device is one block device. Any goroutine may call any method; ranges are within Size and
// not necessarily aligned. Errors are mapped to NBD errnos by servers.Errno.
type Device interface {
	// Size returns the size in bytes, a multiple of 512.
	Size() int64

	// ReadAt fills p from off.
	ReadAt(ctx context.Context, p []byte, off int64) error

	// WriteAt writes p at off. It is visible when WriteAt returns; with durable it is durable too.
	// p may be reused after the return.
	WriteAt(ctx context.Context, p []byte, off int64, durable bool) error

	// Zero makes the range read as zeros. With keep the space stays allocated where that means anything.
	Zero(ctx context.Context, off, n int64, keep, durable bool) error

	// Trim gives the range back; it reads as zeros afterwards.
	Trim(ctx context.Context, off, n int64, durable bool) error

	// Flush returns when every write, Zero and Trim that completed before it, on whatever
	// connection, is durable.
	Flush(ctx context.Context) error

	// Cache brings the range nearer.
	Cache(ctx context.Context, off, n int64) error

	// Extents calls fn for the runs of data and holes from off to off+n, in order, until fn returns false.
	Extents(ctx context.Context, off, n int64, fn func(n int64, hole bool) bool) error
}

// Exports is what a server can serve.
type Exports interface {
	// Names returns the names of the exports, sorted.
	Names() []string

	// Open opens an export. Release is called when the connection ends. An unknown name gives
	// an error that matches fs.ErrNotExist.
	Open(ctx context.Context, name string) (dev Device, release func(), err error)

	// Wait returns when an answer may be sent now (the lease holds), else why it never will.
	// It is called immediately before each answer is written and is cheap when it need not wait.
	Wait(ctx context.Context) error
}
