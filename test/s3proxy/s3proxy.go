// Package s3proxy stands in front of an S3 server in tests and benchmarks: it counts requests by
// what they cost, delays them, fails them, loses their answers, and limits the bandwidth of all of
// them together. It keeps the client's Host header, which the signature covers, so neither side
// needs to know that it is there.
package s3proxy

import (
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"net/http/httptest"
)

// Settings is what the proxy does to requests.
type Settings struct {
	Latency time.Duration `json:"latency_ns"` // added to each request, half of it before the server sees it
	Jitter  time.Duration `json:"jitter_ns"`  // up to this much more, evenly distributed

	ErrorRate float64 `json:"error_rate"` // of requests answered 503 SlowDown without effect; from 0 to 1
	DropRate  float64 `json:"drop_rate"`  // of requests whose connection is cut after the effect; from 0 to 1

	// BytesPerSecond limits bodies, each direction by itself, all connections together. 0: no limit.
	BytesPerSecond int64 `json:"bytes_per_second"`

	Outage bool `json:"outage"` // every connection is cut before the server sees the request
}

// Proxy is a handler that passes requests on to a server.
type Proxy struct {
	forward  *httputil.ReverseProxy
	settings atomic.Pointer[Settings]
	stats    counters
	up, down pacer

	mu  sync.Mutex // taken alone
	rng *rand.Rand
}

// errDrop cuts a connection after the server has answered.
var errDrop = errors.New("answer dropped")

// New returns a proxy to the server at target, such as http://127.0.0.1:7070. Which requests meet
// a fault follows from seed and the order of requests.
func New(target string, seed uint64) (*Proxy, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" || u.Host == "" {
		return nil, errors.New("s3proxy: target: want http://host:port")
	}
	p := &Proxy{rng: rand.New(rand.NewPCG(seed, seed))}
	p.settings.Store(&Settings{})
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host
			r.Out.Host = r.In.Host
			r.Out.URL.RawQuery = r.In.URL.RawQuery
		},
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 1024, IdleConnTimeout: 10 * time.Second, DisableCompression: true,
			ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10,
		},
		BufferPool:     bufferPool{},
		ModifyResponse: p.answer,
		ErrorHandler:   p.fail,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	return p, nil
}

// Start runs a proxy on a free port of the loopback for the length of a test and returns its URL.
func Start(tb testing.TB, target string) (*Proxy, string) {
	tb.Helper()
	p, err := New(target, 1)
	if err != nil {
		tb.Fatal(err)
	}
	srv := httptest.NewServer(p)
	tb.Cleanup(func() {
		srv.Close()
		p.forward.Transport.(*http.Transport).CloseIdleConnections()
	})
	return p, srv.URL
}

// Set replaces the settings, for requests from now on.
func (p *Proxy) Set(s Settings) { p.settings.Store(&s) }

// Settings returns the settings.
func (p *Proxy) Settings() Settings { return *p.settings.Load() }

// ServeHTTP passes a request on, or does to it what the settings say.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := p.settings.Load()
	leave := p.stats.enter(operation(r))
	defer leave()
	if s.Outage {
		p.stats.dropped.Add(1)
		panic(http.ErrAbortHandler) // cuts the connection
	}
	time.Sleep(p.delay(s) / 2)
	if p.hit(s.ErrorRate) {
		p.slowDown(w)
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &body{r.Body, p, &p.up, &p.stats.bytesUp}
	}
	p.forward.ServeHTTP(w, r)
}

func (p *Proxy) slowDown(w http.ResponseWriter) {
	p.stats.status(http.StatusServiceUnavailable)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusServiceUnavailable)
	io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>injected</Message></Error>`)
}

// answer is called with the server's answer before it goes to the client.
func (p *Proxy) answer(r *http.Response) error {
	s := p.settings.Load()
	time.Sleep(p.delay(s) / 2)
	if p.hit(s.DropRate) || s.Outage {
		return errDrop
	}
	p.stats.status(r.StatusCode)
	r.Body = &body{r.Body, p, &p.down, &p.stats.bytesDown}
	return nil
}

// fail is called when there is no answer for the client.
func (p *Proxy) fail(w http.ResponseWriter, _ *http.Request, err error) {
	if errors.Is(err, errDrop) {
		p.stats.dropped.Add(1)
		panic(http.ErrAbortHandler)
	}
	p.stats.status(http.StatusBadGateway)
	w.WriteHeader(http.StatusBadGateway)
}

// delay draws what a request takes.
func (p *Proxy) delay(s *Settings) time.Duration {
	if s.Jitter <= 0 {
		return s.Latency
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.Latency + time.Duration(p.rng.Int64N(int64(s.Jitter)))
}

func (p *Proxy) hit(rate float64) bool {
	if rate <= 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.Float64() < rate
}

// body counts and paces the bytes of a body.
type body struct {
	io.ReadCloser
	p     *Proxy
	pacer *pacer
	count *atomic.Int64
}

// pieceMax is the most bytes that pass between two looks at the rate.
const pieceMax = 64 << 10

func (b *body) Read(buf []byte) (int, error) {
	rate := b.p.settings.Load().BytesPerSecond
	if rate > 0 && len(buf) > pieceMax {
		buf = buf[:pieceMax]
	}
	n, err := b.ReadCloser.Read(buf)
	b.count.Add(int64(n))
	if rate > 0 && n > 0 {
		time.Sleep(b.pacer.reserve(n, rate, time.Now()))
	}
	return n, err
}

// pacer shares a rate among connections.
type pacer struct {
	mu   sync.Mutex // taken alone
	free time.Time  // when what was reserved so far will have passed
}

// reserve takes n bytes at rate bytes a second and returns how long to wait for them.
func (p *pacer) reserve(n int, rate int64, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return p.free.Sub(now)
}

// bufferPool is where the reverse proxy takes its buffers from.
type bufferPool struct{}

const bufferSize = 128 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func (bufferPool) Get() []byte  { return buffers.Get().(*[bufferSize]byte)[:] }
func (bufferPool) Put(b []byte) { buffers.Put((*[bufferSize]byte)(b)) }
