package config

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// JournalShare is the part of SLATEDB_CACHE_SIZE_GB that the journal gets: an eighth, at least
// LeastJournalSize and at most DefaultJournalSize. The NVMe tier gets the rest.
const JournalShare = 8

// FromEnv is the Config of a volume at url that is described by the environment alone.
//
//	ZEROFS_ENCRYPTION_PASSWORD   the password
//	SLATEDB_CACHE_DIR            local directory of NVMe tier and journal
//	SLATEDB_CACHE_SIZE_GB        both together, in 2^30 bytes; see JournalShare
//	ZEROFS_MEMORY_CACHE_SIZE_GB  memory tier, default 0.25
//	ZEROFS_NBD_HOST              default 127.0.0.1
//	ZEROFS_NBD_PORTS             one device for each, comma-separated
//	ZEROFS_NBD_DEVICE_SIZES_GB   as many sizes
//	ZEROFS_9P_HOST               default 127.0.0.1
//	ZEROFS_9P_PORT               default 5564; if it is not named and taken, 9P is not served
//	ZEROFS_DURABILITY            local (default) or object
//	AWS_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, AWS_ALLOW_HTTP
//
// Its error is a *Problems.
func FromEnv(url string, host Host) (*Config, error) {
	p := &Problems{Source: "environment"}
	c := checker{p: p, host: host}
	get := func(name string) string { v, _ := host.Getenv(name); return v }

	cfg := c.envStore(url, get)
	cfg.Memory = Memory{Size: c.gb("ZEROFS_MEMORY_CACHE_SIZE_GB", get("ZEROFS_MEMORY_CACHE_SIZE_GB"), DefaultMemorySize)}
	cfg.Writeback = Writeback{Interval: DefaultInterval}
	cfg.Fence = c.fence(&file{})
	c.envDirs(cfg, get)
	cfg.Journal.Durability = or(get("ZEROFS_DURABILITY"), "local")
	c.oneOf("ZEROFS_DURABILITY", cfg.Journal.Durability, "local", "object")
	cfg.NBD = c.envNBD(get)
	cfg.NineP = c.env9P(get)
	if err := p.orNil(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// StoreFromEnv is the part of FromEnv that reaches the store: URL, password and AWS variables. It
// is enough for what does not run the volume. Its error is a *Problems.
func StoreFromEnv(url string, host Host) (*Config, error) {
	p := &Problems{Source: "environment"}
	c := checker{p: p, host: host}
	cfg := c.envStore(url, func(name string) string { v, _ := host.Getenv(name); return v })
	if err := p.orNil(); err != nil {
		return nil, err
	}
	return cfg, nil
}

func (c *checker) envStore(url string, get func(string) string) *Config {
	cfg := &Config{
		Volume: Volume{URL: url, Password: Secret(get("ZEROFS_ENCRYPTION_PASSWORD")), StopTimeout: DefaultStopTimeout},
		Object: Object{
			Endpoint: get("AWS_ENDPOINT"), Region: or(get("AWS_DEFAULT_REGION"), DefaultRegion), AllowHTTP: c.flag("AWS_ALLOW_HTTP", get("AWS_ALLOW_HTTP")),
		},
		Log: c.log(&file{}),
	}
	if cfg.Volume.Password == "" {
		c.p.add("ZEROFS_ENCRYPTION_PASSWORD", "missing: every volume is encrypted")
	}
	c.url("volume URL", url)
	// Half a pair of credentials is left to the SDK's own chain with its own variables.
	if id, secret := get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"); id != "" && secret != "" {
		cfg.Object.AccessKeyID, cfg.Object.SecretAccessKey = id, Secret(secret)
	}
	c.envEndpoint(&cfg.Object)
	return cfg
}

func (c *checker) envEndpoint(o *Object) {
	before := len(c.p.List)
	c.object("AWS", o)
	for i := before; i < len(c.p.List); i++ {
		q := &c.p.List[i]
		q.Key = strings.Replace(q.Key, "AWS.endpoint", "AWS_ENDPOINT", 1)
		q.Reason = strings.Replace(q.Reason, "AWS.allow_http", "AWS_ALLOW_HTTP=true", 1)
	}
}

// envDirs splits the cache directory and size between NVMe tier and journal.
func (c *checker) envDirs(cfg *Config, get func(string) string) {
	dir := get("SLATEDB_CACHE_DIR")
	if dir == "" {
		c.p.add("SLATEDB_CACHE_DIR", "missing: want a directory on a local disk")
	} else if abs, err := filepath.Abs(dir); err != nil {
		c.p.add("SLATEDB_CACHE_DIR", "%v", err)
	} else {
		cfg.NVMe.Dir, cfg.Journal.Dir = abs, filepath.Join(abs, "journal")
		cfg.Admin.UnixSocket = filepath.Join(abs, "admin.sock")
	}
	size := get("SLATEDB_CACHE_SIZE_GB")
	if size == "" {
		c.p.add("SLATEDB_CACHE_SIZE_GB", "missing: want a number of GB (2^30 bytes)")
		return
	}
	total := c.gb("SLATEDB_CACHE_SIZE_GB", size, 0)
	cfg.Journal.Size = min(max(total/JournalShare, LeastJournalSize), DefaultJournalSize)
	if cfg.NVMe.Size = total - cfg.Journal.Size; cfg.NVMe.Size < LeastNVMeSize {
		c.p.add("SLATEDB_CACHE_SIZE_GB", "%s is below the least, %s", size, FormatSize(LeastNVMeSize+LeastJournalSize))
	}
}

func (c *checker) envNBD(get func(string) string) *NBD {
	host := or(get("ZEROFS_NBD_HOST"), "127.0.0.1")
	ports, sizes := list(get("ZEROFS_NBD_PORTS")), list(get("ZEROFS_NBD_DEVICE_SIZES_GB"))
	if len(ports) != len(sizes) {
		c.p.add("ZEROFS_NBD_DEVICE_SIZES_GB", "%d sizes for %d ports in ZEROFS_NBD_PORTS: want as many", len(sizes), len(ports))
		return nil
	}
	if len(ports) == 0 {
		return nil
	}
	n := &NBD{Listen: []string{}, Insecure: true} // the host was named, and there is no variable to say more
	seen := map[int]bool{}
	for i, s := range ports {
		port, err := strconv.Atoi(s)
		if err != nil || port < 1 || port > 65535 {
			c.p.add("ZEROFS_NBD_PORTS", "%q is no port", s)
			continue
		}
		if seen[port] {
			c.p.add("ZEROFS_NBD_PORTS", "%d is there twice", port)
		}
		seen[port] = true
		size := c.gb("ZEROFS_NBD_DEVICE_SIZES_GB", sizes[i], 0) &^ 511
		if size == 0 {
			c.p.add("ZEROFS_NBD_DEVICE_SIZES_GB", "%q: want more than 0", sizes[i])
		}
		n.Devices = append(n.Devices, Device{Name: "device_" + s, Size: size, Port: port, Host: host, WriteCache: true})
	}
	if _, _, err := net.SplitHostPort(net.JoinHostPort(host, "1")); err != nil {
		c.p.add("ZEROFS_NBD_HOST", "%v", err)
	}
	return n
}

func (c *checker) env9P(get func(string) string) *NineP {
	host, port := or(get("ZEROFS_9P_HOST"), "127.0.0.1"), get("ZEROFS_9P_PORT")
	n := &NineP{Groups: "client", Insecure: true, Optional: port == ""} // as for NBD
	if port == "" {
		port = Default9PPort
	} else if k, err := strconv.ParseUint(port, 10, 16); err != nil || k == 0 {
		c.p.add("ZEROFS_9P_PORT", "%q is no port", port)
	}
	n.Listen = []string{net.JoinHostPort(host, port)}
	return n
}

func list(s string) []string {
	var out []string
	for _, e := range strings.Split(s, ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	return out
}

func (c *checker) gb(key, s string, def int64) int64 {
	if s == "" {
		return def
	}
	n, err := ParseGB(s)
	if err != nil {
		c.p.add(key, "%v", err)
		return def
	}
	return n
}

func (c *checker) flag(key, s string) bool {
	switch strings.ToLower(s) {
	case "", "0", "false", "no":
		return false
	case "1", "true", "yes":
		return true
	}
	c.p.add(key, "%q: want true or false", s)
	return false
}
