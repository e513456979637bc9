package object

import (
	"context"
	"errors"
	"fmt"
)

// PutUnique stores body under a key that nobody else can put: one with a random id of ours in it.
// It puts if absent and tries again after transient errors until ctx ends. When it finds the key
// taken after an attempt whose answer was lost, that attempt was it: the object's size is
// compared, and a body of another size is Fatal. A key that is taken at the first attempt is
// ErrExists: the id was not unique.
//
// Delays and log are those of store where Retry made it, else the defaults of RetryOptions.
func PutUnique(ctx context.Context, store Store, key string, body Body) (Info, error) {
	r, ok := store.(*Retrying)
	if !ok {
		r = Retry(store, RetryOptions{})
	}
	var info Info
	lost := false // an attempt before may have happened
	err := r.do(ctx, OpPut, key, body.Size(), func(ctx context.Context) (err error) {
		info, err = r.store.Put(ctx, key, body, PutOptions{IfAbsent: true})
		if lost && errors.Is(err, ErrExists) {
			info, err = ownObject(ctx, r.store, key, body.Size())
		}
		lost = true // it counts only if there is another attempt
		return err
	})
	return info, err
}

// ownObject checks the object that an earlier attempt of ours must have put.
func ownObject(ctx context.Context, store Store, key string, size int64) (Info, error) {
	info, err := store.Head(ctx, key)
	if err != nil {
		return Info{}, err
	}
	if info.Size != size {
		return Info{}, &Error{OpPut, key, Fatal, fmt.Errorf("holds %d bytes, not the %d that were put", info.Size, size)}
	}
	return info, nil
}
