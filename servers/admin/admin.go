// Package admin serves the control plane over HTTP, on a Unix socket that only the owner of the
// process may open: what the command line talks to.
//
//	GET  /status        the Source's status as one JSON object
//	GET  /healthz       200 while the process works at all
//	GET  /readyz        200 while requests are answered, else 503 and why not
//	POST /fence/accept  opens devices that a takeover closed; {"accepted": bool}
//	GET  /debug/pprof/  net/http/pprof
//
// # Concurrency
//
// Any goroutine may call any method. Requests run concurrently.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"
)

// Source is what the server tells of. Its methods may be called at any time and concurrently.
type Source interface {
	// Status returns a value that encoding/json can marshal. It holds no secrets.
	Status() any
	// Ready returns nil while requests are answered.
	Ready() error
	// Accept gives the operator's word after a lossy takeover; it reports whether it was needed.
	Accept() (bool, error)
}

// Server is the HTTP server. Serve may be called for several listeners.
type Server struct {
	http   http.Server
	source Source
	log    *slog.Logger
	wg     sync.WaitGroup
}

// New returns a server that tells of source.
func New(source Source, logger *slog.Logger) *Server {
	s := &Server{source: source, log: logger}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("POST /fence/accept", s.accept)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s.http = http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn)}
	return s
}

// Go serves the listener in a goroutine that Shutdown ends.
func (s *Server) Go(ln net.Listener) {
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("admin server stopped", "address", ln.Addr().String(), "error", err)
		}
	}()
}

// Shutdown closes the listeners and waits for requests under way, or for the context's end.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	s.wg.Wait()
	return err
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, s.source.Status())
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.source.Ready(); err != nil {
		plain(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	plain(w, http.StatusOK, "ready")
}

func (s *Server) accept(w http.ResponseWriter, _ *http.Request) {
	was, err := s.source.Accept()
	if err != nil {
		plain(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	reply(w, map[string]bool{"accepted": was})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client is gone: there is nobody to tell
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n"))
}
