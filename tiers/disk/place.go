//go:build unix

package disk

import "golang.org/x/sys/unix"

// FileIdentity returns the device and inode numbers of the file name, without opening it: that
// would endanger a lock on it (see Lock).
func FileIdentity(name string) (dev, ino uint64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return 0, 0, opError("stat", name, err)
	}
	return uint64(st.Dev), uint64(st.Ino), nil //nolint:unconvert // types differ by system
}

// IsLocal reports whether the existing path lies on a file system that only this machine has
// mounted. A file system that is not known to be local is not.
func IsLocal(path string) (bool, error) {
	var st unix.Statfs_t
	if err := statfs(path, &st); err != nil {
		return false, err
	}
	return localFS(&st), nil
}

// IsVolatile reports whether the existing path lies on a file system in memory, which no sync makes durable.
func IsVolatile(path string) (bool, error) {
	var st unix.Statfs_t
	if err := statfs(path, &st); err != nil {
		return false, err
	}
	return volatileFS(&st), nil
}

func statfs(path string, st *unix.Statfs_t) error {
	_, err := retry(func() (int, error) { return 0, unix.Statfs(path, st) })
	return opError("statfs", path, err)
}
