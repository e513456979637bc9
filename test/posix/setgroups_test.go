//go:build linux

package posix

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setgroups is setgroups(2) of this thread alone.
func setgroups(groups []uint32) error {
	var p unsafe.Pointer
	if len(groups) > 0 {
		p = unsafe.Pointer(&groups[0])
	}
	if _, _, n := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p), 0); n != 0 {
		return n
	}
	return nil
}
