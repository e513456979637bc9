package s3

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"zerofs/tiers/object"
)

// Put stores body, whole or as parts.
func (s *Store) Put(ctx context.Context, key string, body object.Body, opts object.PutOptions) (object.Info, error) {
	size := body.Size()
	rctx, cancel, err := s.begin(ctx, object.OpPut, key, size)
	if err != nil {
		return object.Info{}, err
	}
	defer cancel()
	var meta middleware.Metadata
	if size >= MultipartMin {
		meta, err = s.putParts(ctx, key, body, condition(opts))
	} else {
		meta, err = s.putWhole(rctx, key, body, condition(opts))
	}
	if err != nil {
		return object.Info{}, s.refuse(ctx, key, opts, err)
	}
	return object.Info{Size: size, Date: dateOf(meta)}, nil
}

// condition returns the If-None-Match header of a put.
func condition(opts object.PutOptions) *string {
	if opts.IfAbsent {
		return aws.String("*")
	}
	return nil
}

// refuse makes the error of a Put. A body that cannot be read is nothing that goes away, and a
// put without a condition cannot meet "exists".
func (s *Store) refuse(ctx context.Context, key string, opts object.PutOptions, err error) error {
	if b, ok := errors.AsType[*bodyError](err); ok {
		return &object.Error{Op: object.OpPut, Key: key, Kind: object.Fatal, Err: b}
	}
	e := failed(ctx, object.OpPut, key, err)
	if oe := e.(*object.Error); !opts.IfAbsent && oe.Kind == object.Exists || oe.Kind == object.NotFound {
		oe.Kind = object.Fatal
	}
	return s.count.Done(e)
}

// bodyError is the error of reading a body.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return fmt.Sprintf("read body: %v", e.err) }
func (e *bodyError) Unwrap() error { return e.err }

// putWhole stores body with one request.
func (s *Store) putWhole(ctx context.Context, key string, body object.Body, ifNoneMatch *string) (middleware.Metadata, error) {
	r := newReader(body, 0, body.Size())
	s.count.Put.Add(1)
	s.count.BytesUp.Add(r.size)
	out, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: s.name(key), Body: r, ContentLength: &r.size, IfNoneMatch: ifNoneMatch,
	}, s.unsigned)
	if broken := r.end(); broken != nil {
		err = &bodyError{broken}
	}
	if err != nil {
		return middleware.Metadata{}, err
	}
	return out.ResultMetadata, nil
}
