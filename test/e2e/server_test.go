package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"zerofs/servers/admin"
)

// hang is longer than anything takes on a busy machine.
const hang = 3 * time.Minute

// output is what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// server is a running zerofs.
type server struct {
	t      *testing.T
	socket string // of admin
	cmd    *exec.Cmd
	log    *output
	done   chan struct{} // closed when the process has ended
}

// launch starts a command that is a zerofs with its admin socket at socket. It is killed when the
// test ends; what it printed is shown if the test failed.
func launch(t *testing.T, socket string, args ...string) *server {
	t.Helper()
	s := &server{t: t, socket: socket, log: &output{}, done: make(chan struct{})}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // the status is in ProcessState
		close(s.done)
	}()
	t.Cleanup(func() {
		if !s.ended() {
			s.kill()
		}
		if t.Failed() {
			t.Logf("log of pid %d, %s:\n%s", s.cmd.Process.Pid, s.cmd.ProcessState, s.log)
		}
	})
	return s
}

// begin starts the host's server and does not wait for it.
func (h *host) begin() *server {
	h.t.Helper()
	return launch(h.t, h.admin, program, "-config", h.config)
}

// start starts the host's server and waits until it serves.
func (h *host) start() *server {
	h.t.Helper()
	s := h.begin()
	s.ready()
	return s
}

// ready waits until the server serves.
func (s *server) ready() {
	s.t.Helper()
	s.poll("readiness", func() bool { return s.isReady() })
}

func (s *server) isReady() bool {
	_, err := s.call("GET", "/readyz")
	return err == nil
}

func (s *server) call(method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return admin.Call(ctx, s.socket, method, path)
}

// poll waits for a condition while the server runs.
func (s *server) poll(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(hang)
	for !cond() {
		if s.ended() {
			s.t.Fatalf("waiting for %s: the server ended: %s", what, s.cmd.ProcessState)
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no %s after %s", what, hang)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatal(err)
	}
}

// kill is kill -9.
func (s *server) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	s.wait()
}

// wait waits for the process's end and returns its exit status, -1 after a signal.
func (s *server) wait() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(hang):
		s.t.Fatalf("pid %d does not end", s.cmd.Process.Pid)
	}
	return s.cmd.ProcessState.ExitCode()
}

// wants waits for the process's end and checks its exit status and that it said every word.
func (s *server) wants(status int, words ...string) {
	s.t.Helper()
	if got := s.wait(); got != status {
		s.t.Errorf("exit status %d, want %d", got, status)
	}
	for _, w := range words {
		if !strings.Contains(s.log.String(), w) {
			s.t.Errorf("the log lacks %q", w)
		}
	}
}

// stop is SIGTERM, which has to end the server cleanly.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	s.wants(0, "stopped cleanly")
}

// status is the part of the status that tests look at.
type status struct {
	Phase      string
	WaitingFor string `json:"waiting_for"`
	Volume     *struct {
		Epoch      uint64
		Lease      string
		Lossy      bool    `json:"lossy_takeover"`
		Refused    bool    `json:"refused"`
		LastLSN    uint64  `json:"last_lsn"`
		CoveredLSN uint64  `json:"covered_lsn"`
		Lag        float64 `json:"lag_seconds"`
	}
	Requests *struct{ Put, Get, Errors int64 }
}

func (s *server) status() status {
	s.t.Helper()
	body, err := s.call("GET", "/status")
	var st status
	if err == nil {
		err = json.Unmarshal(body, &st)
	}
	if err != nil {
		s.t.Fatalf("status: %v\n%s", err, body)
	}
	return st
}

// settled waits until the bucket has every change.
func (s *server) settled() {
	s.t.Helper()
	s.poll("write-back", func() bool {
		v := s.status().Volume
		return v != nil && v.CoveredLSN >= v.LastLSN
	})
}
