package s3_test

import (
	"fmt"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"zerofs/test/versitygw"
	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
	"zerofs/tiers/object/s3"
)

// open opens a store and closes it with the test.
func open(t testing.TB, opts s3.Options) *s3.Store {
	t.Helper()
	s, err := s3.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fake starts an in-process server with a bucket and returns how to reach it.
func fake(t testing.TB) s3.Options {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("volumes"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(srv.Close)
	return s3.Options{
		Bucket: "volumes", Endpoint: srv.URL, AllowHTTP: true, AccessKeyID: "a", SecretAccessKey: "s",
	}
}

// reach returns how to reach a server.
func reach(v *versitygw.Server) s3.Options {
	return s3.Options{
		Bucket: v.Bucket, Endpoint: v.Endpoint, AllowHTTP: true, Region: v.Region,
		AccessKeyID: v.AccessKeyID, SecretAccessKey: v.SecretAccessKey,
	}
}

func TestConformanceFake(t *testing.T) {
	objecttest.Conformance(t, func(t *testing.T) object.Store { return open(t, fake(t)) },
		objecttest.Quirks{MultipartIgnoresIfAbsent: true})
}

func TestConformanceVersitygw(t *testing.T) {
	opts := reach(versitygw.Start(t))
	var n atomic.Int32
	objecttest.Conformance(t, func(t *testing.T) object.Store {
		opts := opts
		opts.Prefix = fmt.Sprintf("volume-%d/x", n.Add(1))
		return open(t, opts)
	}, objecttest.Quirks{})
}
