// Package nbd serves block devices over the NBD protocol: fixed newstyle negotiation with TLS,
// structured replies and base:allocation, and every command of the transmission phase that a block
// device has. docs/design/nbd.md says why the server is our own.
//
// # Invariants
//
//   - A request is answered after the device has done it, never before; with FUA after it is durable.
//   - FLUSH covers every change that was answered before it, on whatever connection: the device is
//     one for all of them.
//   - Exports.Wait is asked before every write of answers to a socket. When it fails, nothing more
//     is answered on that connection.
//   - Memory is bounded by what was admitted, never by a length that a client named: buffers are
//     taken after the length was checked and counted.
//   - A client that stalls, in the handshake, in a payload or in reading its answers, loses its
//     connection when the time limit passes. Others keep a reserve that it cannot take.
//
// # Format
//
// The protocol's. Byte tables stand at the functions which read and write them: negotiate, option,
// optionReply, infoRequest, header, putSimple, putChunk. Integers are big-endian.
//
// # Concurrency
//
// Each connection has one goroutine that reads. A READ that the device has in memory (FastReader)
// it answers itself, many in one write. Other requests go to workers, so that none waits for
// another; answers go out in any order. Whoever finishes a request while nobody writes to the
// socket becomes the writer until no answer is left, so that answers which come together leave in
// one system call and a lone request takes no detour over further goroutines.
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

// FastReader is implemented by devices that can tell at once whether they have a range in memory.
type FastReader interface {
	// TryReadAt fills p from off if it can do so without waiting for disk, store, lease or a lock
	// that is held for long, and reports whether it did. When it did not, p is left with anything
	// in it, and ReadAt will be called.
	TryReadAt(p []byte, off int64) bool
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
