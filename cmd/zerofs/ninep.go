package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"strconv"
	"sync"
	"syscall"

	"zerofs/config"
	"zerofs/engine/locks"
	"zerofs/engine/volume"
	"zerofs/servers"
	"zerofs/servers/ninep"
)

// ninepServers is the 9P server on all its listeners.
type ninepServers struct {
	server ninep.Server
	cancel context.CancelFunc
	failed chan error // why a listener stopped by itself
	addrs  []string
	wg     sync.WaitGroup
}

// startNineP opens the listeners and serves the volume's files. It returns nil if the address is
// taken and nobody asked for it.
func startNineP(ctx context.Context, c *config.NineP, vol *volume.Volume, table *locks.Table, log *slog.Logger) (*ninepServers, error) {
	s := &ninepServers{server: ninep.Server{FS: vol.Engine(), Locks: table, Wait: vol.Wait, Logger: log}}
	if c.Groups == "system" {
		s.server.Users = systemUsers{}
	}
	if c.TLS != nil {
		conf, err := loadTLS("servers.ninep.tls", c.TLS)
		if err != nil {
			return nil, err
		}
		s.server.TLS, s.server.TLSRequired = conf, c.TLS.Required
	}
	lns, err := servers.Listen(ctx, c.Listen, c.UnixSocket)
	if c.Optional && errors.Is(err, syscall.EADDRINUSE) {
		log.Warn("9P is not served: its port is taken; ZEROFS_9P_PORT names another", "err", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	serving, cancel := context.WithCancel(context.Background())
	s.cancel, s.failed = cancel, make(chan error, len(lns))
	for _, ln := range lns {
		addr := ln.Addr()
		if len(c.Allow) > 0 && addr.Network() != "unix" {
			ln = servers.Allow(ln, c.Allow, log)
		} else if c.Insecure && c.TLS == nil {
			warnOpen(addr, "all files", log)
		}
		s.addrs = append(s.addrs, addr.String())
		s.wg.Go(func() {
			err := s.server.Serve(serving, ln)
			if !errors.Is(err, ninep.ErrServerClosed) {
				s.failed <- fmt.Errorf("9P: %s: %w", addr, err)
			}
		})
		log.Info("listening", "protocol", "9p", "address", addr.String())
	}
	return s, nil
}

// shutdown ends the server; requests in flight are answered unless the volume has failed.
func (s *ninepServers) shutdown(ctx context.Context, now bool) {
	sctx, cancel := context.WithTimeout(ctx, grace(now))
	_ = s.server.Shutdown(sctx) // whoever is left is cut off
	cancel()
	s.cancel()
	s.wg.Wait()
}

// systemUsers is this machine's user database.
type systemUsers struct{}

// Groups returns a user's groups, the primary one first; none of a user whom nobody knows.
func (systemUsers) Groups(uid uint32) ([]uint32, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if errors.As(err, new(user.UnknownUserIdError)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("groups of user %d: %w", uid, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %d: %w", uid, err)
	}
	var groups []uint32
	for _, id := range append([]string{u.Gid}, ids...) {
		gid, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("groups of user %d: %w", uid, err)
		}
		groups = append(groups, uint32(gid))
	}
	return groups, nil
}

// UID returns the number of a user's name.
func (systemUsers) UID(name string) (uint32, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, false
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(uid), err == nil
}
