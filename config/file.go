package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// file is the TOML document. Sizes, durations and addresses stay strings until check reads them,
// so that every problem is found and none hides the next.
type file struct {
	Volume struct {
		URL          string `toml:"url"`
		Password     string `toml:"password"`
		PasswordFile string `toml:"password_file"`
		StopTimeout  string `toml:"stop_timeout"`
		ChunkSize    string `toml:"chunk_size"`
		MaxSize      string `toml:"max_size"`
		Cipher       string `toml:"cipher"`
		Compression  string `toml:"compression"`
	} `toml:"volume"`
	Tiers struct {
		Object struct {
			Endpoint        string `toml:"endpoint"`
			Region          string `toml:"region"`
			AccessKeyID     string `toml:"access_key_id"`
			SecretAccessKey string `toml:"secret_access_key"`
			AllowHTTP       bool   `toml:"allow_http"`
			PathStyle       *bool  `toml:"path_style"`
		} `toml:"object"`
		Memory struct {
			Size string `toml:"size"`
		} `toml:"memory"`
		NVMe struct {
			Dir  string `toml:"dir"`
			Size string `toml:"size"`
		} `toml:"nvme"`
	} `toml:"tiers"`
	Journal struct {
		Dir        string `toml:"dir"`
		Size       string `toml:"size"`
		Durability string `toml:"durability"`
	} `toml:"journal"`
	Writeback struct {
		Interval string `toml:"interval"`
	} `toml:"writeback"`
	Fence struct {
		Owner     string `toml:"owner"`
		Lease     string `toml:"lease"`
		Takeover  string `toml:"takeover"`
		LeaseLoss string `toml:"lease_loss"`
		AfterLoss string `toml:"after_loss"`
	} `toml:"fence"`
	Servers struct {
		NBD   *nbdSection   `toml:"nbd"`
		NineP *ninepSection `toml:"ninep"`
		FUSE  *fuseSection  `toml:"fuse"`
		Admin *adminSection `toml:"admin"`
	} `toml:"servers"`
	Log struct {
		Level  string `toml:"level"`
		Format string `toml:"format"`
	} `toml:"log"`
}

type nbdSection struct {
	Listen     []string        `toml:"listen"`
	UnixSocket string          `toml:"unix_socket"`
	TLS        *tlsSection     `toml:"tls"`
	Allow      []string        `toml:"allow"`
	Insecure   bool            `toml:"insecure"`
	Device     []deviceSection `toml:"device"`
}

type ninepSection struct {
	Listen     []string    `toml:"listen"`
	UnixSocket string      `toml:"unix_socket"`
	TLS        *tlsSection `toml:"tls"`
	Allow      []string    `toml:"allow"`
	Insecure   bool        `toml:"insecure"`
	Groups     string      `toml:"groups"`
}

type tlsSection struct {
	Cert     string `toml:"cert"`
	Key      string `toml:"key"`
	ClientCA string `toml:"client_ca"`
	Required bool   `toml:"required"`
}

type deviceSection struct {
	Name       string `toml:"name"`
	Size       string `toml:"size"`
	Port       int    `toml:"port"`
	WriteCache *bool  `toml:"write_cache"`
}

type fuseSection struct {
	Mountpoint     string   `toml:"mountpoint"`
	AllowOther     *bool    `toml:"allow_other"`
	WritebackCache bool     `toml:"writeback_cache"`
	DirectIO       bool     `toml:"direct_io"`
	Options        []string `toml:"options"`
}

type adminSection struct {
	UnixSocket string   `toml:"unix_socket"`
	Listen     []string `toml:"listen"`
	Allow      []string `toml:"allow"`
	Insecure   bool     `toml:"insecure"`
}

// decode reads the document and notes unknown keys, each with its line. The result is false when
// the text is no TOML or a value has the wrong type, for then nothing else can be checked.
func decode(text []byte, doc *file, p *Problems) bool {
	dec := toml.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(doc)
	var missing *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case err == nil:
		return true
	case errors.As(err, &missing):
		for _, e := range missing.Errors {
			line, _ := e.Position()
			p.List = append(p.List, Problem{Line: line, Key: strings.Join(e.Key(), "."), Reason: "unknown key"})
		}
		return true
	case errors.As(err, &bad):
		line, _ := bad.Position()
		p.List = append(p.List, Problem{Line: line, Key: strings.Join(bad.Key(), "."), Reason: strings.TrimPrefix(bad.Error(), "toml: ")})
		return false
	default:
		p.List = append(p.List, Problem{Reason: strings.TrimPrefix(err.Error(), "toml: ")})
		return false
	}
}

var variable = regexp.MustCompile(`\$\$\{|\$\{[^}]*\}?`)

// substitute replaces ${NAME} in every string below v by the environment's value; $${ stands for
// a literal ${. Values are replaced after parsing, so they may hold any character.
func substitute(v reflect.Value, key string, getenv func(string) (string, bool), p *Problems) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			substitute(v.Elem(), key, getenv, p)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("toml")
			if key != "" {
				name = key + "." + name
			}
			substitute(v.Field(i), name, getenv, p)
		}
	case reflect.Slice:
		for i := range v.Len() {
			substitute(v.Index(i), fmt.Sprintf("%s[%d]", key, i), getenv, p)
		}
	case reflect.String:
		v.SetString(variable.ReplaceAllStringFunc(v.String(), func(m string) string {
			if m == "$${" {
				return "${"
			}
			name, closed := strings.CutSuffix(m[2:], "}")
			if !closed || name == "" {
				p.add(key, "%q is no variable: want ${NAME}", m)
				return m
			}
			val, ok := getenv(name)
			if !ok {
				p.add(key, "variable %s is not set", name)
			}
			return val
		}))
	}
}
