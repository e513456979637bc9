package object

import (
	"context"
	"io"
	"time"
)

// below returns the store that a wrapper passes its requests to, nil for a backend.
func below(store Store) Store {
	if w, ok := store.(interface{ Unwrap() Store }); ok {
		return w.Unwrap()
	}
	return nil
}

// Close lets go of what the backend under store holds, such as idle connections. No request may
// be under way or follow.
func Close(store Store) error {
	for ; store != nil; store = below(store) {
		if c, ok := store.(io.Closer); ok {
			return c.Close()
		}
	}
	return nil
}

// Sweeper is a backend in which a killed writer can leave what no List shows: unfinished multipart
// uploads, temporary files.
type Sweeper interface {
	// Sweep removes what was begun under prefix longer than age ago, by the store's clock.
	Sweep(ctx context.Context, prefix string, age time.Duration) error
}

// Sweep removes what killed writers left in the backend under store, if it is a Sweeper. The age
// must be more than any Put can take. Errors are those of a Store; it may be called again.
func Sweep(ctx context.Context, store Store, prefix string, age time.Duration) error {
	for ; store != nil; store = below(store) {
		if s, ok := store.(Sweeper); ok {
			return s.Sweep(ctx, prefix, age)
		}
	}
	return nil
}
