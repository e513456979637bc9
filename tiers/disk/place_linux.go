package disk

import "golang.org/x/sys/unix"

// Magic numbers of statfs(2) that x/sys lacks.
const (
	magicZFS      = 0x2fc12fc1
	magicBcachefs = 0xca451a4e
	magicJFS      = 0x3153464a
	magicUFS      = 0x00011954
)

// localFS knows the file systems of one machine's disks. Overlays count: their upper layer,
// where files are made, cannot be on a network file system of a kernel that checks d_type.
func localFS(st *unix.Statfs_t) bool {
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
		unix.NILFS_SUPER_MAGIC, unix.REISERFS_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC,
		magicZFS, magicBcachefs, magicJFS, magicUFS:
		return true
	}
	return volatileFS(st)
}

func volatileFS(st *unix.Statfs_t) bool {
	t := uint32(st.Type)
	return t == unix.TMPFS_MAGIC || t == unix.RAMFS_MAGIC
}
