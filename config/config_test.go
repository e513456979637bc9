package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// host is a machine with the given variables and this test's own files.
func host(env map[string]string) Host {
	return Host{
		Getenv:   func(n string) (string, bool) { v, ok := env[n]; return v, ok },
		ReadFile: os.ReadFile, Stat: os.Stat, Hostname: "box",
	}
}

const least = `
[volume]
url = "s3://bucket/prefix"
password = "secret"
[tiers.nvme]
dir = "/var/lib/zerofs"
size = "20GiB"
`

func TestDefaults(t *testing.T) {
	cfg, err := Parse([]byte(least), "/etc/zerofs/tiers.toml", host(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Volume:    Volume{URL: "s3://bucket/prefix", Password: "secret", StopTimeout: time.Minute},
		Object:    Object{Region: "us-east-1"},
		Memory:    Memory{Size: 256 << 20},
		NVMe:      NVMe{Dir: "/var/lib/zerofs", Size: 20 << 30},
		Journal:   Journal{Dir: "/var/lib/zerofs/journal", Size: 1 << 30, Durability: "local"},
		Writeback: Writeback{Interval: 5 * time.Second},
		Fence:     Fence{Owner: "box", Lease: time.Minute, Takeover: "wait", LeaseLoss: "wait", AfterLoss: "serve"},
		Admin:     Admin{UnixSocket: "/var/lib/zerofs/admin.sock"},
		Log:       Log{Level: slog.LevelInfo, Format: "text"},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Fatalf("got  %#v\nwant %#v", cfg, want)
	}
}

func TestEveryKey(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"c.pem", "k.pem", "ca.pem"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := `
[volume]
url = "file:///srv/v"
password = "p${A}q"
stop_timeout = "90s"
chunk_size = "8KiB"
max_size = "2TiB"
cipher = "aes256gcm"
compression = "none"
[tiers.object]
endpoint = "http://127.0.0.1:9000"
region = "eu-1"
access_key_id = "id"
secret_access_key = "${SECRET}"
allow_http = true
path_style = false
[tiers.memory]
size = "1GiB"
[tiers.nvme]
dir = "nvme"
size = "1.5GiB"
[journal]
dir = "../journal"
size = "128MiB"
durability = "object"
[writeback]
interval = "250ms"
[fence]
owner = "me"
lease = "10s"
takeover = "never"
lease_loss = "continue"
after_loss = "refuse"
[servers.nbd]
listen = ["[::]:10809", "127.0.0.1:10810"]
unix_socket = "nbd.sock"
tls = { cert = "c.pem", key = "k.pem", client_ca = "ca.pem", required = true }
allow = ["10.0.0.0/8", "::1"]
[[servers.nbd.device]]
name = "a"
size = "1GiB"
port = 10811
[[servers.nbd.device]]
name = "b"
size = "512B"
write_cache = false
[servers.ninep]
listen = ["10.0.0.1:564"]
unix_socket = "9p.sock"
tls = { cert = "c.pem", key = "k.pem" }
allow = ["10.0.0.0/8"]
groups = "system"
[servers.fuse]
mountpoint = "mnt"
allow_other = false
writeback_cache = true
options = ["ro", "nosuid", "nodev", "noexec"]
[servers.admin]
unix_socket = "/run/z.sock"
listen = ["127.0.0.1:9090"]
[log]
level = "debug"
format = "json"
`
	cfg, err := Parse([]byte(text), filepath.Join(dir, "tiers.toml"), host(map[string]string{"A": `"${X}`, "SECRET": "s"}))
	if err != nil {
		t.Fatal(err)
	}
	no := false
	in := func(n string) string { return filepath.Join(dir, n) }
	want := &Config{
		Volume: Volume{URL: "file:///srv/v", Password: `p"${X}q`, StopTimeout: 90 * time.Second, ChunkSize: 8192, MaxSize: 2 << 40, Cipher: "aes256gcm", Compression: "none"},
		Object: Object{Endpoint: "http://127.0.0.1:9000", Region: "eu-1", AccessKeyID: "id", SecretAccessKey: "s", AllowHTTP: true, PathStyle: &no},
		Memory: Memory{Size: 1 << 30}, NVMe: NVMe{Dir: in("nvme"), Size: 3 << 29},
		Journal:   Journal{Dir: filepath.Join(filepath.Dir(dir), "journal"), Size: 128 << 20, Durability: "object"},
		Writeback: Writeback{Interval: 250 * time.Millisecond},
		Fence:     Fence{Owner: "me", Lease: 10 * time.Second, Takeover: "never", LeaseLoss: "continue", AfterLoss: "refuse"},
		NBD: &NBD{
			Listen: []string{"[::]:10809", "127.0.0.1:10810"}, UnixSocket: in("nbd.sock"),
			TLS:   &TLS{Cert: in("c.pem"), Key: in("k.pem"), ClientCA: in("ca.pem"), Required: true},
			Allow: cfg.NBD.Allow,
			Devices: []Device{
				{Name: "a", Size: 1 << 30, Port: 10811, WriteCache: true}, {Name: "b", Size: 512},
			},
		},
		NineP: &NineP{
			Listen: []string{"10.0.0.1:564"}, UnixSocket: in("9p.sock"), TLS: &TLS{Cert: in("c.pem"), Key: in("k.pem")},
			Allow: cfg.NineP.Allow, Groups: "system",
		},
		FUSE:  &FUSE{Mountpoint: in("mnt"), AllowOther: &no, WritebackCache: true, ReadOnly: true, NoSUID: true, NoDev: true, NoExec: true},
		Admin: Admin{UnixSocket: "/run/z.sock", Listen: []string{"127.0.0.1:9090"}},
		Log:   Log{Level: slog.LevelDebug, Format: "json"},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Fatalf("got  %#v\nwant %#v", cfg, want)
	}
	if got := fmt.Sprint(cfg.NBD.Allow); got != "[10.0.0.0/8 ::1/128]" {
		t.Errorf("allow = %s", got)
	}
	if got := fmt.Sprint(cfg.NineP.Allow); got != "[10.0.0.0/8]" {
		t.Errorf("9P: allow = %s", got)
	}
}

// TestNineP has what is particular to 9P: its defaults, in a file and in the environment.
func TestNineP(t *testing.T) {
	base := "[volume]\nurl = \"file:///v\"\npassword = \"p\"\n[tiers.nvme]\ndir = \"/d\"\nsize = \"1GiB\"\n"
	for text, want := range map[string]*NineP{
		"":                  nil,
		"[servers.ninep]\n": {Listen: []string{"127.0.0.1:5564"}, Groups: "client"},
		"[servers.ninep]\nunix_socket = \"/s\"\n":      {UnixSocket: "/s", Groups: "client"},
		"[servers.ninep]\nlisten = [\"[::1]:1\"]\n":    {Listen: []string{"[::1]:1"}, Groups: "client"},
		"[servers.ninep]\ngroups = \"everybody\"\n":    nil,
		"[servers.ninep]\nlisten = [\"10.0.0.1:1\"]\n": nil,
	} {
		cfg, err := Parse([]byte(base+text), "/tiers.toml", host(nil))
		if wrong := want == nil && text != ""; wrong != (err != nil) {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil && !reflect.DeepEqual(cfg.NineP, want) {
			t.Errorf("%q: %+v", text, cfg.NineP)
		}
	}
	env := map[string]string{"ZEROFS_ENCRYPTION_PASSWORD": "pw", "SLATEDB_CACHE_DIR": "/cache", "SLATEDB_CACHE_SIZE_GB": "1"}
	for _, tc := range []struct {
		host, port, want string
		optional         bool
	}{
		{"", "", "127.0.0.1:5564", true},
		{"0.0.0.0", "", "0.0.0.0:5564", true},
		{"", "5564", "127.0.0.1:5564", false},
		{"::1", "99", "[::1]:99", false},
		{"", "0", "", false},
		{"", "x", "", false},
	} {
		env["ZEROFS_9P_HOST"], env["ZEROFS_9P_PORT"] = tc.host, tc.port
		cfg, err := FromEnv("file:///v", host(env))
		if (err == nil) != (tc.want != "") {
			t.Errorf("%+v: %v", tc, err)
		}
		if err == nil && (cfg.NineP.Listen[0] != tc.want || cfg.NineP.Optional != tc.optional) {
			t.Errorf("%+v: %+v", tc, cfg.NineP)
		}
	}
}

func TestProblemsAllAtOnce(t *testing.T) {
	text := `
[volume]
url = "ftp://x"
chunk_size = "5KiB"
cipher = "rot13"
typo = 1
[tiers.object]
endpoint = "http://far:9000"
access_key_id = "id"
[tiers.memory]
size = "lots"
[tiers.nvme]
size = "1MiB"
[journal]
durability = "never"
[fence]
lease = "1ms"
owner = "${NOBODY}"
[servers.nbd]
listen = ["0.0.0.0:10809", "nonsense", "127.0.0.1:99999"]
[[servers.nbd.device]]
name = "a/b"
size = "100B"
[[servers.nbd.device]]
name = "x"
size = "1GiB"
port = 10809
[[servers.nbd.device]]
name = "x"
[servers.fuse]
writeback_cache = true
direct_io = true
options = ["suid"]
[nonsense]
a = 1
`
	_, err := Parse([]byte(text), "t.toml", host(nil))
	var p *Problems
	if !errors.As(err, &p) {
		t.Fatalf("error %v", err)
	}
	var got []string
	for _, q := range p.List {
		got = append(got, fmt.Sprintf("%d %s", q.Line, q.Key))
	}
	want := []string{
		"6 volume.typo", "34 nonsense",
		"0 fence.owner", "0 volume.password_file", "0 volume.url", "0 volume.chunk_size", "0 volume.cipher",
		"0 tiers.memory.size", "0 tiers.nvme.dir", "0 tiers.nvme.size", "0 fence.lease", "0 journal.durability",
		"0 tiers.object.access_key_id", "0 tiers.object.endpoint",
		"0 servers.nbd.listen", "0 servers.nbd.listen", "0 servers.nbd.listen",
		"0 servers.nbd.device[0].name", "0 servers.nbd.device[0].size", "0 servers.nbd.device[2].name", "0 servers.nbd.device[2].size",
		"0 servers.nbd.listen",
		"0 servers.fuse.mountpoint", "0 servers.fuse.direct_io", "0 servers.fuse.options",
	}
	for _, w := range want {
		if !contains(got, w) {
			t.Errorf("missing %q in %q", w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d problems, want %d:\n%v", len(got), len(want), err)
	}
	if !strings.Contains(err.Error(), "line 6: volume.typo: unknown key") {
		t.Errorf("no line: %v", err)
	}
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

func TestWrongTypeNamesLineAndKey(t *testing.T) {
	_, err := Parse([]byte("[tiers.memory]\nsize = 5\n"), "t.toml", host(nil))
	if err == nil || !strings.Contains(err.Error(), "line 2: tiers.memory.size") {
		t.Fatalf("error %v", err)
	}
	_, err = Parse([]byte("[volume\n"), "t.toml", host(nil))
	if err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Fatalf("error %v", err)
	}
}

func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pw")
	text := strings.Replace(least, `password = "secret"`, `password_file = "pw"`, 1)
	for _, c := range []struct {
		body string
		mode fs.FileMode
		want string
	}{
		{"word\n", 0o600, ""},
		{"word\n", 0o640, ""},
		{"word\n", 0o604, "can be read by everybody"},
		{"\n", 0o600, "is empty"},
	} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(c.body), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		cfg, err := Parse([]byte(text), filepath.Join(dir, "t.toml"), host(nil))
		switch {
		case c.want == "" && (err != nil || cfg.Volume.Password.Reveal() != "word"):
			t.Errorf("%o %q: %v", c.mode, c.body, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%o %q: error %v, want %s", c.mode, c.body, err, c.want)
		}
	}
}

func TestSecretsStayHidden(t *testing.T) {
	cfg, err := Parse([]byte(strings.Replace(least, "[tiers.nvme]", "[tiers.object]\naccess_key_id=\"id\"\nsecret_access_key=\"secret\"\n[tiers.nvme]", 1)), "t.toml", host(nil))
	if err != nil {
		t.Fatal(err)
	}
	js, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "cfg", cfg.Volume, "pw", cfg.Volume.Password)
	for _, out := range []string{string(js), fmt.Sprintf("%v %+v %#v %s", cfg, cfg, cfg.Volume, cfg.Object.SecretAccessKey), log.String()} {
		if strings.Contains(out, "secret\"") || strings.Contains(out, " secret") || strings.Contains(out, ":secret") || strings.Contains(out, "=secret") {
			t.Errorf("secret shows in %s", out)
		}
		if !strings.Contains(out, Hidden) {
			t.Errorf("no %s in %s", Hidden, out)
		}
	}
}

func TestFromEnv(t *testing.T) {
	env := map[string]string{
		"ZEROFS_ENCRYPTION_PASSWORD": "pw", "SLATEDB_CACHE_DIR": "/cache", "SLATEDB_CACHE_SIZE_GB": "10.5",
		"ZEROFS_NBD_PORTS": "10809, 10810", "ZEROFS_NBD_DEVICE_SIZES_GB": "1,0.5", "AWS_ALLOW_HTTP": "true",
		"AWS_ENDPOINT": "http://127.0.0.1:9000", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key",
	}
	cfg, err := FromEnv("s3://b/p", host(env))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Journal.Size != 1<<30 || cfg.NVMe.Size != 19<<29 || cfg.NVMe.Dir != "/cache" || cfg.Journal.Dir != "/cache/journal" {
		t.Errorf("split: %+v %+v", cfg.NVMe, cfg.Journal)
	}
	if cfg.Memory.Size != 256<<20 || cfg.Journal.Durability != "local" || cfg.Object.Region != "us-east-1" || cfg.Object.SecretAccessKey != "key" {
		t.Errorf("defaults: %+v", cfg)
	}
	want := []Device{
		{Name: "device_10809", Size: 1 << 30, Port: 10809, Host: "127.0.0.1", WriteCache: true},
		{Name: "device_10810", Size: 1 << 29, Port: 10810, Host: "127.0.0.1", WriteCache: true},
	}
	if !reflect.DeepEqual(cfg.NBD.Devices, want) || len(cfg.NBD.Listen) != 0 {
		t.Errorf("devices: %+v", cfg.NBD)
	}

	_, err = FromEnv("s3://", host(map[string]string{
		"ZEROFS_NBD_PORTS": "1,1,x", "ZEROFS_NBD_DEVICE_SIZES_GB": "1,2,3", "AWS_ENDPOINT": "http://h", "AWS_ALLOW_HTTP": "perhaps",
		"ZEROFS_MEMORY_CACHE_SIZE_GB": "-1", "ZEROFS_DURABILITY": "x", "SLATEDB_CACHE_SIZE_GB": "0.1",
	}))
	for _, key := range []string{"ZEROFS_ENCRYPTION_PASSWORD: missing", "volume URL: ", "SLATEDB_CACHE_DIR: missing", "SLATEDB_CACHE_SIZE_GB: ",
		"ZEROFS_MEMORY_CACHE_SIZE_GB: ", "ZEROFS_DURABILITY: ", "1 is there twice", `"x" is no port`, "AWS_ENDPOINT: ", "AWS_ALLOW_HTTP=true", "AWS_ALLOW_HTTP: "} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("no %q in %v", key, err)
		}
	}
}

func TestTemplateLoads(t *testing.T) {
	dir := t.TempDir()
	pw := filepath.Join(dir, `pass"word`)
	if err := os.WriteFile(pw, []byte("w\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := Template("file:///srv/a\"b${X}", dir, pw)
	cfg, err := Parse([]byte(text), filepath.Join(dir, "tiers.toml"), host(nil))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Volume.URL != "file:///srv/a\"b${X}" || cfg.NVMe.Dir != dir || cfg.Volume.Password.Reveal() != "w" || len(cfg.NBD.Devices) != 1 {
		t.Errorf("%+v", cfg)
	}
	// Every commented setting is a known key with a value that loads.
	var uncommented []string
	for _, line := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "# "); ok && strings.Contains(rest, " = ") && !strings.Contains(rest, "tls =") && strings.ContainsAny(rest[:1], "abcdefghijklmnopqrstuvwxyz") {
			line = rest
		}
		if rest, ok := strings.CutPrefix(line, "# ["); ok {
			line = "[" + rest
		}
		uncommented = append(uncommented, line)
	}
	env := host(map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
	if _, err := Parse([]byte(strings.Join(uncommented, "\n")), filepath.Join(dir, "tiers.toml"), env); err != nil {
		t.Error(err)
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int64
	}{{"0", 0}, {"4096", 4096}, {"4KiB", 4096}, {"1.5 GiB", 3 << 29}, {"1GB", 1e9}, {"2kB", 2000}, {"7B", 7}} {
		if got, err := ParseSize(c.in); err != nil || got != c.want {
			t.Errorf("%q: %d, %v", c.in, got, err)
		}
	}
	for _, bad := range []string{"", "x", "-1", "1XiB", "9e30", "NaN", "Inf", "1e400"} {
		if n, err := ParseSize(bad); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	f.Add([]byte(Template("file:///x", "/d", "/p")))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := Parse(text, "/etc/t.toml", Host{
			Getenv:   func(string) (string, bool) { return "v", true },
			ReadFile: func(string) ([]byte, error) { return nil, fs.ErrNotExist },
			Stat:     func(string) (fs.FileInfo, error) { return nil, fs.ErrNotExist },
		})
		if (cfg == nil) == (err == nil) {
			t.Fatalf("config %v and error %v", cfg, err)
		}
	})
}
