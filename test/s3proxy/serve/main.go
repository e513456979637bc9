// Command serve runs package s3proxy by itself, for tests that are scripts.
//
//	go run ./test/s3proxy/serve -target http://127.0.0.1:7070 -listen 127.0.0.1:8333 -control 127.0.0.1:8334 -latency 20ms
package main

import (
	"flag"
	"log"
	"net"
	"net/http"
	"time"

	"zerofs/test/s3proxy"
)

func main() {
	target := flag.String("target", "http://127.0.0.1:7070", "the S3 server")
	listen := flag.String("listen", "127.0.0.1:8333", "address for S3 clients, port 0 for a free one")
	control := flag.String("control", "127.0.0.1:8334", "address of the control endpoint, port 0 for a free one")
	seed := flag.Uint64("seed", 1, "of faults")
	var s s3proxy.Settings
	flag.DurationVar(&s.Latency, "latency", 0, "added to each request")
	flag.DurationVar(&s.Jitter, "jitter", 0, "up to this much more")
	mbps := flag.Float64("mbps", 0, "megabits a second of all bodies together, each direction; 0: no limit")
	flag.Parse()
	s.BytesPerSecond = int64(*mbps * 125_000)

	p, err := s3proxy.New(*target, *seed)
	if err != nil {
		log.Fatal(err)
	}
	p.Set(s)
	clients, steering := loopback(*listen), loopback(*control)
	go func() { log.Fatal(serve(steering, p.Control())) }()
	log.Printf("s3proxy http://%s to %s, control http://%s", clients.Addr(), *target, steering.Addr())
	log.Fatal(serve(clients, p))
}

// loopback listens on an address, which must not be reachable from elsewhere.
func loopback(addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
		log.Fatalf("%s is not a loopback address", addr)
	}
	return l
}

func serve(l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	return srv.Serve(l)
}
