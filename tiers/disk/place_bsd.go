//go:build unix && !linux

package disk

import "golang.org/x/sys/unix"

func localFS(st *unix.Statfs_t) bool { return uint64(st.Flags)&unix.MNT_LOCAL != 0 }

func volatileFS(st *unix.Statfs_t) bool {
	return unix.ByteSliceToString(st.Fstypename[:]) == "tmpfs"
}
