package s3

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"zerofs/tiers/object"
)

// upload is one multipart upload on its way.
type upload struct {
	s    *Store
	key  *string // in the bucket
	id   *string
	body object.Body
	part int64 // size in bytes
	done []types.CompletedPart
}

// putParts stores body as a multipart upload. Where it fails, no upload stays behind.
func (s *Store) putParts(ctx context.Context, key string, body object.Body, ifNoneMatch *string) (middleware.Metadata, error) {
	rctx, cancel := bound(ctx, requestTime, 0)
	defer cancel()
	s.count.CreateMultipart.Add(1)
	out, err := s.client.CreateMultipartUpload(rctx, &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: s.name(key)})
	if err != nil {
		return middleware.Metadata{}, err
	}
	size := partSize(body.Size())
	u := &upload{
		s: s, key: s.name(key), id: out.UploadId, body: body, part: size,
		done: make([]types.CompletedPart, (body.Size()+size-1)/size),
	}
	if err := u.sendAll(ctx); err != nil {
		u.abort(ctx)
		return middleware.Metadata{}, err
	}
	meta, err := u.complete(ctx, ifNoneMatch)
	if err != nil {
		// After a lost answer the upload may be completed or not; the abort settles it.
		u.abort(ctx)
	}
	return meta, err
}

// partSize returns the size of parts for a body: PartSize, or whole MiB that make at most partsMax.
func partSize(size int64) int64 {
	const unit = 1 << 20
	least := (size + partsMax - 1) / partsMax
	return max(PartSize, (least+unit-1)/unit*unit)
}

// sendAll uploads all parts, partsAtOnce at once. The first error ends it.
func (u *upload) sendAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(partsAtOnce, len(u.done)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(u.done) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := u.send(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// send uploads part i. It may be sent again: it is nothing to anybody until the upload is completed.
func (u *upload) send(ctx context.Context, i int64) error {
	delay := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		etag, err := u.sendOnce(ctx, i)
		if err == nil {
			u.done[i] = types.CompletedPart{ETag: etag, PartNumber: aws.Int32(int32(i + 1))}
			return nil
		}
		_, broken := errors.AsType[*bodyError](err)
		if broken || kindOf(err) != object.Transient || attempt == partAttempts || !object.Pause(ctx, delay) {
			return err
		}
		u.s.count.Errors.Add(1)
		delay *= 2
	}
}

func (u *upload) sendOnce(ctx context.Context, i int64) (*string, error) {
	off := i * u.part
	r := newReader(u.body, off, min(u.part, u.body.Size()-off))
	ctx, cancel := bound(ctx, requestTime, r.size)
	defer cancel()
	u.s.count.UploadPart.Add(1)
	u.s.count.BytesUp.Add(r.size)
	out, err := u.s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &u.s.bucket, Key: u.key, UploadId: u.id,
		PartNumber: aws.Int32(int32(i + 1)), Body: r, ContentLength: &r.size,
	}, u.s.unsigned)
	if broken := r.end(); broken != nil {
		err = &bodyError{broken}
	}
	if err != nil {
		return nil, err
	}
	return out.ETag, nil
}

// complete makes the object appear.
func (u *upload) complete(ctx context.Context, ifNoneMatch *string) (middleware.Metadata, error) {
	ctx, cancel := bound(ctx, completeTime, 0)
	defer cancel()
	u.s.count.Complete.Add(1)
	out, err := u.s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.s.bucket, Key: u.key, UploadId: u.id, IfNoneMatch: ifNoneMatch,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: u.done},
	})
	if err != nil {
		return middleware.Metadata{}, err
	}
	return out.ResultMetadata, nil
}

// abort ends the upload, also when ctx has ended. Its error is nobody's: Sweep finds what stays.
func (u *upload) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	u.s.count.Abort.Add(1)
	_, _ = u.s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.s.bucket, Key: u.key, UploadId: u.id})
}

// Sweep aborts multipart uploads of keys under prefix that were begun longer than age ago.
func (s *Store) Sweep(ctx context.Context, prefix string, age time.Duration) error {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.bucket, Prefix: s.name(prefix)}
	for {
		out, err := s.listUploads(ctx, in)
		if err != nil {
			return s.count.Done(failed(ctx, object.OpList, prefix, err))
		}
		now := dateOf(out.ResultMetadata)
		for _, u := range out.Uploads {
			if begun := aws.ToTime(u.Initiated); !begun.IsZero() && !now.IsZero() && now.Sub(begun) > age {
				(&upload{s: s, key: u.Key, id: u.UploadId}).abort(ctx)
			}
		}
		if !aws.ToBool(out.IsTruncated) || aws.ToString(out.NextKeyMarker) == "" {
			return nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

func (s *Store) listUploads(ctx context.Context, in *s3.ListMultipartUploadsInput) (*s3.ListMultipartUploadsOutput, error) {
	ctx, cancel := bound(ctx, requestTime, 0)
	defer cancel()
	s.count.List.Add(1)
	return s.client.ListMultipartUploads(ctx, in)
}
