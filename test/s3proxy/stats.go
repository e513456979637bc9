package s3proxy

import (
	"net/http"
	"strings"
	"sync/atomic"
)

// Stats is what passed through a proxy.
type Stats struct {
	Operations map[string]int64 `json:"operations"` // requests by operation; absent where none
	Requests   int64            `json:"requests"`
	BytesUp    int64            `json:"bytes_up"` // of bodies
	BytesDown  int64            `json:"bytes_down"`
	Status412  int64            `json:"status_412"`
	Status4xx  int64            `json:"status_4xx"` // 412 among them
	Status5xx  int64            `json:"status_5xx"` // injected ones among them
	Dropped    int64            `json:"dropped"`    // connections cut
	InFlight   int64            `json:"in_flight"`
	Peak       int64            `json:"peak_in_flight"`
}

// The names of operations in Stats.
const (
	Put        = "PUT"
	UploadPart = "UPLOAD_PART"
	Copy       = "COPY"
	Create     = "MPU_CREATE"
	Complete   = "MPU_COMPLETE"
	Abort      = "MPU_ABORT"
	Get        = "GET"
	Head       = "HEAD"
	List       = "LIST"
	Delete     = "DELETE"
	DeleteMany = "DELETE_BATCH"
	Other      = "OTHER"
)

var operations = []string{Put, UploadPart, Copy, Create, Complete, Abort, Get, Head, List, Delete, DeleteMany, Other}

// counters are Stats as they grow.
type counters struct {
	ops                [12]atomic.Int64 // by index in operations
	bytesUp, bytesDown atomic.Int64
	c412, c4xx, c5xx   atomic.Int64
	dropped            atomic.Int64
	inFlight, peak     atomic.Int64
}

// enter counts a request; leave is called when it has ended.
func (c *counters) enter(op string) (leave func()) {
	for i, name := range operations {
		if name == op {
			c.ops[i].Add(1)
		}
	}
	n := c.inFlight.Add(1)
	for p := c.peak.Load(); n > p && !c.peak.CompareAndSwap(p, n); p = c.peak.Load() {
	}
	return func() { c.inFlight.Add(-1) }
}

// status counts an answer.
func (c *counters) status(code int) {
	switch {
	case code >= 500:
		c.c5xx.Add(1)
	case code >= 400:
		c.c4xx.Add(1)
	}
	if code == http.StatusPreconditionFailed {
		c.c412.Add(1)
	}
}

// Stats returns the counts.
func (p *Proxy) Stats() Stats { return p.stats.read((*atomic.Int64).Load) }

// Reset sets the counts to zero and returns them as they were.
func (p *Proxy) Reset() Stats {
	return p.stats.read(func(a *atomic.Int64) int64 { return a.Swap(0) })
}

func (c *counters) read(get func(*atomic.Int64) int64) Stats {
	s := Stats{
		Operations: map[string]int64{}, BytesUp: get(&c.bytesUp), BytesDown: get(&c.bytesDown),
		Status412: get(&c.c412), Status4xx: get(&c.c4xx), Status5xx: get(&c.c5xx),
		Dropped: get(&c.dropped), InFlight: c.inFlight.Load(), Peak: get(&c.peak),
	}
	for i, name := range operations {
		if n := get(&c.ops[i]); n > 0 {
			s.Operations[name] = n
			s.Requests += n
		}
	}
	return s
}

// operation names what a request is billed as, which its method alone does not tell.
func operation(r *http.Request) string {
	q := r.URL.Query()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch r.Method {
	case http.MethodPut:
		switch {
		case r.Header.Get("X-Amz-Copy-Source") != "":
			return Copy
		case q.Has("partNumber"):
			return UploadPart
		case key != "":
			return Put
		}
	case http.MethodGet:
		if key != "" && !q.Has("uploadId") {
			return Get
		}
		return List
	case http.MethodHead:
		return Head
	case http.MethodDelete:
		if q.Has("uploadId") {
			return Abort
		}
		return Delete
	case http.MethodPost:
		switch {
		case q.Has("delete"):
			return DeleteMany
		case q.Has("uploads"):
			return Create
		case q.Has("uploadId"):
			return Complete
		}
	}
	return Other
}
