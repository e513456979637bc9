package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"zerofs/config"
	"zerofs/servers"
)

// loadTLS reads the files of a listener's TLS; key names its section in errors.
func loadTLS(key string, t *config.TLS) (*tls.Config, error) {
	var pem [3][]byte
	for i, path := range []string{t.Cert, t.Key, t.ClientCA} {
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		pem[i] = text
	}
	conf, err := servers.TLSConfig(pem[0], pem[1], pem[2])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return conf, nil
}

// warnOpen says that anybody who reaches the address reads and writes what is served there.
func warnOpen(addr net.Addr, what string, log *slog.Logger) {
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		log.Warn("anybody who can reach this address reads and writes "+what, "address", addr.String())
	}
}

// serversStop is how long clients get to end their requests before they are cut off.
const serversStop = 10 * time.Second

// grace returns how long clients get when the servers stop, or when the volume has failed.
func grace(failed bool) time.Duration {
	if failed {
		return time.Second
	}
	return serversStop
}
