//go:build !linux

package servers

import "syscall"

// restrictSocket does nothing: sockets without a name have no mode here, the chmod after bind sets it.
func restrictSocket(string, string, syscall.RawConn) error { return nil }
