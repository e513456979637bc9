package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"zerofs/config"
)

const runHelp = `-config FILE
   or: zerofs URL

Runs a volume until SIGTERM or SIGINT, which stop it cleanly: everything is uploaded and the volume
released. A second signal stops at once.

With a URL (s3://bucket/prefix, file:///path) the environment describes the volume:
  ZEROFS_ENCRYPTION_PASSWORD   its password (with ZEROFS_NEW_PASSWORD: change it to that and exit)
  SLATEDB_CACHE_DIR            local directory of NVMe tier and journal
  SLATEDB_CACHE_SIZE_GB        both together (GB = 2^30 bytes; an eighth, from 64 MiB to 1 GiB, is journal)
  ZEROFS_MEMORY_CACHE_SIZE_GB  memory tier, default 0.25
  ZEROFS_NBD_HOST              default 127.0.0.1
  ZEROFS_NBD_PORTS             comma-separated; each serves device_<port>
  ZEROFS_NBD_DEVICE_SIZES_GB   as many sizes
  ZEROFS_9P_HOST               default 127.0.0.1
  ZEROFS_9P_PORT               the file system, default 5564
  ZEROFS_DURABILITY            local (default) or object: what a flush waits for
  AWS_ENDPOINT AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION AWS_ALLOW_HTTP`

// cmdRun is "zerofs -config FILE" and "zerofs URL".
func cmdRun(args []string, stderr io.Writer) error {
	fs := newFlags("zerofs", runHelp, stderr)
	path := fs.String("config", "", "the configuration `file`")
	if err := parse(fs, args); err != nil {
		return err
	}
	if next, ok := os.LookupEnv("ZEROFS_NEW_PASSWORD"); ok && *path == "" {
		cfg, err := loadConfig("", fs.Args(), config.StoreFromEnv)
		if err != nil {
			return err
		}
		return changePassword(cfg, next, stderr)
	}
	cfg, err := loadConfig(*path, fs.Args(), config.FromEnv)
	if err != nil {
		return err
	}
	return serve(cfg, stderr, nil)
}

// loadConfig reads the configuration from a file or, for one URL, from the environment.
func loadConfig(path string, args []string, fromEnv func(string, config.Host) (*config.Config, error)) (*config.Config, error) {
	switch {
	case path != "" && len(args) > 0:
		return nil, badUsage("unexpected %q beside -config", args[0])
	case path != "":
		return config.Load(path, config.RealHost())
	case len(args) == 1 && strings.Contains(args[0], "://"):
		return fromEnv(args[0], config.RealHost())
	case len(args) == 1:
		return nil, badUsage("%q is neither a command nor a volume's URL", args[0])
	case len(args) > 1:
		return nil, badUsage("unexpected %q", args[1])
	}
	return nil, badUsage("which volume? want -config FILE or a URL")
}

// cmdRunDefault is "zerofs run": a volume on this machine alone.
func cmdRunDefault(args []string, stdout, stderr io.Writer) error {
	fs := newFlags("run", `run [-dir DIR]

Runs a volume whose store is a directory of this machine, with one block device of 10 GiB. The first
run makes its configuration and password below DIR; edit DIR/tiers.toml to change it.`, stderr)
	dir := fs.String("dir", "", "where everything is kept (default: zerofs below $XDG_STATE_HOME or ~/.local/state)")
	if err := parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return badUsage("run: unexpected %q", fs.Arg(0))
	}
	path, err := defaultConfig(*dir)
	if err != nil {
		return err
	}
	cfg, err := config.Load(path, config.RealHost())
	if err != nil {
		return err
	}
	return serve(cfg, stderr, func() { fmt.Fprint(stdout, whatNext(cfg, path)) })
}

// defaultConfig returns the configuration below dir, which is made at the first run.
func defaultConfig(dir string) (string, error) {
	path := filepath.Join(dir, "tiers.toml")
	if dir == "" {
		var err error
		if path, err = defaultConfigPath(); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return writeConfig(filepath.Dir(path), "")
}

// defaultConfigPath is where "zerofs run" keeps its configuration unless told otherwise.
func defaultConfigPath() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "zerofs", "tiers.toml"), nil
}

// whatNext tells what can be done with a running default volume.
func whatNext(cfg *config.Config, path string) string {
	addr, name := config.DefaultNBDAddress, ""
	if cfg.NBD != nil && len(cfg.NBD.Devices) > 0 {
		name = cfg.NBD.Devices[0].Name
		if len(cfg.NBD.Listen) > 0 {
			addr = cfg.NBD.Listen[0]
		}
	}
	host, port, _ := strings.Cut(addr, ":")
	return fmt.Sprintf(`
ZeroFS serves the block device %[1]q at nbd://%[2]s/%[1]s

  as root, with nbd-client (Debian: apt-get install nbd-client):
    modprobe nbd && nbd-client -N %[1]s %[3]s %[4]s /dev/nbd0
    mkfs.ext4 /dev/nbd0 && mount -o discard /dev/nbd0 /mnt

  without a kernel client (Debian: apt-get install libnbd-bin fuse3):
    mkdir dev && nbdfuse dev nbd://%[2]s/%[1]s &      # the device is the file dev/nbd
    mkfs.ext4 dev/nbd && mount -o loop dev/nbd /mnt

  settings: %[5]s
  state:    zerofs status -config %[5]s
  stop:     Ctrl-C

`, name, addr, host, port, path)
}
