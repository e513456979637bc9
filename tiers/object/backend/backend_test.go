package backend_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/backend"
	"zerofs/tiers/object/objecttest"
	"zerofs/tiers/object/s3"
)

var urls = []struct {
	url  string
	want backend.Location
	err  string
}{
	{url: "s3://b", want: backend.Location{Scheme: backend.S3, Bucket: "b"}},
	{url: "s3://my.bucket-1/a/b/", want: backend.Location{Scheme: backend.S3, Bucket: "my.bucket-1", Prefix: "a/b"}},
	{url: "s3://b//a//", want: backend.Location{Scheme: backend.S3, Bucket: "b", Prefix: "a"}},
	{url: "s3://b/a%20b", want: backend.Location{Scheme: backend.S3, Bucket: "b", Prefix: "a%20b"}},
	{url: "file:///var/lib/x y", want: backend.Location{Scheme: backend.File, Path: "/var/lib/x y"}},
	{url: "file://./store", want: backend.Location{Scheme: backend.File, Path: "./store"}},
	{url: "file://../store", want: backend.Location{Scheme: backend.File, Path: "../store"}},
	{url: "memory://", want: backend.Location{Scheme: backend.Memory}},
	{url: "memory://a/b", want: backend.Location{Scheme: backend.Memory, Name: "a/b"}},
	{url: "", err: "want s3://"},
	{url: "/tmp/store", err: "want s3://"},
	{url: "s3:/b", err: "want s3://"},
	{url: "gs://b", err: `scheme "gs"`},
	{url: "s3://", err: "no bucket"},
	{url: "s3:///prefix", err: "no bucket"},
	{url: "s3://user:pw@b", err: "bucket name has"},
	{url: "s3://b?x=y", err: "bucket name has"},
	{url: "s3://..", err: "bucket name is"},
	{url: "s3://" + strings.Repeat("b", 256), err: "exceeds"},
	{url: "s3://b/a//c", err: "empty segment"},
	{url: "s3://b/../c", err: "dot"},
	{url: "file://store", err: "want file:///"},
	{url: "file://", err: "want file:///"},
	{url: "file:///a\x00b", err: "zero byte"},
	{url: "memory://../x", err: "dot"},
}

func TestParseURL(t *testing.T) {
	for _, c := range urls {
		got, err := backend.ParseURL(c.url)
		if c.err == "" && (err != nil || got != c.want) {
			t.Errorf("%q: %+v, %v, want %+v", c.url, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q: %+v, %v, want an error with %q", c.url, got, err, c.err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, c := range urls {
		f.Add(c.url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		loc, err := backend.ParseURL(url)
		if err != nil {
			return
		}
		again, err := backend.ParseURL(loc.String())
		if err != nil || again != loc {
			t.Fatalf("%q gives %+v, which prints as %q and gives %+v, %v", url, loc, loc.String(), again, err)
		}
	})
}

func put(t *testing.T, s object.Store, key string) error {
	t.Helper()
	_, err := s.Put(t.Context(), key, bytes.NewReader([]byte(key)), object.PutOptions{IfAbsent: true})
	return err
}

func TestOpenFindsWhatWasLeft(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, url := range []string{"memory://" + t.Name(), "file://" + filepath.Join(t.TempDir(), "s"), "file://./s"} {
		for i := range 2 {
			s, err := backend.Open(t.Context(), url, backend.Options{Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			err = put(t, s, "k")
			if i == 0 && err != nil || i == 1 && !errors.Is(err, object.ErrExists) {
				t.Errorf("%s, open %d: %v", url, i, err)
			}
			if c := object.CountsOf(s); c.Put != 1 || c.Requests() != 1 || c.BytesUp != 1 {
				t.Errorf("%s: counts %+v", url, c)
			}
			if err := object.Close(s); err != nil {
				t.Error(err)
			}
		}
	}
	other, err := backend.Open(t.Context(), "memory://other", backend.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t, other, "k"); err != nil {
		t.Errorf("another memory store: %v", err)
	}
}

func TestConformanceCounted(t *testing.T) {
	objecttest.Conformance(t, func(t *testing.T) object.Store {
		s, err := backend.Open(t.Context(), "memory://"+t.Name(), backend.Options{Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, objecttest.Quirks{})
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		url  string
		opts s3.Options
		want string
	}{
		{"ftp://x", s3.Options{}, "scheme"},
		{"s3://b", s3.Options{Endpoint: "http://127.0.0.1:1", AccessKeyID: "a", SecretAccessKey: "b"}, "allow_http"},
		{"s3://b", s3.Options{Endpoint: "127.0.0.1:1", AccessKeyID: "a", SecretAccessKey: "b"}, "endpoint"},
		{"s3://b", s3.Options{Endpoint: "ftp://h", AccessKeyID: "a", SecretAccessKey: "b"}, "want https"},
		{"s3://b", s3.Options{Endpoint: "https://u:secret@h", AccessKeyID: "a", SecretAccessKey: "b"}, "endpoint"},
		{"s3://b", s3.Options{AccessKeyID: "a"}, "one without the other"},
		{"s3://b", s3.Options{SecretAccessKey: "hunter2"}, "one without the other"},
		{"file:///dev/null/x", s3.Options{}, "not a directory"},
	} {
		_, err := backend.Open(t.Context(), c.url, backend.Options{S3: c.opts, Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: %v, want an error with %q", c.url, c.opts, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret@") || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("a secret in %v", err)
		}
	}
}
