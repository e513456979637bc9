package s3proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// backend counts the requests that reach the server behind the proxy.
func backend(t *testing.T, seen *atomic.Int64) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		io.Copy(io.Discard, r.Body)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		fmt.Fprint(w, r.Host)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func do(t *testing.T, method, url, body string, header ...string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

func TestOperations(t *testing.T) {
	for _, c := range []struct{ method, url, want string }{
		{"PUT", "/b/k", Put}, {"PUT", "/b/k?partNumber=1&uploadId=x", UploadPart}, {"PUT", "/b", Other},
		{"POST", "/b/k?uploads", Create}, {"POST", "/b/k?uploadId=x", Complete}, {"DELETE", "/b/k?uploadId=x", Abort},
		{"GET", "/b/k", Get}, {"GET", "/b/?list-type=2", List}, {"GET", "/b?list-type=2", List}, {"GET", "/", List},
		{"GET", "/b/k?uploadId=x", List}, {"HEAD", "/b/k", Head}, {"DELETE", "/b/k/l", Delete}, {"POST", "/b?delete", DeleteMany},
	} {
		if got := operation(httptest.NewRequest(c.method, c.url, nil)); got != c.want {
			t.Errorf("%s %s is %s, want %s", c.method, c.url, got, c.want)
		}
	}
}

func TestPassesOnAndCounts(t *testing.T) {
	var seen atomic.Int64
	p, url := Start(t, backend(t, &seen))
	status, host, err := do(t, "PUT", url+"/b/k", "12345")
	if err != nil || status != 200 || "http://"+host != url {
		t.Fatalf("%d, host %q, %v: want the client's host %s", status, host, err, url)
	}
	if status, _, err := do(t, "PUT", url+"/b/k", "", "If-None-Match", "*"); err != nil || status != 412 {
		t.Fatalf("%d, %v", status, err)
	}
	s := p.Reset()
	if s.Operations[Put] != 2 || s.Requests != 2 || s.BytesUp != 5 || s.BytesDown != int64(len(host)) || s.Status412 != 1 {
		t.Fatalf("%+v", s)
	}
	if s := p.Stats(); s.Requests != 0 {
		t.Fatalf("after reset: %+v", s)
	}
}

func TestFaults(t *testing.T) {
	var seen atomic.Int64
	p, url := Start(t, backend(t, &seen))
	for _, c := range []struct {
		name    string
		s       Settings
		status  int
		reaches int64
	}{
		{"error", Settings{ErrorRate: 1}, 503, 0},
		{"drop", Settings{DropRate: 1}, 0, 1},
		{"outage", Settings{Outage: true}, 0, 0},
	} {
		p.Set(c.s)
		seen.Store(0)
		status, _, err := do(t, "PUT", url+"/b/k", "x")
		if status != c.status || (err == nil) != (c.status != 0) || seen.Load() != c.reaches {
			t.Errorf("%s: status %d, %v, %d requests reached the server", c.name, status, err, seen.Load())
		}
	}
	if s := p.Stats(); s.Status5xx != 1 || s.Dropped != 2 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

func TestLatency(t *testing.T) {
	var seen atomic.Int64
	p, url := Start(t, backend(t, &seen))
	p.Set(Settings{Latency: 60 * time.Millisecond})
	begin := time.Now()
	if _, _, err := do(t, "GET", url+"/b/k", ""); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 60*time.Millisecond {
		t.Errorf("answered after %v", d)
	}
}

func TestPacerSharesTheRate(t *testing.T) {
	var p pacer
	now := time.Unix(1000, 0)
	for i := 1; i <= 4; i++ {
		if d := p.reserve(500, 1000, now); d != time.Duration(i)*500*time.Millisecond {
			t.Errorf("piece %d waits %v", i, d)
		}
	}
	if d := p.reserve(500, 1000, now.Add(time.Hour)); d != 500*time.Millisecond {
		t.Errorf("after a pause: %v", d)
	}
}

func TestControl(t *testing.T) {
	p, err := New("http://127.0.0.1:1", 1)
	if err != nil {
		t.Fatal(err)
	}
	call := func(method, url string) (int, string) {
		w := httptest.NewRecorder()
		p.Control().ServeHTTP(w, httptest.NewRequest(method, url, new(bytes.Buffer)))
		return w.Code, w.Body.String()
	}
	if code, out := call("POST", "/set?latency_ms=20&jitter_ms=5&err_pct=1&drop_pct=50&mbps=8&outage=1"); code != 200 {
		t.Fatal(code, out)
	}
	want := Settings{20 * time.Millisecond, 5 * time.Millisecond, 0.01, 0.5, 1_000_000, true}
	if got := p.Settings(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, bad := range []string{"/set?latency_ms=x", "/set?mbps=-1", "/set?err_pct=NaN", "/set?nonsense=1"} {
		if code, _ := call("POST", bad); code != 400 {
			t.Errorf("%s: %d", bad, code)
		}
	}
	if got := p.Settings(); got != want {
		t.Errorf("a bad request changed the settings: %+v", got)
	}
	if code, out := call("GET", "/stats"); code != 200 || !strings.Contains(out, `"requests":0`) {
		t.Error(code, out)
	}
}
