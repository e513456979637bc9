package servers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// SocketMode is the mode of a Unix socket: its owner alone may connect.
const SocketMode fs.FileMode = 0o600

// Listen opens a TCP listener for each address (host:port, IPv6 in brackets) and, unless unix is
// empty, one on that Unix socket. Either all open or none stays open. Closing the listener of a
// Unix socket removes the socket.
//
// A socket that a killed process left is replaced; one that somebody listens on, and any other
// file of that name, is an error. Two processes that start at the same time have to be kept
// apart by something else, such as the lock of the data directory.
func Listen(ctx context.Context, addrs []string, unix string) ([]net.Listener, error) {
	var lns []net.Listener
	fail := func(err error) ([]net.Listener, error) {
		for _, ln := range lns {
			err = errors.Join(err, ln.Close())
		}
		return nil, err
	}
	for _, addr := range addrs {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return fail(fmt.Errorf("servers: listen on %s: %w", addr, err))
		}
		lns = append(lns, ln)
	}
	if unix != "" {
		ln, err := listenUnix(ctx, unix)
		if err != nil {
			return fail(fmt.Errorf("servers: listen on %s: %w", unix, err))
		}
		lns = append(lns, ln)
	}
	return lns, nil
}

func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: restrictSocket}
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, SocketMode); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// removeStale removes the socket at path if nobody listens on it any more.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%w: it is there and not a socket", fs.ErrExist)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(syscall.EADDRINUSE, conn.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("find out whether somebody listens: %w", err)
}
