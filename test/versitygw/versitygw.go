// Package versitygw runs a versitygw server for tests: an S3 server that honours put-if-absent,
// over a real socket, with a directory as its store.
package versitygw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Version is the version that tests are written against.
const Version = "v1.8.0"

// RequireEnv names the environment variable with which a missing binary fails a test instead of skipping it.
const RequireEnv = "ZEROFS_REQUIRE_VERSITYGW"

// errMissing says how to get the binary.
var errMissing = errors.New("versitygw is neither in bin/ nor in PATH nor in GOBIN: make bin/versitygw")

// Server is a running server.
type Server struct {
	Endpoint        string // http://127.0.0.1:port
	Region          string
	AccessKeyID     string
	SecretAccessKey string
	Bucket          string // made
	Dir             string // holds the buckets as directories, objects as files

	cmd    *exec.Cmd
	out    *bytes.Buffer
	exited chan struct{} // closed when err is set
	err    error
}

// Start starts a server with an empty bucket for the length of the test. Without the binary the
// test is skipped, or fails where RequireEnv is set.
func Start(tb testing.TB) *Server {
	tb.Helper()
	bin, err := Find()
	if err != nil {
		if os.Getenv(RequireEnv) != "" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	s, err := Run(bin, tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(); err != nil {
			tb.Errorf("versitygw: %v", err)
		}
	})
	return s
}

// Find returns the path of the binary: in bin/ at the module's root, in PATH, or where go install puts it.
func Find() (string, error) {
	var places []string
	if root, err := moduleRoot(); err == nil {
		places = append(places, filepath.Join(root, "bin", "versitygw"))
	}
	if p, err := exec.LookPath("versitygw"); err == nil {
		places = append(places, p)
	}
	if out, err := exec.Command("go", "env", "GOBIN", "GOPATH").Output(); err == nil {
		gobin, gopath, _ := strings.Cut(strings.TrimRight(string(out), "\n"), "\n")
		if gobin == "" && gopath != "" {
			gobin = filepath.Join(filepath.SplitList(gopath)[0], "bin")
		}
		places = append(places, filepath.Join(gobin, "versitygw"))
	}
	for _, p := range places {
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", errMissing
}

// moduleRoot returns the directory above the working directory that holds go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = parent
	}
}

// Run starts the binary bin with its files below dir, which exists and is empty, and waits until it answers.
func Run(bin, dir string) (*Server, error) {
	// The port is free when it is asked for, and may be taken by another before the server has it.
	var last error
	for range 5 {
		s, err := run(bin, dir)
		if err == nil {
			return s, nil
		}
		last = err
	}
	return nil, last
}

func run(bin, dir string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{
		Endpoint: "http://" + port, Region: "us-east-1", AccessKeyID: "tester", SecretAccessKey: "tester-secret",
		Bucket: "volumes", Dir: dir, out: new(bytes.Buffer), exited: make(chan struct{}),
	}
	if err := os.MkdirAll(filepath.Join(dir, s.Bucket), 0o700); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(bin, "--port", port, "--keep-alive", "--quiet", "posix", dir)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKeyID, "ROOT_SECRET_KEY="+s.SecretAccessKey)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", bin, err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.wait(30 * time.Second); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%w; it said: %s", err, s.out)
	}
	return s, nil
}

// wait waits until the server answers HTTP requests.
func (s *Server) wait(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+"/", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("versitygw ended: %v", s.err)
		case <-ctx.Done():
			return fmt.Errorf("versitygw does not answer at %s", s.Endpoint)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server and waits for it. A server that ended by itself is an error.
func (s *Server) Stop() error {
	select {
	case <-s.exited:
		return fmt.Errorf("ended by itself: %v; it said: %s", s.err, s.out)
	default:
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(5 * time.Second):
		s.cmd.Process.Kill()
		<-s.exited
	}
	return nil
}

// freePort returns an address on the loopback with a port that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
