// Package object is the bottom tier: a flat namespace of immutable objects in an object store.
//
// Store is the one interface that every backend implements and that the conformance suite
// (package objecttest) pins. Keys are UTF-8, use '/' as separator and are relative to the
// volume's prefix; no key is a "directory" of another (there is never both x and x/y).
//
// # Semantics, for every backend
//
//   - A successful Put is durable and atomic: a reader sees all of it or none of it.
//   - Get, Head and List are read-after-write.
//   - Of two racing puts with IfAbsent exactly one wins; the other gets ErrExists.
//   - A lost answer is the normal case: a Put which failed with a transient error may have
//     happened. With IfAbsent the retry then meets ErrExists from its own first try, so a
//     caller that gets ErrExists reads back to learn whose object it is.
//   - Every error is an *Error with a Kind; errors.Is works with the sentinels. A request whose
//     context ended fails as Transient with the context's error as the cause.
//   - A key that CheckKey refuses is Fatal.
//
// # Concurrency
//
// Any goroutine may call any method. Every method ends when its context ends.
package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Store is an object store below one prefix.
type Store interface {
	// Put stores the whole of body under key. Large bodies may travel as parallel parts; they
	// become visible at once or not at all, with IfAbsent as well.
	Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error)

	// Get fills dst from the object's bytes at off. It returns the number of bytes read, which
	// is less than len(dst) only when the object ends before; a range past the end gives 0 and
	// no error. Info.Size is the size of the whole object.
	Get(ctx context.Context, key string, off int64, dst []byte) (int, Info, error)

	// Head returns the object's Info.
	Head(ctx context.Context, key string) (Info, error)

	// List returns a page of the objects whose key begins with prefix and, where Ordered, is
	// greater than after. A store which is not ordered takes after as a token of its own from
	// Page.Next only.
	List(ctx context.Context, prefix, after string) (Page, error)

	// Delete removes the objects; one that does not exist is no error.
	Delete(ctx context.Context, keys ...string) error

	// Ordered says whether List returns keys in ascending byte order and honours after.
	Ordered() bool
}

// Body is what Put stores; *bytes.Reader is one. It may be read several times and concurrently,
// but not after Put has returned.
type Body interface {
	io.ReaderAt
	Size() int64
}

// PutOptions changes what Put does.
type PutOptions struct {
	// IfAbsent makes Put fail with ErrExists, and change nothing, when the key exists.
	IfAbsent bool
}

// Info is what a store says of one object.
type Info struct {
	Size     int64     // bytes
	Modified time.Time // by the store's clock; zero where the call does not tell it
	Date     time.Time // the store's clock when it answered; zero when it did not say
}

// Entry is one object of a listing.
type Entry struct {
	Key      string
	Size     int64
	Modified time.Time // by the store's clock
}

// Page is a part of a listing.
type Page struct {
	Entries []Entry
	Next    string    // pass as after to get the next page; empty when this is the last
	Date    time.Time // the store's clock when it answered; zero when it did not say
}

// Kind classes an error by what can be done about it.
type Kind uint8

// The kinds of errors.
const (
	Transient Kind = iota + 1 // may go away; the effect may have happened: retry
	NotFound                  // no such object
	Exists                    // IfAbsent, and the key exists
	Denied                    // credentials or permissions
	Fatal                     // the request cannot succeed as it is: retrying is useless
)

// Sentinels for errors.Is.
var (
	ErrTransient = errors.New("object store unavailable")
	ErrNotFound  = errors.New("object not found")
	ErrExists    = errors.New("object exists")
	ErrDenied    = errors.New("object store denied access")
	ErrFatal     = errors.New("object store refused the request")
)

// The names of operations in Error.Op.
const (
	OpPut    = "put"
	OpGet    = "get"
	OpHead   = "head"
	OpList   = "list"
	OpDelete = "delete"
)

var errNegativeOffset = errors.New("negative offset")

// Error is the error of one request.
type Error struct {
	Op   string // one of the Op constants
	Key  string
	Kind Kind
	Err  error // the cause; may be nil
}

// Error names operation, key, kind and cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("object: %s %q: %v", e.Op, e.Key, e.Kind.sentinel())
	}
	return fmt.Sprintf("object: %s %q: %v: %v", e.Op, e.Key, e.Kind.sentinel(), e.Err)
}

// Unwrap gives the kind's sentinel and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind.sentinel()}
	}
	return []error{e.Kind.sentinel(), e.Err}
}

func (k Kind) sentinel() error {
	switch k {
	case Transient:
		return ErrTransient
	case NotFound:
		return ErrNotFound
	case Exists:
		return ErrExists
	case Denied:
		return ErrDenied
	default:
		return ErrFatal
	}
}
