package disktest

import (
	"path"
	"syscall"

	"maps"
	"slices"
)

// Files returns the paths of all files below dir, sorted. It asks no hook.
func (fs *FS) Files(dir string) []string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n, err := fs.find(OpList, dir)
	if err != nil {
		return nil
	}
	var out []string
	var walk func(at string, n *node)
	walk = func(at string, n *node) {
		if !n.isDir {
			out = append(out, at)
		}
		for _, name := range slices.Sorted(maps.Keys(n.children)) {
			walk(path.Join(at, name), n.children[name])
		}
	}
	walk(dir, n)
	return out
}

// ReadFile returns what the running system sees in a file. It asks no hook.
func (fs *FS) ReadFile(name string) ([]byte, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n, err := fs.find(OpRead, name)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n.size)
	n.read(b, 0)
	return b, nil
}

// Damage changes the byte at off by exclusive or, durably, behind everybody's back. It asks no hook.
func (fs *FS) Damage(name string, off int64, mask byte) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n, err := fs.find(OpWrite, name)
	if err != nil {
		return err
	}
	if off < 0 || off >= n.size {
		return pathError("damage", name, syscall.EINVAL)
	}
	var b [1]byte
	n.read(b[:], off)
	b[0] ^= mask
	if err := fs.write(n, b[:], off); err != nil {
		return err
	}
	n.slots[off/pageSize].commit()
	return nil
}

// Used returns the bytes of space that files take.
func (fs *FS) Used() int64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.used
}
