package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// Host is what Load and FromEnv ask of the machine. A nil func is an error of the caller.
type Host struct {
	Getenv   func(name string) (string, bool)
	ReadFile func(path string) ([]byte, error)
	Stat     func(path string) (fs.FileInfo, error)
	Hostname string
}

// RealHost is the machine that the process runs on.
func RealHost() Host {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	return Host{Getenv: os.LookupEnv, ReadFile: os.ReadFile, Stat: os.Stat, Hostname: name}
}

// Load reads the file at path. Relative paths in it are relative to the file's directory. Its
// error is a *Problems, or the error of reading the file.
func Load(path string, host Host) (*Config, error) {
	text, err := host.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return Parse(text, path, host)
}

// Parse is Load of a text that came from path.
func Parse(text []byte, path string, host Host) (*Config, error) {
	p := &Problems{Source: path}
	var doc file
	if !decode(text, &doc, p) {
		return nil, p
	}
	substitute(reflect.ValueOf(&doc), "", host.Getenv, p)
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	c := checker{p: p, host: host, dir: dir}
	cfg := c.config(&doc)
	if err := p.orNil(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// password reads the password from where the document says.
func (c *checker) password(doc *file) Secret {
	inline, path := doc.Volume.Password, doc.Volume.PasswordFile
	switch {
	case inline != "" && path != "":
		c.p.add("volume.password", "set together with volume.password_file: want one of them")
		return ""
	case inline != "":
		return Secret(inline)
	case path == "":
		c.p.add("volume.password_file", "missing: every volume is encrypted; set it, or volume.password")
		return ""
	}
	path = c.path(path)
	info, err := c.host.Stat(path)
	if err != nil {
		c.p.add("volume.password_file", "%v", err)
		return ""
	}
	if perm := info.Mode().Perm(); perm&0o007 != 0 {
		c.p.add("volume.password_file", "%s can be read by everybody (mode %04o): want 0600", path, perm)
		return ""
	}
	text, err := c.host.ReadFile(path)
	if err != nil {
		c.p.add("volume.password_file", "%v", err)
		return ""
	}
	line := strings.TrimRight(string(text), "\r\n")
	if line == "" {
		c.p.add("volume.password_file", "%s is empty", path)
	}
	return Secret(line)
}

// path makes a path of the file absolute.
func (c *checker) path(s string) string {
	if s == "" || filepath.IsAbs(s) {
		return s
	}
	return filepath.Join(c.dir, s)
}
