package servers

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// restrictSocket sets the mode of a Unix socket before it has a name, so that there is no moment
// in which others may connect: bind(2) gives the new file the mode of the socket.
func restrictSocket(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(SocketMode)) }); cerr != nil {
		return cerr
	}
	return err
}
