package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

type source struct {
	ready    error
	accepted bool
}

func (s *source) Status() any  { return map[string]int{"epoch": 7} }
func (s *source) Ready() error { return s.ready }
func (s *source) Accept() (bool, error) {
	s.accepted = true
	return true, s.ready
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	src := &source{}
	s := New(src, slog.New(slog.DiscardHandler))
	s.Go(ln)
	ctx := context.Background()

	body, err := Call(ctx, path, "GET", "/status")
	var st struct{ Epoch int }
	if err != nil || json.Unmarshal(body, &st) != nil || st.Epoch != 7 {
		t.Errorf("status: %s, %v", body, err)
	}
	for _, c := range []struct{ method, url, want string }{
		{"GET", "/healthz", "ok"}, {"GET", "/readyz", "ready"}, {"POST", "/fence/accept", `"accepted": true`}, {"GET", "/debug/pprof/", "goroutine"},
	} {
		if body, err := Call(ctx, path, c.method, c.url); err != nil || !strings.Contains(string(body), c.want) {
			t.Errorf("%s: %s, %v", c.url, body, err)
		}
	}
	if !src.accepted {
		t.Error("not accepted")
	}
	src.ready = errors.New("lease lapsed")
	if _, err := Call(ctx, path, "GET", "/readyz"); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "lease lapsed") {
		t.Errorf("not ready: %v", err)
	}
	if _, err := Call(ctx, path, "GET", "/fence/accept"); err == nil {
		t.Error("GET accepts")
	}
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if _, err := Call(ctx, path, "GET", "/healthz"); err == nil {
		t.Error("answers after Shutdown")
	}
}
