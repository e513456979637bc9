package servers

import (
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Allow returns a listener that accepts from these networks only and closes what comes from
// elsewhere before a byte is read. Unix sockets guard themselves by their mode: their clients
// pass. An IPv4 client of a dual-stack socket counts as IPv4.
func Allow(ln net.Listener, networks []netip.Prefix, logger *slog.Logger) net.Listener {
	return &allowed{Listener: ln, networks: networks, refused: &limited{every: time.Second}, logger: logger}
}

type allowed struct {
	net.Listener
	networks []netip.Prefix
	refused  *limited
	logger   *slog.Logger
}

// Accept returns the next connection from an allowed network.
func (l *allowed) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil || l.allows(nc.RemoteAddr()) {
			return nc, err
		}
		l.refused.do(func(missed int64) {
			l.logger.Warn("connection from a network that is not allowed", "from", nc.RemoteAddr(), "to", nc.LocalAddr(), "unlogged", missed)
		})
		_ = nc.Close() // it is refused whatever Close says
	}
}

func (l *allowed) allows(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr.Network() == "unix"
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range l.networks {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
