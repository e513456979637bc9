// Package s3 is an object store in a bucket of S3 or of a server that speaks its protocol.
//
// # What is asked of the server
//
// Ranged GetObject, PutObject and CompleteMultipartUpload with If-None-Match: *, HeadObject,
// ListObjectsV2, DeleteObject, and permission to list the bucket (without it S3 answers 403 for
// an object that does not exist). DeleteObjects is used until the server says that it has none.
//
// # Requests
//
// Each request goes out once: the SDK's own retries are off, since a retried conditional put
// meets 412 from its own first try. The exception are the parts of a multipart upload, which
// nobody sees before the upload is completed. Each request has a time limit of its own,
// requestTime and as long as its body takes at requestRate, so that nothing of ours is under way
// minutes after it was given up: the fenced log counts on that.
//
// Bodies of MultipartMin bytes or more travel as parts. When a part or the completion fails, the
// upload is aborted before Put returns, for which a Put whose context has ended may take
// abortTime more. Uploads of a killed process stay; Sweep ends them.
//
// Over https payloads are not hashed: TLS protects them. Over http the signature covers their SHA-256.
//
// # Concurrency
//
// Any goroutine may call any method.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"zerofs/tiers/object"
)

// Bounds of requests, bytes and times.
const (
	MultipartMin = 16 << 20 // bodies of this size or more travel as parts
	PartSize     = 8 << 20  // of parts, unless there would be more than partsMax

	partsMax     = 10_000
	partsAtOnce  = 4 // of one Put
	partAttempts = 4
	requestTime  = 15 * time.Second
	requestRate  = 128 << 10 // bytes a second
	completeTime = time.Minute
	abortTime    = 5 * time.Second
)

// Options says which bucket, and how to reach it.
type Options struct {
	Bucket string
	Prefix string // of all keys, without slashes at its ends; may be empty

	// Endpoint is the server's URL, empty for AWS. http is refused without AllowHTTP.
	Endpoint  string
	AllowHTTP bool
	Region    string // us-east-1 if empty
	// PathStyle puts the bucket in the path instead of the host name. Nil: where there is an Endpoint.
	PathStyle *bool

	// AccessKeyID and SecretAccessKey are the credentials. Both empty: the SDK's own chain of
	// environment, shared configuration and instance roles.
	AccessKeyID     string
	SecretAccessKey string
}

// Store is an object.Store in a bucket.
type Store struct {
	client    *s3.Client
	idle      interface{ CloseIdleConnections() }
	bucket    string
	prefix    string // "" or with a slash at its end
	unordered bool   // a directory bucket (S3 Express)
	oneByOne  atomic.Bool
	count     object.Counters
}

var (
	_ object.Store   = (*Store)(nil)
	_ object.Sweeper = (*Store)(nil)
	_ object.Counter = (*Store)(nil)
)

// directoryBucket ends the names of buckets that list without order.
const directoryBucket = "--x-s3"

// Open returns the store. It makes no request to it; the SDK's chain of credentials may make its own.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("object: open s3://%s/%s: %w", opts.Bucket, opts.Prefix, err)
	}
	region := opts.Region
	if region == "" {
		region = "us-east-1"
	}
	creds, err := opts.credentials(ctx, region)
	if err != nil {
		return nil, fmt.Errorf("object: open s3://%s/%s: credentials: %w", opts.Bucket, opts.Prefix, err)
	}
	client := newHTTPClient()
	o := s3.Options{
		Region:                     region,
		Credentials:                creds,
		HTTPClient:                 client,
		Retryer:                    aws.NopRetryer{},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		UsePathStyle:               opts.Endpoint != "",
		Logger:                     logging.Nop{},
		// A part waits for nothing: a busy server's 503 costs its bytes, but each part a round trip less.
		ContinueHeaderThresholdBytes: -1,
	}
	if opts.Endpoint != "" {
		o.BaseEndpoint = aws.String(opts.Endpoint)
	}
	if opts.PathStyle != nil {
		o.UsePathStyle = *opts.PathStyle
	}
	s := &Store{client: s3.New(o), idle: client, bucket: opts.Bucket, unordered: strings.HasSuffix(opts.Bucket, directoryBucket)}
	if opts.Prefix != "" {
		s.prefix = opts.Prefix + "/"
	}
	return s, nil
}

// check returns what is wrong with the options.
func (o *Options) check() error {
	if o.Bucket == "" {
		return errors.New("no bucket")
	}
	if o.Prefix != "" {
		if err := object.CheckKey(o.Prefix); err != nil {
			return fmt.Errorf("prefix: %w", err)
		}
	}
	if (o.AccessKeyID == "") != (o.SecretAccessKey == "") {
		return errors.New("access key and secret key: one without the other")
	}
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil:
		return fmt.Errorf("endpoint: %w", err)
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("endpoint %q is not of the form https://host[:port]", u.Redacted())
	case u.Scheme == "http" && !o.AllowHTTP:
		return fmt.Errorf("endpoint %q is not encrypted in transit, and allow_http is off", o.Endpoint)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("endpoint %q: want https or http", o.Endpoint)
	}
	return nil
}

func (o *Options) credentials(ctx context.Context, region string) (aws.CredentialsProvider, error) {
	if o.AccessKeyID != "" {
		return aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(o.AccessKeyID, o.SecretAccessKey, "")), nil
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	if err != nil {
		return nil, err
	}
	return cfg.Credentials, nil
}

// unsigned leaves payloads out of the signature where TLS protects them.
func (s *Store) unsigned(o *s3.Options) {
	if o.BaseEndpoint == nil || strings.HasPrefix(*o.BaseEndpoint, "https:") {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
}

// Ordered reports whether List is in the order of keys, which it is but for directory buckets.
func (s *Store) Ordered() bool { return !s.unordered }

// Counts returns how many requests there were.
func (s *Store) Counts() object.Counts { return s.count.Counts() }

// Close closes idle connections.
func (s *Store) Close() error {
	s.idle.CloseIdleConnections()
	return nil
}

// name returns the bucket's key for ours.
func (s *Store) name(key string) *string { return aws.String(s.prefix + key) }

// begin checks a key and bounds the request on it, whose body has size bytes.
func (s *Store) begin(ctx context.Context, op, key string, size int64) (context.Context, context.CancelFunc, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, nil, &object.Error{Op: op, Key: key, Kind: object.Fatal, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, &object.Error{Op: op, Key: key, Kind: object.Transient, Err: err}
	}
	bounded, cancel := bound(ctx, requestTime, size)
	return bounded, cancel, nil
}

// bound limits a request to t and as long as size bytes may take.
func bound(ctx context.Context, t time.Duration, size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t+time.Duration(float64(size)/requestRate*float64(time.Second)))
}
