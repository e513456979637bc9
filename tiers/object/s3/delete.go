package s3

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"zerofs/tiers/object"
)

// deletesAtOnce is how many single deletes are under way, for servers that have no other.
const deletesAtOnce = 16

// Delete removes objects, object.PageMax with one request.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := object.CheckKey(key); err != nil {
			return &object.Error{Op: object.OpDelete, Key: key, Kind: object.Fatal, Err: err}
		}
	}
	for len(keys) > 0 {
		if err := ctx.Err(); err != nil {
			return failed(ctx, object.OpDelete, keys[0], err)
		}
		n := min(len(keys), object.PageMax)
		var err error
		if n == 1 || s.oneByOne.Load() {
			err = s.deleteEach(ctx, keys[:n])
		} else {
			err = s.deleteMany(ctx, keys[:n])
		}
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// deleteMany removes objects with one request.
func (s *Store) deleteMany(ctx context.Context, keys []string) error {
	rctx, cancel := bound(ctx, requestTime, int64(len(keys))<<10)
	defer cancel()
	ids := make([]types.ObjectIdentifier, len(keys))
	for i, key := range keys {
		ids[i].Key = s.name(key)
	}
	s.count.DeleteMany.Add(1)
	out, err := s.client.DeleteObjects(rctx, &s3.DeleteObjectsInput{
		Bucket: &s.bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	})
	if err != nil {
		switch statusOf(err) {
		case http.StatusNotImplemented, http.StatusMethodNotAllowed, http.StatusBadRequest:
			if kindOf(err) == object.Fatal { // not there, or not as the SDK asks: without Content-MD5
				s.oneByOne.Store(true)
				return s.deleteEach(ctx, keys)
			}
		}
		return s.count.Done(failed(ctx, object.OpDelete, keys[0], err))
	}
	for _, e := range out.Errors {
		kind := deleteKind(aws.ToString(e.Code))
		if kind == object.NotFound {
			continue
		}
		return s.count.Done(&object.Error{
			Op: object.OpDelete, Key: strings.TrimPrefix(aws.ToString(e.Key), s.prefix), Kind: kind,
			Err: fmt.Errorf("%s: %s", aws.ToString(e.Code), aws.ToString(e.Message)),
		})
	}
	return nil
}

// deleteKind classes the code of one object in the answer to deleteMany.
func deleteKind(code string) object.Kind {
	if kind, ok := codes[code]; ok {
		return kind
	}
	if code == "AccessDenied" {
		return object.Denied
	}
	return object.Transient
}

// deleteEach removes objects with a request each.
func (s *Store) deleteEach(ctx context.Context, keys []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(deletesAtOnce, len(keys)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(keys) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := s.deleteOne(ctx, keys[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		if _, ok := err.(*object.Error); ok {
			return err
		}
		return failed(ctx, object.OpDelete, keys[0], err)
	}
	return nil
}

func (s *Store) deleteOne(ctx context.Context, key string) error {
	rctx, cancel := bound(ctx, requestTime, 0)
	defer cancel()
	s.count.Delete.Add(1)
	_, err := s.client.DeleteObject(rctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.name(key)})
	if err = failed(ctx, object.OpDelete, key, err); object.KindOf(err) == object.NotFound {
		return nil
	}
	return s.count.Done(err)
}
