package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zerofs/test/versitygw"
)

// place is where a volume lives, and how its store is reached.
type place struct {
	url      string
	endpoint string // empty: no S3
	key      string
	secret   string
}

// fileStore is an empty store in a directory.
func fileStore(t *testing.T) (place, string) {
	dir := filepath.Join(tempDir(t), "store")
	return place{url: "file://" + dir}, dir
}

// s3Store is an empty prefix of an S3 server, reached at endpoint or, if that is empty, directly.
func s3Store(srv *versitygw.Server, endpoint, prefix string) place {
	if endpoint == "" {
		endpoint = srv.Endpoint
	}
	return place{url: "s3://" + srv.Bucket + "/" + prefix, endpoint: endpoint, key: srv.AccessKeyID, secret: srv.SecretAccessKey}
}

// settings are what tests vary of a host's configuration; empty fields are left to their defaults.
type settings struct {
	password   string // default: one that all hosts share
	durability string
	interval   string
	lease      string
	takeover   string
	leaseLoss  string
	afterLoss  string
	stop       string
	nvmeDir    string // default: below the host's directory
	journalDir string
	device     string // size, default 256MiB
	extra      string // lines at the end of the file
}

// host is a machine: local directories and a configuration for a volume.
type host struct {
	t      *testing.T
	dir    string
	nvme   string
	config string
	nbd    string // the NBD server's Unix socket
	admin  string
}

// newHost makes an empty machine that can open the volume at p.
func newHost(t *testing.T, p place, s settings) *host {
	t.Helper()
	dir := tempDir(t)
	h := &host{
		t: t, dir: dir, nvme: filepath.Join(dir, "data"), config: filepath.Join(dir, "tiers.toml"),
		nbd: filepath.Join(dir, "nbd.sock"), admin: filepath.Join(dir, "admin.sock"),
	}
	if s.nvmeDir != "" {
		h.nvme = s.nvmeDir
	}
	h.configure(p, s)
	return h
}

// configure writes the configuration anew.
func (h *host) configure(p place, s settings) {
	h.t.Helper()
	if s.password == "" {
		s.password = "the password of all tests"
	}
	if s.device == "" {
		s.device = "256MiB"
	}
	var b strings.Builder
	section := func(name string, pairs ...string) {
		fmt.Fprintf(&b, "[%s]\n", name)
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] != "" {
				fmt.Fprintf(&b, "%s = %q\n", pairs[i], pairs[i+1])
			}
		}
	}
	section("volume", "url", p.url, "password", s.password, "stop_timeout", s.stop)
	section("tiers.object", "endpoint", p.endpoint, "access_key_id", p.key, "secret_access_key", p.secret)
	if p.endpoint != "" {
		fmt.Fprintln(&b, "allow_http = true")
	}
	section("tiers.memory", "size", "64MiB")
	section("tiers.nvme", "dir", h.nvme, "size", "1GiB")
	section("journal", "dir", s.journalDir, "size", "128MiB", "durability", s.durability)
	section("writeback", "interval", s.interval)
	section("fence", "owner", filepath.Base(h.dir), "lease", s.lease, "takeover", s.takeover, "lease_loss", s.leaseLoss, "after_loss", s.afterLoss)
	section("servers.nbd", "unix_socket", h.nbd)
	section("servers.admin", "unix_socket", h.admin)
	section("[servers.nbd.device]", "name", "disk", "size", s.device)
	b.WriteString(s.extra)
	if err := os.WriteFile(h.config, []byte(b.String()), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// uri is the device for clients.
func (h *host) uri() string { return "nbd+unix:///disk?socket=" + h.nbd }
