package config

import (
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Defaults of what the file may leave out.
const (
	DefaultStopTimeout = 60 * time.Second
	DefaultMemorySize  = 256 << 20
	DefaultJournalSize = 1 << 30
	DefaultInterval    = 5 * time.Second
	DefaultLease       = 60 * time.Second
	DefaultRegion      = "us-east-1"
	DefaultNBDAddress  = "127.0.0.1:10809"
	Default9PPort      = "5564"
)

// Least sizes in bytes that a volume works with.
const (
	LeastNVMeSize    = 256 << 20
	LeastJournalSize = 64 << 20
)

// checker turns a document into a Config and collects what is wrong with it.
type checker struct {
	p    *Problems
	host Host
	dir  string // that relative paths start from
}

func (c *checker) config(doc *file) *Config {
	cfg := &Config{
		Volume: c.volume(doc),
		Object: Object{
			Endpoint: doc.Tiers.Object.Endpoint, Region: or(doc.Tiers.Object.Region, DefaultRegion),
			AccessKeyID: doc.Tiers.Object.AccessKeyID, SecretAccessKey: Secret(doc.Tiers.Object.SecretAccessKey),
			AllowHTTP: doc.Tiers.Object.AllowHTTP, PathStyle: doc.Tiers.Object.PathStyle,
		},
		Memory:    Memory{Size: c.size("tiers.memory.size", doc.Tiers.Memory.Size, DefaultMemorySize, 0)},
		NVMe:      c.nvme(doc),
		Writeback: Writeback{Interval: c.duration("writeback.interval", doc.Writeback.Interval, DefaultInterval, 100*time.Millisecond)},
		Fence:     c.fence(doc),
		Log:       c.log(doc),
	}
	cfg.Journal = c.journal(doc, cfg.NVMe.Dir)
	c.object("tiers.object", &cfg.Object)
	if doc.Servers.NBD != nil {
		cfg.NBD = c.nbd(doc.Servers.NBD)
	}
	if doc.Servers.NineP != nil {
		cfg.NineP = c.ninep(doc.Servers.NineP)
	}
	if doc.Servers.FUSE != nil {
		cfg.FUSE = c.fuse(doc.Servers.FUSE)
	}
	cfg.Admin = c.admin(doc.Servers.Admin, cfg.NVMe.Dir)
	return cfg
}

func (c *checker) volume(doc *file) Volume {
	v := Volume{
		URL: doc.Volume.URL, Password: c.password(doc), Cipher: doc.Volume.Cipher, Compression: doc.Volume.Compression,
		StopTimeout: c.duration("volume.stop_timeout", doc.Volume.StopTimeout, DefaultStopTimeout, time.Second),
	}
	c.url("volume.url", v.URL)
	v.MaxSize = c.size("volume.max_size", doc.Volume.MaxSize, 0, 1<<20)
	if doc.Volume.ChunkSize != "" {
		v.ChunkSize = c.size("volume.chunk_size", doc.Volume.ChunkSize, 0, 0)
		if v.ChunkSize < 4<<10 || v.ChunkSize > 64<<10 || v.ChunkSize&(v.ChunkSize-1) != 0 {
			c.p.add("volume.chunk_size", "%q: want a power of two from 4KiB to 64KiB", doc.Volume.ChunkSize)
		}
	}
	c.oneOf("volume.cipher", v.Cipher, "", "chacha20poly1305", "aes256gcm")
	c.oneOf("volume.compression", v.Compression, "", "minlz", "none")
	return v
}

// url checks a volume's URL. Package backend knows the schemes in full.
func (c *checker) url(key, s string) {
	if s == "" {
		c.p.add(key, "missing: want s3://bucket/prefix or file:///path")
		return
	}
	u, err := url.Parse(s)
	if err != nil {
		c.p.add(key, "%v", err)
		return
	}
	switch u.Scheme {
	case "s3":
		if u.Host == "" {
			c.p.add(key, "%q names no bucket: want s3://bucket/prefix", s)
		}
	case "file":
		if u.Path == "" && u.Opaque == "" {
			c.p.add(key, "%q names no directory: want file:///path", s)
		}
	case "memory":
	default:
		c.p.add(key, "%q has no known scheme: want s3://, file:// or memory://", s)
	}
}

func (c *checker) object(key string, o *Object) {
	if (o.AccessKeyID == "") != (o.SecretAccessKey == "") {
		c.p.add(key+".access_key_id", "access key id and secret go together: set both or neither")
	}
	if o.Endpoint == "" {
		return
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || u.Host == "":
		c.p.add(key+".endpoint", "%q is no URL: want https://host[:port]", o.Endpoint)
	case u.Scheme == "http" && !o.AllowHTTP:
		c.p.add(key+".endpoint", "%s is not encrypted on the wire: use https, or set %s.allow_http", o.Endpoint, key)
	case u.Scheme != "http" && u.Scheme != "https":
		c.p.add(key+".endpoint", "%q: want http or https", o.Endpoint)
	}
}

func (c *checker) nvme(doc *file) NVMe {
	n := NVMe{Dir: c.path(doc.Tiers.NVMe.Dir)}
	if n.Dir == "" {
		c.p.add("tiers.nvme.dir", "missing: want a directory on a local disk")
	}
	if doc.Tiers.NVMe.Size == "" {
		c.p.add("tiers.nvme.size", "missing: want a size such as 20GiB")
		return n
	}
	n.Size = c.size("tiers.nvme.size", doc.Tiers.NVMe.Size, 0, LeastNVMeSize)
	return n
}

func (c *checker) journal(doc *file, nvmeDir string) Journal {
	j := Journal{
		Dir: c.path(doc.Journal.Dir), Durability: or(doc.Journal.Durability, "local"),
		Size: c.size("journal.size", doc.Journal.Size, DefaultJournalSize, LeastJournalSize),
	}
	if j.Dir == "" && nvmeDir != "" {
		j.Dir = filepath.Join(nvmeDir, "journal")
	}
	c.oneOf("journal.durability", j.Durability, "local", "object")
	return j
}

func (c *checker) fence(doc *file) Fence {
	f := Fence{
		Owner: or(doc.Fence.Owner, c.host.Hostname), Takeover: or(doc.Fence.Takeover, "wait"),
		LeaseLoss: or(doc.Fence.LeaseLoss, "wait"), AfterLoss: or(doc.Fence.AfterLoss, "serve"),
		Lease: c.duration("fence.lease", doc.Fence.Lease, DefaultLease, 2*time.Second),
	}
	if f.Lease > 10*time.Minute {
		c.p.add("fence.lease", "%s is above the most, 10m", f.Lease)
	}
	if len(f.Owner) > 255 {
		c.p.add("fence.owner", "longer than 255 bytes")
	}
	c.oneOf("fence.takeover", f.Takeover, "wait", "never", "force")
	c.oneOf("fence.lease_loss", f.LeaseLoss, "wait", "continue")
	c.oneOf("fence.after_loss", f.AfterLoss, "serve", "refuse")
	return f
}

func (c *checker) log(doc *file) Log {
	l := Log{Format: or(doc.Log.Format, "text")}
	c.oneOf("log.format", l.Format, "text", "json")
	if err := l.Level.UnmarshalText([]byte(or(doc.Log.Level, "info"))); err != nil {
		c.p.add("log.level", "%q: want debug, info, warn or error", doc.Log.Level)
	}
	return l
}

func (c *checker) nbd(s *nbdSection) *NBD {
	n := &NBD{Listen: s.Listen, UnixSocket: c.path(s.UnixSocket), Insecure: s.Insecure, Allow: c.prefixes("servers.nbd.allow", s.Allow)}
	if n.Listen == nil && n.UnixSocket == "" {
		n.Listen = []string{DefaultNBDAddress}
	}
	if s.TLS != nil {
		n.TLS = c.tls("servers.nbd.tls", s.TLS)
	}
	c.listen("servers.nbd.listen", n.Listen, n.TLS != nil && n.TLS.Required && n.TLS.ClientCA != "", n.Allow, n.Insecure)
	names, ports := map[string]bool{}, map[int]bool{}
	for i, d := range s.Device {
		key := "servers.nbd.device[" + strconv.Itoa(i) + "]"
		n.Devices = append(n.Devices, c.device(key, d, names, ports))
	}
	for _, a := range n.Listen {
		if _, port, err := net.SplitHostPort(a); err == nil {
			if q, _ := strconv.Atoi(port); q != 0 && ports[q] {
				c.p.add("servers.nbd.listen", "port %d is a device's own", q)
			}
		}
	}
	return n
}

func (c *checker) ninep(s *ninepSection) *NineP {
	n := &NineP{
		Listen: s.Listen, UnixSocket: c.path(s.UnixSocket), Insecure: s.Insecure, Allow: c.prefixes("servers.ninep.allow", s.Allow),
		Groups: or(s.Groups, "client"),
	}
	if n.Listen == nil && n.UnixSocket == "" {
		n.Listen = []string{net.JoinHostPort("127.0.0.1", Default9PPort)}
	}
	if s.TLS != nil {
		n.TLS = c.tls("servers.ninep.tls", s.TLS)
	}
	c.oneOf("servers.ninep.groups", n.Groups, "client", "system")
	c.listen("servers.ninep.listen", n.Listen, n.TLS != nil && n.TLS.Required && n.TLS.ClientCA != "", n.Allow, n.Insecure)
	return n
}

func (c *checker) device(key string, d deviceSection, names map[string]bool, ports map[int]bool) Device {
	dev := Device{Name: d.Name, Port: d.Port, WriteCache: d.WriteCache == nil || *d.WriteCache}
	switch {
	case d.Name == "":
		c.p.add(key+".name", "missing")
	case len(d.Name) > 255 || d.Name == "." || d.Name == ".." || strings.ContainsAny(d.Name, "/\x00"):
		c.p.add(key+".name", "%q: want a file name of at most 255 bytes", d.Name)
	case names[d.Name]:
		c.p.add(key+".name", "%q is there twice", d.Name)
	}
	names[d.Name] = true
	if d.Size == "" {
		c.p.add(key+".size", "missing")
	} else if dev.Size = c.size(key+".size", d.Size, 0, 0); dev.Size <= 0 || dev.Size%512 != 0 {
		c.p.add(key+".size", "%q: want a multiple of 512 bytes above 0", d.Size)
	}
	switch {
	case d.Port < 0 || d.Port > 65535:
		c.p.add(key+".port", "%d is no port", d.Port)
	case d.Port != 0 && ports[d.Port]:
		c.p.add(key+".port", "%d is there twice", d.Port)
	}
	if d.Port != 0 {
		ports[d.Port] = true
	}
	return dev
}

func (c *checker) tls(key string, s *tlsSection) *TLS {
	t := &TLS{Cert: c.path(s.Cert), Key: c.path(s.Key), ClientCA: c.path(s.ClientCA), Required: s.Required}
	for _, f := range []struct{ name, path string }{{"cert", t.Cert}, {"key", t.Key}, {"client_ca", t.ClientCA}} {
		if f.path == "" {
			if f.name != "client_ca" {
				c.p.add(key+"."+f.name, "missing")
			}
			continue
		}
		if _, err := c.host.Stat(f.path); err != nil {
			c.p.add(key+"."+f.name, "%v", err)
		}
	}
	return t
}

func (c *checker) fuse(s *fuseSection) *FUSE {
	f := &FUSE{Mountpoint: c.path(s.Mountpoint), AllowOther: s.AllowOther, WritebackCache: s.WritebackCache, DirectIO: s.DirectIO}
	if f.Mountpoint == "" {
		c.p.add("servers.fuse.mountpoint", "missing: want a directory")
	}
	if f.WritebackCache && f.DirectIO {
		c.p.add("servers.fuse.direct_io", "set together with servers.fuse.writeback_cache: want one of them")
	}
	for _, o := range s.Options {
		switch o {
		case "ro":
			f.ReadOnly = true
		case "nosuid":
			f.NoSUID = true
		case "nodev":
			f.NoDev = true
		case "noexec":
			f.NoExec = true
		default:
			c.p.add("servers.fuse.options", "%q: want ro, nosuid, nodev or noexec", o)
		}
	}
	return f
}

func (c *checker) admin(s *adminSection, nvmeDir string) Admin {
	var a Admin
	if s != nil {
		a = Admin{UnixSocket: c.path(s.UnixSocket), Listen: s.Listen, Insecure: s.Insecure, Allow: c.prefixes("servers.admin.allow", s.Allow)}
	}
	if a.UnixSocket == "" && nvmeDir != "" {
		a.UnixSocket = filepath.Join(nvmeDir, "admin.sock")
	}
	if len(a.UnixSocket) > 107 {
		c.p.add("servers.admin.unix_socket", "%q is longer than a socket's path may be, 107 bytes", a.UnixSocket)
	}
	c.listen("servers.admin.listen", a.Listen, false, a.Allow, a.Insecure)
	return a
}

// listen checks addresses; one off loopback needs proof of who calls, or a word that it does not.
func (c *checker) listen(key string, addrs []string, clientCerts bool, allow []netip.Prefix, insecure bool) {
	for _, a := range addrs {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			c.p.add(key, "%q: want host:port or [IPv6]:port", a)
			continue
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || (n == 0 && port != "0") {
			c.p.add(key, "%q: %q is no port", a, port)
			continue
		}
		if loopback(host) || clientCerts || len(allow) > 0 || insecure {
			continue
		}
		c.p.add(key, "%q can be reached from other hosts: require client certificates (tls.client_ca with tls.required), list allowed networks (allow), or set insecure = true", a)
	}
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (c *checker) prefixes(key string, list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if ip, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()))
			continue
		}
		n, err := netip.ParsePrefix(s)
		if err != nil {
			c.p.add(key, "%q is no network: want 10.0.0.0/8 or an address", s)
			continue
		}
		out = append(out, n.Masked())
	}
	return out
}

func (c *checker) size(key, s string, def, least int64) int64 {
	if s == "" {
		return def
	}
	n, err := ParseSize(s)
	if err != nil {
		c.p.add(key, "%v", err)
		return def
	}
	if n < least {
		c.p.add(key, "%s is below the least, %s", s, FormatSize(least))
	}
	return n
}

func (c *checker) duration(key, s string, def, least time.Duration) time.Duration {
	if s == "" {
		return def
	}
	d, err := parseDuration(s, least)
	if err != nil {
		c.p.add(key, "%v", err)
		return def
	}
	return d
}

func (c *checker) oneOf(key, s string, allowed ...string) {
	if !slices.Contains(allowed, s) {
		want := slices.DeleteFunc(slices.Clone(allowed), func(a string) bool { return a == "" })
		c.p.add(key, "%q: want %s", s, strings.Join(want, " or "))
	}
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

var _ slog.LogValuer = Secret("")
