// Package config is everything that a volume can be told, as one value: read from a TOML file or
// from the environment alone, checked as a whole.
//
// Load and FromEnv return either a Config whose every field is set and checked, or Problems,
// which names all that is wrong at once, each with its key and reason. Nothing below this
// package reads a flag, a file or the environment for its settings.
//
// Secrets are of type Secret, which prints, logs and marshals as "(hidden)".
package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// Config is one volume's settings, complete and checked.
type Config struct {
	Volume    Volume
	Object    Object
	Memory    Memory
	NVMe      NVMe
	Journal   Journal
	Writeback Writeback
	Fence     Fence
	NBD       *NBD   // nil: not served
	NineP     *NineP // nil: not served
	FUSE      *FUSE  // nil: not mounted
	Admin     Admin
	Log       Log
}

// Volume names the volume and what it is made with.
type Volume struct {
	URL         string // s3://bucket/prefix, file:///path or memory://name
	Password    Secret
	StopTimeout time.Duration
	ChunkSize   int64  // bytes, a power of two from 4 KiB to 64 KiB; zero: the volume's own
	MaxSize     int64  // bytes of data that it may hold; zero: no bound
	Cipher      string // chacha20poly1305, aes256gcm or empty: the volume's own
	Compression string // minlz, none or empty: the volume's own
}

// Object tells how the store is reached.
type Object struct {
	Endpoint        string
	Region          string
	AccessKeyID     string
	SecretAccessKey Secret
	AllowHTTP       bool
	PathStyle       *bool // nil: with an endpoint of one's own
}

// Memory is the memory tier.
type Memory struct{ Size int64 } // bytes

// NVMe is the NVMe tier.
type NVMe struct {
	Dir  string
	Size int64 // bytes
}

// Journal is the write-back journal.
type Journal struct {
	Dir        string
	Size       int64  // bytes
	Durability string // local or object
}

// Writeback is the write-back loop.
type Writeback struct{ Interval time.Duration }

// Fence is who owns the volume and for how long.
type Fence struct {
	Owner     string
	Lease     time.Duration
	Takeover  string // wait, never or force
	LeaseLoss string // wait or continue
	AfterLoss string // serve or refuse
}

// TLS names the files of a listener's TLS.
type TLS struct {
	Cert, Key, ClientCA string
	Required            bool
}

// NBD is the NBD server.
type NBD struct {
	Listen     []string
	UnixSocket string
	TLS        *TLS
	Allow      []netip.Prefix
	Insecure   bool
	Devices    []Device
}

// Device is one block device.
type Device struct {
	Name       string
	Size       int64 // bytes
	Port       int   // zero: none of its own
	Host       string
	WriteCache bool
}

// NineP is the 9P server.
type NineP struct {
	Listen     []string
	UnixSocket string
	TLS        *TLS
	Allow      []netip.Prefix
	Insecure   bool
	Groups     string // client or system: who knows which groups a user is in
	Optional   bool   // nobody asked for the address: that it is taken is no error
}

// FUSE is a mount of the volume on this machine.
type FUSE struct {
	Mountpoint     string
	AllowOther     *bool // nil: for root
	WritebackCache bool
	DirectIO       bool
	ReadOnly       bool
	NoSUID         bool
	NoDev          bool
	NoExec         bool
}

// Admin is the admin socket.
type Admin struct {
	UnixSocket string
	Listen     []string
	Allow      []netip.Prefix
	Insecure   bool
}

// Log says what is logged and how.
type Log struct {
	Level  slog.Level
	Format string // text or json
}

// Secret is a string that does not print itself.
type Secret string

// Hidden is what a Secret prints.
const Hidden = "(hidden)"

// String returns Hidden, or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Hidden
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText is String, for JSON and TOML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// Problem is one thing wrong with the settings.
type Problem struct {
	Line   int    // in the file; zero where it is not known
	Key    string // as the file or the environment writes it
	Reason string
}

// Problems is the error of settings that cannot be used.
type Problems struct {
	Source string // the file, or "environment"
	List   []Problem
}

// Error lists every problem on a line of its own.
func (p *Problems) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d problem", p.Source, len(p.List))
	if len(p.List) != 1 {
		b.WriteByte('s')
	}
	for _, q := range p.List {
		b.WriteString("\n  ")
		if q.Line > 0 {
			fmt.Fprintf(&b, "line %d: ", q.Line)
		}
		if q.Key != "" {
			b.WriteString(q.Key + ": ")
		}
		b.WriteString(q.Reason)
	}
	return b.String()
}

func (p *Problems) add(key, format string, args ...any) {
	p.List = append(p.List, Problem{Key: key, Reason: fmt.Sprintf(format, args...)})
}

func (p *Problems) orNil() error {
	if len(p.List) == 0 {
		return nil
	}
	return p
}
