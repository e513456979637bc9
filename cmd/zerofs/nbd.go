package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"

	"zerofs/config"
	"zerofs/engine/volume"
	"zerofs/servers"
	"zerofs/servers/nbd"
)

// nbdServers is the NBD server on all its listeners.
type nbdServers struct {
	server nbd.Server
	cancel context.CancelFunc
	failed chan error // why a listener stopped by itself
	addrs  []string
	wg     sync.WaitGroup
}

// startNBD opens the listeners and serves the volume's devices.
func startNBD(ctx context.Context, c *config.NBD, vol *volume.Volume, log *slog.Logger) (*nbdServers, error) {
	s := &nbdServers{server: nbd.Server{Exports: newExports(vol, c.Devices), Logger: log}}
	if t := c.TLS; t != nil {
		conf, err := loadTLS("servers.nbd.tls", t)
		if err != nil {
			return nil, err
		}
		s.server.TLS, s.server.TLSRequired = conf, t.Required
	}
	lns, err := openNBD(ctx, c)
	if err != nil {
		return nil, err
	}
	serving, cancel := context.WithCancel(context.Background())
	s.cancel, s.failed = cancel, make(chan error, len(lns))
	for _, l := range lns {
		if len(c.Allow) > 0 && l.ln.Addr().Network() != "unix" {
			l.ln = servers.Allow(l.ln, c.Allow, log)
		} else if c.Insecure && c.TLS == nil {
			warnOpen(l.ln.Addr(), "the devices", log)
		}
		s.addrs = append(s.addrs, l.ln.Addr().String())
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			err := s.server.Serve(serving, l.ln, nbd.Options{DefaultExport: l.device})
			if !errors.Is(err, nbd.ErrServerClosed) {
				s.failed <- fmt.Errorf("nbd: %s: %w", l.ln.Addr(), err)
			}
		}()
		log.Info("listening", "protocol", "nbd", "address", l.ln.Addr().String(), "default_export", l.device)
	}
	return s, nil
}

// nbdListener is a listener and the device that it serves under the empty name.
type nbdListener struct {
	ln     net.Listener
	device string
}

// openNBD opens all listeners or none: the shared ones, then each device's own port on the same hosts.
func openNBD(ctx context.Context, c *config.NBD) (all []nbdListener, err error) {
	defer func() {
		if err != nil {
			for _, l := range all {
				l.ln.Close()
			}
		}
	}()
	only := ""
	if len(c.Devices) == 1 {
		only = c.Devices[0].Name
	}
	open := func(addrs []string, unix, device string) error {
		lns, err := servers.Listen(ctx, addrs, unix)
		for _, ln := range lns {
			all = append(all, nbdListener{ln, device})
		}
		return err
	}
	if err := open(c.Listen, c.UnixSocket, only); err != nil {
		return all, err
	}
	for _, d := range c.Devices {
		if d.Port == 0 {
			continue
		}
		if err := open(deviceAddrs(c.Listen, d), "", d.Name); err != nil {
			return all, err
		}
	}
	return all, nil
}

// deviceAddrs are the addresses of a device's own port.
func deviceAddrs(listen []string, d config.Device) []string {
	port := strconv.Itoa(d.Port)
	if d.Host != "" {
		return []string{net.JoinHostPort(d.Host, port)}
	}
	var addrs []string
	seen := map[string]bool{}
	for _, a := range listen {
		host, _, err := net.SplitHostPort(a)
		if err == nil && !seen[host] {
			seen[host] = true
			addrs = append(addrs, net.JoinHostPort(host, port))
		}
	}
	if len(addrs) == 0 {
		addrs = []string{net.JoinHostPort("127.0.0.1", port)}
	}
	return addrs
}

// shutdown ends the server; requests in flight are answered unless the volume has failed.
func (s *nbdServers) shutdown(ctx context.Context, now bool) {
	sctx, cancel := context.WithTimeout(ctx, grace(now))
	_ = s.server.Shutdown(sctx) // whoever is left is cut off
	cancel()
	s.cancel()
	s.wg.Wait()
}
