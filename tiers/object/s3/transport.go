package s3

import (
	"net"
	"net/http"
	"time"
)

// newHTTPClient returns a client for one store. HTTP/1.1, since a connection for each request
// under way is what stores are built for, and since an HTTP/2 connection that hangs takes all
// requests with it. Idle connections are kept for a burst of parallel reads, but no longer than
// servers keep them: a put on a connection that the server has closed is a lost answer.
func newHTTPClient() *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: time.Minute,
			IdleConnTimeout:       15 * time.Second,
			MaxIdleConnsPerHost:   512,
			DisableCompression:    true,
			ReadBufferSize:        64 << 10,
			WriteBufferSize:       64 << 10,
			Protocols:             &protocols,
		},
		// S3 redirects to another region's host, where the signature would not hold.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
