package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/fence"
	"zerofs/journal"
	"zerofs/tiers/disk"
)

func TestErrno(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{errors.New("anything"), syscall.EIO},
		{fs.ErrNotExist, syscall.ENOENT},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, syscall.ENOENT},
		{fs.ErrExist, syscall.EEXIST},
		{fs.ErrInvalid, syscall.EINVAL},
		{fs.ErrPermission, syscall.EACCES},
		{disk.ErrFull, syscall.ENOSPC},
		{syscall.EDQUOT, syscall.ENOSPC},
		{fence.ErrFenced, syscall.EIO},
		{errors.Join(fs.ErrNotExist, fence.ErrFenced), syscall.EIO},
		{fence.ErrClosed, syscall.ESHUTDOWN},
		{journal.ErrFailed, syscall.EIO},
		{journal.ErrClosed, syscall.ESHUTDOWN},
		{context.Canceled, syscall.ECANCELED},
		{context.DeadlineExceeded, syscall.ETIMEDOUT},
		{errors.ErrUnsupported, syscall.ENOTSUP},
	} {
		for _, err := range []error{tc.err, wrap(tc.err)} {
			if got := Errno(err); got != tc.want {
				t.Errorf("Errno(%v) = %v, want %v", err, got, tc.want)
			}
		}
	}
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("engine: read inode 7: %w", err)
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	lns, err := Listen(t.Context(), []string{"127.0.0.1:0", "[::1]:0"}, path)
	if err != nil {
		t.Fatal(err)
	}
	if len(lns) != 3 {
		t.Fatalf("%d listeners", len(lns))
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != SocketMode {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if _, err := Listen(t.Context(), nil, path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	for _, ln := range lns {
		nc, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
		if err != nil {
			t.Error(err)
			continue
		}
		nc.Close()
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
}

func TestListenReplacesStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	lns, err := Listen(t.Context(), nil, path)
	if err != nil {
		t.Fatal(err)
	}
	lns[0].Close()
}

func TestListenKeepsOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	if _, err := Listen(t.Context(), []string{"127.0.0.1:0"}, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Listen: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "precious" {
		t.Errorf("the file holds %q", got)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

func TestListenOnNonsense(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:none", "256.0.0.1:0", "127.0.0.1"} {
		if lns, err := Listen(t.Context(), []string{"127.0.0.1:0", addr}, ""); err == nil || lns != nil {
			t.Errorf("Listen on %q: %v, %v", addr, lns, err)
		}
	}
}

// stub is a listener that returns what it is given.
type stub struct {
	accept chan any // net.Conn or error
	net.Listener
}

func (s *stub) Addr() net.Addr { return &net.TCPAddr{} }

func (s *stub) Accept() (net.Conn, error) {
	switch v := (<-s.accept).(type) {
	case net.Conn:
		return v, nil
	case error:
		return nil, v
	}
	return nil, net.ErrClosed // the channel is closed
}

// from is a connection from an address.
type from struct {
	net.Conn
	addr   net.Addr
	closed bool
}

func (c *from) RemoteAddr() net.Addr { return c.addr }
func (c *from) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (c *from) Close() error         { c.closed = true; return nil }

func TestAllow(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	networks := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10")}
	for _, tc := range []struct {
		addr net.Addr
		want bool
	}{
		{tcp("10.1.255.1:99"), true},
		{tcp("10.2.0.1:99"), false},
		{tcp("127.0.0.1:99"), false},
		{tcp("[::ffff:10.1.2.3]:99"), true},
		{tcp("[::ffff:10.2.2.3]:99"), false},
		{tcp("[fd12::1]:99"), true},
		{tcp("[fe80::1%eth0]:99"), true},
		{tcp("[2001:db8::1]:99"), false},
		{&net.UnixAddr{Name: "@", Net: "unix"}, true},
		{&net.IPAddr{IP: net.IPv4(10, 1, 0, 1)}, false},
	} {
		ln := &stub{accept: make(chan any, 2)}
		c := &from{addr: tc.addr}
		ln.accept <- c
		close(ln.accept)
		got, err := Allow(ln, networks, slog.New(slog.DiscardHandler)).Accept()
		if allowed := err == nil && got == net.Conn(c); allowed != tc.want || c.closed == tc.want {
			t.Errorf("%v: allowed %v, closed %v", tc.addr, allowed, c.closed)
		}
	}
}

func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &stub{accept: make(chan any)}
		var log bytes.Buffer
		handled := make(chan net.Conn, 10)
		end := make(chan error, 1)
		go func() {
			end <- Accept(t.Context(), ln, slog.New(slog.NewTextHandler(&log, nil)), func(c net.Conn) { handled <- c })
		}()
		start := time.Now()
		for range 100 {
			ln.accept <- syscall.EMFILE
		}
		ln.accept <- &from{}
		if took := time.Since(start); took < 60*time.Second || took > 100*time.Second {
			t.Errorf("100 errors took %v", took)
		}
		<-handled
		close(ln.accept)
		if err := <-end; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		if lines := strings.Count(log.String(), "\n"); lines < 5 || lines > 11 {
			t.Errorf("%d lines in the log", lines)
		}
		if !strings.Contains(log.String(), "unlogged=10") && !strings.Contains(log.String(), "unlogged=9") {
			t.Errorf("the log counts nothing:\n%s", &log)
		}
		time.Sleep(acceptLogEvery) // the last timer
	})
}

func TestAcceptEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("fenced")
		ctx, cancel := context.WithCancelCause(context.Background())
		ln := &stub{accept: make(chan any)}
		end := make(chan error, 1)
		go func() { end <- Accept(ctx, ln, slog.New(slog.DiscardHandler), nil) }()
		ln.accept <- io.ErrUnexpectedEOF
		cancel(cause)
		if err := <-end; !errors.Is(err, cause) {
			t.Errorf("Accept: %v", err)
		}
		time.Sleep(acceptLogEvery)
	})
}

func TestTLSConfigRefuses(t *testing.T) {
	if _, err := TLSConfig([]byte("cert"), []byte("key"), nil); err == nil {
		t.Error("nonsense is taken for a certificate")
	}
}
