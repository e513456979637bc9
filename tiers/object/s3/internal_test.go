package s3

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"zerofs/tiers/object"
)

// recorder is an HTTP client that keeps the headers of requests and answers them all.
type recorder struct{ got []http.Header }

func (r *recorder) Do(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
	}
	r.got = append(r.got, req.Header.Clone())
	body := "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
	return &http.Response{StatusCode: 200, Header: http.Header{"Etag": {`"e"`}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

func TestPayloadIsHashedOnlyWithoutTLS(t *testing.T) {
	for endpoint, unsigned := range map[string]bool{"": true, "https://s3.example": true, "http://s3.example": false} {
		rec := &recorder{}
		opts := s3.Options{
			Region: "us-east-1", HTTPClient: rec, Retryer: aws.NopRetryer{}, UsePathStyle: true, ContinueHeaderThresholdBytes: -1,
			Credentials:                credentials.NewStaticCredentialsProvider("a", "s", ""),
			RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		}
		if endpoint != "" {
			opts.BaseEndpoint = &endpoint
		}
		s := &Store{client: s3.New(opts), bucket: "b"}
		for _, size := range []int{5, MultipartMin} {
			rec.got = nil
			// parts one by one: the recorder is not for many goroutines
			var err error
			if size < MultipartMin {
				_, err = s.Put(t.Context(), "k", bytes.NewReader(make([]byte, size)), object.PutOptions{IfAbsent: true})
			} else {
				u := &upload{s: s, key: aws.String("k"), id: aws.String("u"), body: bytes.NewReader(make([]byte, size)), part: PartSize}
				_, err = u.sendOnce(t.Context(), 1)
			}
			if err != nil || len(rec.got) != 1 {
				t.Fatalf("%d requests, %v", len(rec.got), err)
			}
			h := rec.got[0]
			if got := h.Get("X-Amz-Content-Sha256") == "UNSIGNED-PAYLOAD"; got != unsigned {
				t.Errorf("%q: payload hash %q", endpoint, h.Get("X-Amz-Content-Sha256"))
			}
			if h.Get("Expect") != "" || h.Get("Content-Encoding") != "" || h.Get("X-Amz-Trailer") != "" || h.Get("X-Amz-Checksum-Crc32") != "" {
				t.Errorf("%q: headers %v", endpoint, h)
			}
			if size < MultipartMin && h.Get("If-None-Match") != "*" {
				t.Errorf("%q: no condition: %v", endpoint, h)
			}
		}
	}
}

func TestDefaultAddressing(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		endpoint string
		style    *bool
		want     bool
	}{{"", nil, false}, {"", &yes, true}, {"https://h", nil, true}, {"https://h", &no, false}} {
		s, err := Open(t.Context(), Options{Bucket: "b", Endpoint: c.endpoint, PathStyle: c.style, AccessKeyID: "a", SecretAccessKey: "s"})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.client.Options().UsePathStyle; got != c.want {
			t.Errorf("%q, %v: path style %v", c.endpoint, c.style, got)
		}
		if o := s.client.Options(); o.Region != "us-east-1" || o.Retryer.MaxAttempts() != 1 {
			t.Errorf("region %q, %d attempts", o.Region, o.Retryer.MaxAttempts())
		}
	}
	for bucket, ordered := range map[string]bool{"b": true, "b--use1-az4--x-s3": false} {
		s, err := Open(t.Context(), Options{Bucket: bucket, AccessKeyID: "a", SecretAccessKey: "s"})
		if err != nil || s.Ordered() != ordered {
			t.Errorf("%s: ordered %v, %v", bucket, s.Ordered(), err)
		}
	}
}

func TestPartSize(t *testing.T) {
	const mib, tib = 1 << 20, 1 << 40
	for size, want := range map[int64]int64{
		MultipartMin: PartSize, partsMax * PartSize: PartSize, partsMax*PartSize + 1: 9 * mib, tib: 105 * mib,
	} {
		if got := partSize(size); got != want || (size+got-1)/got > partsMax {
			t.Errorf("%d: parts of %d, want %d", size, got, want)
		}
	}
}

func TestReader(t *testing.T) {
	data := make([]byte, 1000)
	for i := range data {
		data[i] = byte(i)
	}
	r := newReader(bytes.NewReader(data), 100, 500)
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data[100:600]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if n, err := r.Seek(-10, io.SeekEnd); n != 490 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := r.Seek(5, io.SeekCurrent); n != 495 || err != nil {
		t.Fatal(n, err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[595:600]) {
		t.Fatal(got, err)
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Fatal("seek before the start")
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errReturned) {
		t.Fatalf("read after the end: %v", err)
	}
	short := newReader(bytes.NewReader(data), 900, 200)
	if _, err := io.ReadAll(short); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(short.end(), io.ErrUnexpectedEOF) {
		t.Fatalf("body shorter than its size: %v", err)
	}
}

var ranges = []struct {
	s           string
	start, size int64
	ok          bool
}{
	{"bytes 0-99/1000", 0, 1000, true},
	{"bytes 5-5/6", 5, 6, true},
	{"bytes */1000", -1, 1000, true},
	{"bytes */0", -1, 0, true},
	{"", 0, 0, false}, {"bytes", 0, 0, false}, {"bytes 0-99", 0, 0, false}, {"bytes 0-99/*", 0, 0, false},
	{"bytes -99/1000", 0, 0, false}, {"bytes 1/1000", 0, 0, false}, {"bytes 0-1/-5", 0, 0, false},
	{"bytes x-1/5", 0, 0, false}, {"bytes 99999999999999999999-1/5", 0, 0, false}, {"items 0-1/5", 0, 0, false},
}

func TestParseContentRange(t *testing.T) {
	for _, c := range ranges {
		start, size, ok := parseContentRange(c.s)
		if start != c.start || size != c.size || ok != c.ok {
			t.Errorf("%q: %d, %d, %v", c.s, start, size, ok)
		}
	}
}

// FuzzAnswer gives Get answers of any shape: it returns no more than was asked for, and never panics.
func FuzzAnswer(f *testing.F) {
	for _, c := range ranges {
		f.Add(c.s, true, int64(0), int64(10), []byte("0123456789"))
		f.Add(c.s, false, int64(3), int64(10), []byte("0123456789"))
	}
	f.Fuzz(func(t *testing.T, contentRange string, partial bool, off, length int64, body []byte) {
		if off < 0 {
			return
		}
		out := &s3.GetObjectOutput{ContentRange: &contentRange, ContentLength: &length, Body: io.NopCloser(bytes.NewReader(body))}
		dst := make([]byte, rand.IntN(20))
		n, size, err := readRange(out, partial, off, dst)
		if n < 0 || n > len(dst) || n > len(body) || err == nil && int64(n) != min(int64(len(dst)), max(0, size-off)) {
			t.Fatalf("%d bytes of %d at %d, %v", n, size, off, err)
		}
	})
}
