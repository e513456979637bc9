package main

import (
	"io"
	"path/filepath"

	"zerofs/config"
)

// cmdMount is "zerofs mount".
func cmdMount(args []string, stderr io.Writer) error {
	fs := newFlags("mount", `mount -config FILE DIR
   or: zerofs mount URL DIR

Mounts the volume on DIR (Linux; FUSE) and serves it until DIR is unmounted, or until SIGTERM or SIGINT, which
unmount it and stop cleanly. With a URL the environment describes the volume, as for "zerofs URL". Other servers
run only if the configuration names them.`, stderr)
	path := fs.String("config", "", "the configuration `file`")
	writeback := fs.Bool("writeback-cache", false, "the kernel collects writes (servers.fuse.writeback_cache)")
	if err := parse(fs, args); err != nil {
		return err
	}
	rest := fs.Args()
	if len(rest) == 0 {
		return badUsage("mount: which directory?")
	}
	dir, err := filepath.Abs(rest[len(rest)-1])
	if err != nil {
		return err
	}
	cfg, err := loadConfig(*path, rest[:len(rest)-1], config.FromEnv)
	if err != nil {
		return err
	}
	if cfg.NineP != nil && cfg.NineP.Optional {
		cfg.NineP = nil // nobody asked for it
	}
	if cfg.FUSE == nil {
		cfg.FUSE = &config.FUSE{}
	}
	cfg.FUSE.Mountpoint = dir
	cfg.FUSE.WritebackCache = cfg.FUSE.WritebackCache || *writeback
	if cfg.FUSE.WritebackCache && cfg.FUSE.DirectIO {
		return badUsage("mount: servers.fuse.direct_io and a writeback cache exclude each other")
	}
	p := newProcess(cfg, stderr)
	p.untilUnmounted = true
	return p.serve(nil)
}
