//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"zerofs/test/s3proxy"
	"zerofs/test/versitygw"
)

// S3 is an S3 server behind a proxy that counts and delays.
type S3 struct {
	Proxy    *s3proxy.Proxy
	Endpoint string

	gw   *versitygw.Server
	http *http.Server
}

// StartS3 starts both, with the objects in dir.
func StartS3(dir string) (*S3, error) {
	bin, err := versitygw.Find()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	gw, err := versitygw.Run(bin, dir)
	if err != nil {
		return nil, err
	}
	p, err := s3proxy.New(gw.Endpoint, 1)
	if err != nil {
		gw.Stop()
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		gw.Stop()
		return nil, err
	}
	s := &S3{Proxy: p, Endpoint: "http://" + ln.Addr().String(), gw: gw, http: &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}}
	go s.http.Serve(ln)
	return s, nil
}

// Stop ends both.
func (s *S3) Stop() {
	s.http.Close()
	s.gw.Stop()
}

// URL is of a volume in the bucket.
func (s *S3) URL(prefix string) string { return "s3://" + s.gw.Bucket + "/" + prefix }

// Bytes returns the size of all objects below a prefix.
func (s *S3) Bytes(prefix string) (int64, error) {
	return DirBytes(filepath.Join(s.gw.Dir, s.gw.Bucket, prefix))
}

// DirBytes returns the size of all files below dir. Files that vanish meanwhile count for nothing.
func DirBytes(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil || d.IsDir():
			return err
		}
		if fi, err := d.Info(); err == nil {
			n += fi.Size()
		}
		return nil
	})
	return n, err
}

// Puts returns how many requests sent bodies, and their bytes.
func Puts(st s3proxy.Stats) (requests, bytes int64) {
	return st.Operations[s3proxy.Put] + st.Operations[s3proxy.UploadPart], st.BytesUp
}

// client is a plain S3 client of the proxy.
func (s *S3) client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint), Region: s.gw.Region, UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(s.gw.AccessKeyID, s.gw.SecretAccessKey, ""),
		HTTPClient:                 &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, ReadBufferSize: 64 << 10}},
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
}

// PlaceObject makes an object of size bytes without asking the server.
func (s *S3) PlaceObject(key string, write func(io.Writer) error) error {
	path := filepath.Join(s.gw.Dir, s.gw.Bucket, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// FetchRanges reads an object of size bytes in ranges, depth at once, and returns how long that took.
func (s *S3) FetchRanges(key string, size, piece int64, depth int) (time.Duration, error) {
	c := s.client()
	var next atomic.Int64
	errs := make(chan error, depth)
	start := time.Now()
	for range depth {
		go func() { errs <- s.fetch(c, key, size, piece, &next) }()
	}
	var first error
	for range depth {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return time.Since(start), first
}

func (s *S3) fetch(c *s3.Client, key string, size, piece int64, next *atomic.Int64) error {
	buf := make([]byte, piece)
	for {
		off := (next.Add(1) - 1) * piece
		if off >= size {
			return nil
		}
		out, err := c.GetObject(context.Background(), &s3.GetObjectInput{
			Bucket: aws.String(s.gw.Bucket), Key: aws.String(key),
			Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, min(off+piece, size)-1)),
		})
		if err != nil {
			return err
		}
		_, err = io.ReadFull(out.Body, buf[:min(piece, size-off)])
		out.Body.Close()
		if err != nil {
			return err
		}
	}
}
