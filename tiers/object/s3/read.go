package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"zerofs/tiers/object"
)

// Get reads a range of an object straight into dst.
func (s *Store) Get(ctx context.Context, key string, off int64, dst []byte) (int, object.Info, error) {
	if off < 0 {
		return 0, object.Info{}, &object.Error{Op: object.OpGet, Key: key, Kind: object.Fatal, Err: errors.New("negative offset")}
	}
	if len(dst) == 0 { // there is no empty range
		info, err := s.head(ctx, object.OpGet, key)
		return 0, info, err
	}
	rctx, cancel, err := s.begin(ctx, object.OpGet, key, int64(len(dst)))
	if err != nil {
		return 0, object.Info{}, err
	}
	defer cancel()
	s.count.Get.Add(1)
	out, err := s.client.GetObject(rctx, &s3.GetObjectInput{
		Bucket: &s.bucket, Key: s.name(key),
		Range: aws.String("bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+int64(len(dst))-1, 10)),
	})
	if err != nil {
		if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
			info, err := s.pastEnd(ctx, key, err)
			return 0, info, err
		}
		return 0, object.Info{}, s.count.Done(failed(ctx, object.OpGet, key, err))
	}
	defer out.Body.Close()
	n, size, err := readRange(out, statusOfAnswer(out.ResultMetadata) == http.StatusPartialContent, off, dst)
	s.count.BytesDown.Add(int64(n))
	if err != nil {
		return 0, object.Info{}, s.count.Done(failed(ctx, object.OpGet, key, err))
	}
	return n, object.Info{Size: size, Modified: aws.ToTime(out.LastModified), Date: dateOf(out.ResultMetadata)}, nil
}

// pastEnd answers a Get whose range begins after the object's end.
func (s *Store) pastEnd(ctx context.Context, key string, err error) (object.Info, error) {
	if _, size, ok := parseContentRange(headerOf(err, "Content-Range")); ok {
		return object.Info{Size: size, Date: parseDate(headerOf(err, "Date"))}, nil
	}
	return s.head(ctx, object.OpGet, key)
}

// readRange reads the answer into dst and returns the number of bytes, and the object's size.
func readRange(out *s3.GetObjectOutput, partial bool, off int64, dst []byte) (int, int64, error) {
	size, err := seekRange(out, partial, off)
	if err != nil {
		return 0, 0, noEOF(err)
	}
	want := min(int64(len(dst)), max(0, size-off))
	n, err := io.ReadFull(out.Body, dst[:want])
	return n, size, noEOF(err)
}

// seekRange brings the answer's body to off and returns the object's size. A server that knows no
// ranges sends the whole object.
func seekRange(out *s3.GetObjectOutput, partial bool, off int64) (size int64, err error) {
	if partial {
		start, size, ok := parseContentRange(aws.ToString(out.ContentRange))
		if !ok || start != off {
			return 0, fmt.Errorf("server answered with range %q, asked from %d", aws.ToString(out.ContentRange), off)
		}
		return size, nil
	}
	if out.ContentLength == nil || *out.ContentLength < 0 {
		return 0, errors.New("server sent an object of unknown length")
	}
	size = *out.ContentLength
	_, err = io.CopyN(io.Discard, out.Body, min(off, size))
	return size, err
}

// noEOF makes the end of an answer that is too short an error like any other.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseContentRange reads "bytes 0-99/1000", and "bytes */1000" with a start of -1.
func parseContentRange(s string) (start, size int64, ok bool) {
	s, found := strings.CutPrefix(s, "bytes ")
	if !found {
		return 0, 0, false
	}
	span, total, found := strings.Cut(s, "/")
	if !found {
		return 0, 0, false
	}
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil || size < 0 {
		return 0, 0, false
	}
	if span == "*" {
		return -1, size, true
	}
	first, _, found := strings.Cut(span, "-")
	start, err = strconv.ParseInt(first, 10, 64)
	if !found || err != nil || start < 0 {
		return 0, 0, false
	}
	return start, size, true
}

// Head returns an object's Info.
func (s *Store) Head(ctx context.Context, key string) (object.Info, error) {
	return s.head(ctx, object.OpHead, key)
}

func (s *Store) head(ctx context.Context, op, key string) (object.Info, error) {
	rctx, cancel, err := s.begin(ctx, op, key, 0)
	if err != nil {
		return object.Info{}, err
	}
	defer cancel()
	s.count.Head.Add(1)
	out, err := s.client.HeadObject(rctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: s.name(key)})
	if err != nil {
		return object.Info{}, s.count.Done(failed(ctx, op, key, err))
	}
	return object.Info{
		Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified), Date: dateOf(out.ResultMetadata),
	}, nil
}

// List returns a page of objects.
func (s *Store) List(ctx context.Context, prefix, after string) (object.Page, error) {
	if err := ctx.Err(); err != nil {
		return object.Page{}, failed(ctx, object.OpList, prefix, err)
	}
	rctx, cancel := bound(ctx, requestTime, 0)
	defer cancel()
	in := &s3.ListObjectsV2Input{Bucket: &s.bucket, MaxKeys: aws.Int32(object.PageMax)}
	if s.prefix+prefix != "" {
		in.Prefix = s.name(prefix)
	}
	switch {
	case after == "":
	case s.unordered:
		in.ContinuationToken = &after
	default:
		in.StartAfter = s.name(after)
	}
	s.count.List.Add(1)
	out, err := s.client.ListObjectsV2(rctx, in)
	if err != nil {
		return object.Page{}, s.count.Done(failed(ctx, object.OpList, prefix, err))
	}
	page, err := s.page(out, prefix, after)
	if err != nil {
		return object.Page{}, s.count.Done(failed(ctx, object.OpList, prefix, err))
	}
	return page, nil
}

// page makes a Page out of an answer. What is in the bucket but cannot be one of our objects,
// such as the "directories" that some tools put there, is left out. An answer that says there is
// more but does not get on is an error: it must be taken neither for the end nor for ever.
func (s *Store) page(out *s3.ListObjectsV2Output, prefix, after string) (object.Page, error) {
	page := object.Page{Date: dateOf(out.ResultMetadata), Entries: make([]object.Entry, 0, len(out.Contents))}
	last := ""
	for _, o := range out.Contents {
		key, ok := strings.CutPrefix(aws.ToString(o.Key), s.prefix)
		if !ok {
			continue
		}
		last = key
		if strings.HasPrefix(key, prefix) && object.CheckKey(key) == nil {
			page.Entries = append(page.Entries, object.Entry{Key: key, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)})
		}
	}
	if !aws.ToBool(out.IsTruncated) {
		return page, nil
	}
	page.Next = last
	if s.unordered {
		page.Next = aws.ToString(out.NextContinuationToken)
	}
	if page.Next == "" || page.Next == after || !s.unordered && page.Next < after {
		return object.Page{}, fmt.Errorf("listing does not get on: after %q comes %q", after, page.Next)
	}
	return page, nil
}
