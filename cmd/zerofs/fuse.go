package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"time"

	"zerofs/servers/fuse"
)

// fuseClient is the mount's name among those that hold locks and change files; 9P's connections count from 1.
const fuseClient = math.MaxUint64

// mount mounts the volume if the configuration says where.
func (p *process) mount(ctx context.Context) error {
	c := p.cfg.FUSE
	if c == nil {
		return nil
	}
	other := os.Geteuid() == 0
	if c.AllowOther != nil {
		other = *c.AllowOther
	}
	shared := p.locks
	if p.cfg.NineP == nil {
		shared = nil // nobody else locks: the kernel does it alone, and faster
	}
	s, err := fuse.Mount(ctx, fuse.Options{
		Mountpoint: c.Mountpoint, Source: p.cfg.Volume.URL, AllowOther: other, WritebackCache: c.WritebackCache, DirectIO: c.DirectIO,
		ReadOnly: c.ReadOnly, NoSUID: c.NoSUID, NoDev: c.NoDev, NoExec: c.NoExec,
		Engine: p.vol.Engine(), Locks: shared, Client: fuseClient,
		Wait: p.vol.Wait, Status: threadStatus, Now: time.Now, Logger: p.log,
	})
	if err != nil {
		return err
	}
	p.fuse = s
	p.state.setFUSE(s)
	p.log.Info("mounted", "mountpoint", c.Mountpoint)
	return nil
}

// threadStatus reads what the kernel says of a thread.
func threadStatus(tid uint32) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, 8<<10) // the kernel gives all of it to one read
	n, err := f.Read(buf)
	return buf[:n], err
}

// stopFUSE unmounts; whoever still uses the mount is cut off after the grace.
func stopFUSE(ctx context.Context, s *fuse.Server, now bool, log *slog.Logger) {
	grace := serversStop
	if now {
		grace = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := s.Unmount(ctx); err != nil {
		log.Warn("unmounted by force", "err", err)
	}
}
