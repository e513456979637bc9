package main

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"syscall"

	"zerofs/fence"
	"zerofs/tiers/disk"
)

// identity is what this machine says of the data directory whose lock file is at path.
func identity(path string) (fence.Identity, error) {
	boot, err := bootID()
	if err != nil {
		return fence.Identity{}, err
	}
	dev, ino, err := disk.FileIdentity(path)
	if err != nil {
		return fence.Identity{}, err
	}
	local, err := disk.IsLocal(path)
	if err != nil {
		return fence.Identity{}, err
	}
	return fence.Identity{Boot: boot, Dev: dev, Ino: ino, Local: local}, nil
}

// processMemory is what the process may need beside the memory tier, in bytes.
const processMemory = 440 << 20

// limitMemory tells the garbage collector how much the process may use, unless GOMEMLIMIT does.
func limitMemory(memoryTier int64) {
	if os.Getenv("GOMEMLIMIT") == "" && memoryTier < math.MaxInt64-processMemory {
		debug.SetMemoryLimit(memoryTier + processMemory)
	}
}

// raiseFileLimit asks for as many open files as the system allows: table files are many.
func raiseFileLimit() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil && l.Cur < l.Max {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l) // what there is has to do
	}
}

// privateDir makes dir, or an empty or our own one, readable by its owner alone (0700). Any other
// directory is left as it is and told of.
func privateDir(dir string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	ours := len(entries) == 0 || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "pair" })
	if !ours {
		log.Warn("the data directory holds other files and can be entered by others", "dir", dir, "mode", info.Mode().Perm().String())
		return nil
	}
	return os.Chmod(dir, 0o700)
}
