package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zerofs/test/s3proxy"
	"zerofs/test/versitygw"
	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
	"zerofs/tiers/object/s3"
)

// proxied starts a real server behind a proxy and opens a store through it.
func proxied(t testing.TB) (*s3.Store, *s3proxy.Proxy, *versitygw.Server) {
	v := versitygw.Start(t)
	p, url := s3proxy.Start(t, v.Endpoint)
	opts := reach(v)
	opts.Endpoint, opts.Prefix = url, "vol"
	return open(t, opts), p, v
}

func put(t testing.TB, s object.Store, key string, data []byte, ifAbsent bool) (object.Info, error) {
	return s.Put(t.Context(), key, bytes.NewReader(data), object.PutOptions{IfAbsent: ifAbsent})
}

func TestCountsAreWhatTheServerSaw(t *testing.T) {
	s, p, _ := proxied(t)
	for _, size := range []int{0, 100, s3.MultipartMin - 1, s3.MultipartMin, objecttest.BigBody} {
		if _, err := put(t, s, fmt.Sprintf("files/%d", size), make([]byte, size), true); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Get(t.Context(), "files/100", 0, make([]byte, 50)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "files/100", 100, make([]byte, 50)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "files/0", "files/100", "files/none"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "files/0"); err != nil {
		t.Fatal(err)
	}
	got, seen := object.CountsOf(s), p.Stats()
	up := int64(100 + 2*s3.MultipartMin - 1 + objecttest.BigBody)
	want := object.Counts{
		Put: 3, CreateMultipart: 2, UploadPart: 2 + 3, Complete: 2, Get: 2, List: 1, Delete: 1, DeleteMany: 1,
		Head: got.Head, BytesUp: up, BytesDown: 50,
	}
	if got != want || got.Head > 1 { // a Head where the server's 416 does not tell the size
		t.Errorf("counts %+v\nwant   %+v", got, want)
	}
	for op, n := range map[string]int64{
		s3proxy.Put: got.Put, s3proxy.Create: got.CreateMultipart, s3proxy.UploadPart: got.UploadPart, s3proxy.Complete: got.Complete,
		s3proxy.Abort: got.Abort, s3proxy.Get: got.Get, s3proxy.Head: got.Head, s3proxy.List: got.List,
		s3proxy.Delete: got.Delete, s3proxy.DeleteMany: got.DeleteMany,
	} {
		if seen.Operations[op] != n {
			t.Errorf("%s: counted %d, the server saw %d", op, n, seen.Operations[op])
		}
	}
	if seen.Requests != got.Requests() || seen.BytesUp < up {
		t.Errorf("counted %d requests and %d bytes, the server saw %d and %d", got.Requests(), up, seen.Requests, seen.BytesUp)
	}
}

func TestDates(t *testing.T) {
	s, _, _ := proxied(t)
	info, err := put(t, s, "k", []byte("x"), true)
	if err != nil {
		t.Fatal(err)
	}
	head, err := s.Head(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := s.Get(t.Context(), "k", 0, make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.List(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, date := range map[string]time.Time{"put": info.Date, "head": head.Date, "get": got.Date, "list": page.Date} {
		if d := time.Since(date); d < -time.Second || d > time.Minute {
			t.Errorf("%s: the server's clock says %v", name, date)
		}
	}
}

func TestLostAnswers(t *testing.T) {
	s, p, _ := proxied(t)
	for _, size := range []int{10, s3.MultipartMin} {
		key, data := fmt.Sprintf("files/%d", size), objecttest.Pattern(1, size)
		p.Set(s3proxy.Settings{DropRate: 1})
		p.Reset()
		if _, err := put(t, s, key, data, true); !errors.Is(err, object.ErrTransient) {
			t.Fatalf("with answers lost: %v", err)
		}
		if n := p.Reset().Operations; n[s3proxy.Put]+n[s3proxy.Create] != 1 {
			t.Fatalf("requests of one put: %v", n)
		}
		p.Set(s3proxy.Settings{})
		if size < s3.MultipartMin { // it had its effect
			if _, err := put(t, s, key, data, true); !errors.Is(err, object.ErrExists) {
				t.Fatalf("the second time: %v", err)
			}
		}
	}
	p.Set(s3proxy.Settings{DropRate: 0.3, ErrorRate: 0.2})
	r := object.Retry(s, object.RetryOptions{DelayMin: time.Millisecond, DelayMax: 10 * time.Millisecond})
	for i := range 30 {
		key, data := fmt.Sprintf("u/%d", i), objecttest.Pattern(uint64(i), 1000)
		if i == 0 {
			data = objecttest.Pattern(0, objecttest.BigBody)
		}
		if info, err := object.PutUnique(t.Context(), r, key, bytes.NewReader(data)); err != nil || info.Size != int64(len(data)) {
			t.Fatalf("%+v, %v", info, err)
		}
		buf := make([]byte, len(data)+1)
		if n, _, err := r.Get(t.Context(), key, 0, buf); err != nil || !bytes.Equal(buf[:n], data) {
			t.Fatalf("get: %d bytes, %v", n, err)
		}
	}
}

func TestOutage(t *testing.T) {
	s, p, _ := proxied(t)
	p.Set(s3proxy.Settings{Outage: true})
	time.AfterFunc(300*time.Millisecond, func() { p.Set(s3proxy.Settings{}) })
	r := object.Retry(s, object.RetryOptions{})
	if _, err := r.List(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	if c := object.CountsOf(r); c.Retried == 0 || c.Errors != c.Retried {
		t.Errorf("%+v", c)
	}
}

// pulled is a body that ends its Put's context while it is read.
type pulled struct {
	*bytes.Reader
	at     int64
	cancel context.CancelFunc
}

func (p pulled) ReadAt(b []byte, off int64) (int, error) {
	if off >= p.at {
		p.cancel()
	}
	return p.Reader.ReadAt(b, off)
}

func TestFailedUploadsLeaveNothing(t *testing.T) {
	s, p, v := proxied(t)
	data := objecttest.Pattern(1, objecttest.BigBody)

	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Put(ctx, "files/a", pulled{bytes.NewReader(data), 9 << 20, cancel}, object.PutOptions{IfAbsent: true})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, object.ErrTransient) {
		t.Fatalf("cancelled: %v", err)
	}
	bad := errors.New("bad sector")
	_, err = s.Put(t.Context(), "files/b", broken{len: objecttest.BigBody, at: 10 << 20, err: bad}, object.PutOptions{IfAbsent: true})
	if !errors.Is(err, bad) || !errors.Is(err, object.ErrFatal) {
		t.Fatalf("broken body: %v", err)
	}
	if _, err := put(t, s, "files/c", data, true); err != nil {
		t.Fatal(err)
	}
	if _, err := put(t, s, "files/c", data, true); !errors.Is(err, object.ErrExists) {
		t.Fatalf("existing: %v", err)
	}
	if n := p.Stats().Operations; n[s3proxy.Abort] != 3 || n[s3proxy.Create] != 4 {
		t.Errorf("%v", n)
	}
	if ids := uploads(t, v); len(ids) != 0 {
		t.Errorf("unfinished uploads: %v", ids)
	}
}

func TestSweepEndsOldUploads(t *testing.T) {
	s, _, v := proxied(t)
	for _, key := range []string{"vol/files/old", "other/files/old"} {
		begin(t, v, key)
	}
	if err := object.Sweep(t.Context(), object.Retry(s, object.RetryOptions{}), "files/", time.Hour); err != nil {
		t.Fatal(err)
	}
	if ids := uploads(t, v); len(ids) != 2 {
		t.Fatalf("young uploads were ended: %v", ids)
	}
	if err := object.Sweep(t.Context(), s, "files/", -time.Minute); err != nil {
		t.Fatal(err)
	}
	if ids := uploads(t, v); len(ids) != 1 || ids[0] != "other/files/old" {
		t.Fatalf("left: %v", ids)
	}
}

// broken is a body whose bytes cannot be read from at on.
type broken struct {
	len, at int64
	err     error
}

func (b broken) Size() int64 { return b.len }
func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.at {
		return 0, b.err
	}
	return len(p), nil
}

// watched is a body that notices reads after its Put has returned.
type watched struct {
	*bytes.Reader
	returned atomic.Bool
	late     atomic.Int64
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	if w.returned.Load() {
		w.late.Add(1)
	}
	return w.Reader.ReadAt(p, off)
}

// TestBodyIsNotReadAfterPut answers before it has read the body, as a busy server does.
func TestBodyIsNotReadAfterPut(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(srv.Close)
	s := open(t, s3.Options{Bucket: "b", Endpoint: srv.URL, AllowHTTP: true, AccessKeyID: "a", SecretAccessKey: "s"})
	var bodies []*watched
	for range 10 {
		w := &watched{Reader: bytes.NewReader(make([]byte, 4<<20))}
		if _, err := s.Put(t.Context(), "k", w, object.PutOptions{}); !errors.Is(err, object.ErrTransient) {
			t.Fatal(err)
		}
		w.returned.Store(true)
		bodies = append(bodies, w)
	}
	s.Close()
	for _, w := range bodies {
		if n := w.late.Load(); n > 0 {
			t.Errorf("%d reads after Put had returned", n)
		}
	}
}

func TestConnectionsAreKept(t *testing.T) {
	const workers, each = 64, 10
	var opened atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-99999/100000")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(make([]byte, 100_000))
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	s := open(t, s3.Options{Bucket: "b", Endpoint: srv.URL, AllowHTTP: true, AccessKeyID: "a", SecretAccessKey: "s"})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			buf := make([]byte, 100_000)
			for range each {
				if n, _, err := s.Get(t.Context(), "k", 0, buf); err != nil || n != len(buf) {
					t.Error(n, err)
				}
			}
		})
	}
	wg.Wait()
	// A request that finds no idle connection dials one, and may take another that came free meanwhile.
	if n := opened.Load(); n > workers*2 {
		t.Errorf("%d connections for %d requests, %d at once", n, workers*each, workers)
	}
}

// canned answers every request with one response.
func canned(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *s3.Store {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	return open(t, s3.Options{Bucket: "b", Endpoint: srv.URL, AllowHTTP: true, AccessKeyID: "a", SecretAccessKey: "s"})
}

func errorXML(status int, code string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if code != "" {
			fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>m</Message></Error>`, code)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	for _, c := range []struct {
		status         int
		code           string
		get, put, puta object.Kind // of a Get, a Put, and a Put with IfAbsent
	}{
		{400, "RequestTimeout", object.Transient, object.Transient, object.Transient},
		{400, "ExpiredToken", object.Transient, object.Transient, object.Transient},
		{400, "InvalidArgument", object.Fatal, object.Fatal, object.Fatal},
		{403, "AccessDenied", object.Denied, object.Denied, object.Denied},
		{403, "SignatureDoesNotMatch", object.Denied, object.Denied, object.Denied},
		{403, "RequestTimeTooSkewed", object.Transient, object.Transient, object.Transient},
		{401, "", object.Denied, object.Denied, object.Denied},
		{404, "NoSuchKey", object.NotFound, object.Fatal, object.Fatal},
		{404, "", object.NotFound, object.Fatal, object.Fatal},
		{404, "NoSuchBucket", object.Fatal, object.Fatal, object.Fatal},
		{408, "", object.Transient, object.Transient, object.Transient},
		{409, "ConditionalRequestConflict", object.Transient, object.Transient, object.Transient},
		{409, "", object.Transient, object.Transient, object.Transient},
		{412, "PreconditionFailed", object.Exists, object.Fatal, object.Exists},
		{429, "", object.Transient, object.Transient, object.Transient},
		{301, "PermanentRedirect", object.Fatal, object.Fatal, object.Fatal},
		{307, "TemporaryRedirect", object.Transient, object.Transient, object.Transient},
		{500, "InternalError", object.Transient, object.Transient, object.Transient},
		{501, "NotImplemented", object.Fatal, object.Fatal, object.Fatal},
		{502, "", object.Transient, object.Transient, object.Transient},
		{503, "SlowDown", object.Transient, object.Transient, object.Transient},
	} {
		s := canned(t, errorXML(c.status, c.code))
		_, _, err := s.Get(t.Context(), "k", 0, make([]byte, 1))
		_, perr := put(t, s, "k", nil, false)
		_, aerr := put(t, s, "k", nil, true)
		if g, p, a := object.KindOf(err), object.KindOf(perr), object.KindOf(aerr); g != c.get || p != c.put || a != c.puta {
			t.Errorf("%d %s: get %v, put %v, put if absent %v", c.status, c.code, err, perr, aerr)
		}
		if c.status >= 500 && object.CountsOf(s).Errors != 3 {
			t.Errorf("%d: counts %+v", c.status, object.CountsOf(s))
		}
	}
}

func TestNoServer(t *testing.T) {
	s := open(t, s3.Options{Bucket: "b", Endpoint: "http://127.0.0.1:1", AllowHTTP: true, AccessKeyID: "a", SecretAccessKey: "s"})
	if _, err := s.List(t.Context(), "", ""); !errors.Is(err, object.ErrTransient) {
		t.Error(err)
	}
}

func TestBadAnswers(t *testing.T) {
	garbage := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<ListBucketResult><Contents><Key>x") }
	if _, err := canned(t, garbage).List(t.Context(), "", ""); !errors.Is(err, object.ErrTransient) {
		t.Errorf("list of garbage: %v", err)
	}
	short := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-99/1000")
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(make([]byte, 50))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	if _, _, err := canned(t, short).Get(t.Context(), "k", 0, make([]byte, 100)); !errors.Is(err, object.ErrTransient) {
		t.Errorf("short answer: %v", err)
	}
	fewer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-49/1000")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(make([]byte, 50))
	}
	if n, _, err := canned(t, fewer).Get(t.Context(), "k", 0, make([]byte, 100)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("fewer bytes than the object has: %d, %v", n, err)
	}
	elsewhere := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 10-109/1000")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(make([]byte, 100))
	}
	if _, _, err := canned(t, elsewhere).Get(t.Context(), "k", 0, make([]byte, 100)); !errors.Is(err, object.ErrTransient) {
		t.Errorf("another range: %v", err)
	}
}

func TestListing(t *testing.T) {
	const tail = "</ListBucketResult>"
	entry := func(key string) string {
		return "<Contents><Key>" + key + "</Key><Size>3</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents>"
	}
	for _, c := range []struct {
		name, after, body string
		keys              int
		next              string
		kind              object.Kind
	}{
		{"whole", "", "<IsTruncated>false</IsTruncated>" + entry("a") + entry("b"), 2, "", 0},
		{"truncated", "a", "<IsTruncated>true</IsTruncated>" + entry("b"), 1, "b", 0},
		{"directories left out", "", "<IsTruncated>true</IsTruncated>" + entry("a") + entry("d/"), 1, "d/", 0},
		{"truncated and empty", "", "<IsTruncated>true</IsTruncated>", 0, "", object.Transient},
		{"the same again", "b", "<IsTruncated>true</IsTruncated>" + entry("b"), 0, "", object.Transient},
		{"backwards", "c", "<IsTruncated>true</IsTruncated>" + entry("b"), 0, "", object.Transient},
	} {
		s := canned(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("start-after") != c.after {
				t.Errorf("%s: query %s", c.name, r.URL.RawQuery)
			}
			io.WriteString(w, "<ListBucketResult>"+c.body+tail)
		})
		page, err := s.List(t.Context(), "", c.after)
		if object.KindOf(err) != c.kind || len(page.Entries) != c.keys || page.Next != c.next {
			t.Errorf("%s: %+v, %v", c.name, page, err)
		}
	}
}

func TestAnswersOfUnknownLength(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusPartialContent} {
		s := canned(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			w.(http.Flusher).Flush()
			w.Write(make([]byte, 100))
		})
		if n, info, err := s.Get(t.Context(), "k", 0, make([]byte, 100)); !errors.Is(err, object.ErrTransient) {
			t.Errorf("%d: %d bytes, %+v, %v", status, n, info, err)
		}
	}
}

func TestServerWithoutRanges(t *testing.T) {
	data := objecttest.Pattern(1, 5000)
	s := canned(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5000")
		w.Write(data)
	})
	for _, off := range []int64{0, 1, 4990, 5000, 6000} {
		dst := make([]byte, 100)
		n, info, err := s.Get(t.Context(), "k", off, dst)
		want := data[min(off, 5000):min(off+100, 5000)]
		if err != nil || info.Size != 5000 || !bytes.Equal(dst[:n], want) {
			t.Errorf("at %d: %d bytes, %+v, %v", off, n, info, err)
		}
	}
}

// multipart answers an upload whose parts fail the first failures times each.
func multipart(failures int64, complete func(http.ResponseWriter, *http.Request), aborted *atomic.Int64) func(http.ResponseWriter, *http.Request) {
	var tries [4]atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case q.Has("uploads"):
			io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>`)
		case q.Has("partNumber"):
			if tries[q.Get("partNumber")[0]-'0'].Add(1) <= failures {
				errorXML(http.StatusServiceUnavailable, "SlowDown")(w, r)
				return
			}
			w.Header().Set("ETag", `"e"`)
		case r.Method == http.MethodPost:
			complete(w, r)
		case r.Method == http.MethodDelete:
			aborted.Add(1)
			w.WriteHeader(http.StatusNoContent)
		}
	}
}

func completed(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, `<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>`)
}

func TestPartsAreTriedAgain(t *testing.T) {
	for failures, kind := range map[int64]object.Kind{0: 0, 3: 0, 4: object.Transient} {
		var aborted atomic.Int64
		s := canned(t, multipart(failures, completed, &aborted))
		_, err := put(t, s, "k", make([]byte, objecttest.BigBody), true)
		if object.KindOf(err) != kind || (aborted.Load() == 1) != (err != nil) {
			t.Errorf("%d failures of each part: %v, aborted %d times", failures, err, aborted.Load())
		}
		if c := object.CountsOf(s); err == nil && (c.UploadPart != 3*(failures+1) || c.Errors != 3*failures) {
			t.Errorf("%d failures of each part: %+v", failures, c)
		}
	}
}

// TestCompleteErrors lets the completion fail: in an answer of 200 with an error in it, as S3 may
// give, and because the upload is gone, as after a completion whose answer was lost.
func TestCompleteErrors(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		kind   object.Kind
	}{
		{200, "InternalError", object.Transient}, {404, "NoSuchUpload", object.Transient},
		{409, "ConditionalRequestConflict", object.Transient}, {412, "PreconditionFailed", object.Exists},
	} {
		var aborted atomic.Int64
		s := canned(t, multipart(0, errorXML(c.status, c.code), &aborted))
		if _, err := put(t, s, "k", make([]byte, s3.MultipartMin), true); object.KindOf(err) != c.kind {
			t.Errorf("%d %s: %v", c.status, c.code, err)
		}
		if aborted.Load() != 1 {
			t.Errorf("%d %s: aborted %d times", c.status, c.code, aborted.Load())
		}
	}
}

func TestServerWithoutDeleteObjects(t *testing.T) {
	for _, refusal := range []func(http.ResponseWriter, *http.Request){
		errorXML(http.StatusNotImplemented, "NotImplemented"), errorXML(http.StatusBadRequest, "InvalidRequest"),
		errorXML(http.StatusMethodNotAllowed, "MethodNotAllowed"),
	} {
		var single, many atomic.Int64
		s := canned(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				many.Add(1)
				refusal(w, r)
				return
			}
			single.Add(1)
			if strings.HasSuffix(r.URL.Path, "bad") {
				errorXML(http.StatusForbidden, "AccessDenied")(w, r)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
		for range 2 {
			if err := s.Delete(t.Context(), "a", "b", "c"); err != nil {
				t.Fatal(err)
			}
		}
		if single.Load() != 6 || many.Load() != 1 {
			t.Errorf("%d single deletes, %d of many", single.Load(), many.Load())
		}
		if err := s.Delete(t.Context(), "a", "bad", "c"); !errors.Is(err, object.ErrDenied) {
			t.Errorf("%v", err)
		}
	}
}

func TestDeleteManyReportsErrors(t *testing.T) {
	for code, kind := range map[string]object.Kind{
		"AccessDenied": object.Denied, "InternalError": object.Transient, "NoSuchKey": 0, "SlowDown": object.Transient,
	} {
		s := canned(t, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `<DeleteResult><Error><Key>a</Key><Code>%s</Code><Message>m</Message></Error></DeleteResult>`, code)
		})
		if err := s.Delete(t.Context(), "a", "b"); object.KindOf(err) != kind {
			t.Errorf("%s: %v", code, err)
		}
	}
}
