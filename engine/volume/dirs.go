package volume

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

// Names below the NVMe directory (and, where said, below the journal directory too).
const (
	lockName    = "lock"    // both: held while a process uses the directory
	pairName    = "pair"    // both: one text that says that they belong together
	lineageName = "lineage" // NVMe: fence.Lineage
	treeName    = "tree"    // NVMe: the map and the meta files of tiers.FS
	tablesName  = "nvme"    // NVMe: the NVMe tier
	ringName    = "ring"    // journal: the segments
	lostName    = "lost"    // both: what lost against the log, kept for a person to look at
	cleanName   = "clean"   // NVMe: there while nothing below holds a change that the bucket lacks
	refusedName = "refused" // NVMe: there while devices wait for an operator's word
)

// dirs is the pair of local directories, locked.
type dirs struct {
	disk          disk.FS
	nvme, journal string
	id            [16]byte // of the pair
	locks         []io.Closer
}

// pairID is what the pair file holds: format, random id of the pair, id of the volume.
//
//	zerofs-pair 1 <32 hex digits> <32 hex digits>\n
type pairID struct {
	pair   [16]byte
	volume seal.VolumeID
}

func (p pairID) text() []byte {
	return fmt.Appendf(nil, "zerofs-pair 1 %x %x\n", p.pair[:], p.volume[:])
}

func parsePair(text []byte) (p pairID, err error) {
	fields := bytes.Fields(text)
	if len(fields) != 4 || string(fields[0]) != "zerofs-pair" {
		return p, errors.New("not a pair file")
	}
	if string(fields[1]) != "1" {
		return p, fmt.Errorf("pair file of format %s; this program knows 1", fields[1])
	}
	for i, dst := range [][]byte{p.pair[:], p.volume[:]} {
		if len(fields[2+i]) != 32 {
			return p, errors.New("damaged pair file")
		}
		if _, err := hex.Decode(dst, fields[2+i]); err != nil {
			return p, errors.New("damaged pair file")
		}
	}
	return p, nil
}

// openDirs makes and locks both directories and checks that they belong together and to the volume.
func openDirs(d disk.FS, nvme, journal string, volume seal.VolumeID, rand io.Reader) (_ *dirs, err error) {
	ds := &dirs{disk: d, nvme: nvme, journal: journal}
	defer func() {
		if err != nil {
			ds.close()
		}
	}()
	for _, dir := range []string{nvme, journal} {
		if err := makeDir(d, dir); err != nil {
			return nil, fmt.Errorf("volume: %w", err)
		}
		lock, err := d.Lock(d.PathJoin(dir, lockName))
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInUse, dir, err)
		}
		ds.locks = append(ds.locks, lock)
	}
	if err := ds.pair(volume, rand); err != nil {
		return nil, err
	}
	return ds, nil
}

// makeDir makes dir and its parents, durably. The nearest parent is synced even if dir exists: a
// process that was killed may have made it and not come to the sync.
func makeDir(d disk.FS, dir string) error {
	var sync []string
	for at := dir; ; {
		parent := d.PathDir(at)
		if parent == at {
			break
		}
		sync = append(sync, parent)
		if _, err := d.Stat(parent); err == nil {
			break
		}
		at = parent
	}
	if err := d.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, parent := range sync {
		if err := d.SyncDir(parent); err != nil {
			return err
		}
	}
	return nil
}

// pair reads both pair files, or makes them when both directories are new. The journal's is
// made first, so that a crash in between leaves the NVMe directory, which holds the lineage, without one.
func (ds *dirs) pair(volume seal.VolumeID, rand io.Reader) error {
	var got [2]*pairID
	for i, dir := range []string{ds.journal, ds.nvme} {
		text, err := readFile(ds.disk, ds.disk.PathJoin(dir, pairName))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("volume: %w", err)
		}
		p, err := parsePair(text)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDirs, dir, err)
		}
		if p.volume != volume {
			return fmt.Errorf("%w: %s is of volume %x, the store holds volume %x", ErrDirs, dir, p.volume[:], volume[:])
		}
		got[i] = &p
	}
	switch {
	case got[0] != nil && got[1] != nil:
		if got[0].pair != got[1].pair {
			return fmt.Errorf("%w: journal %s has pair id %x, NVMe directory %s has %x", ErrDirs, ds.journal, got[0].pair, ds.nvme, got[1].pair)
		}
		ds.id = got[0].pair
		return nil
	case got[1] != nil:
		return fmt.Errorf("%w: NVMe directory %s has pair id %x, journal directory %s has none: was the journal lost or moved?", ErrDirs, ds.nvme, got[1].pair, ds.journal)
	}
	for _, used := range []string{ds.disk.PathJoin(ds.nvme, lineageName), ds.disk.PathJoin(ds.nvme, treeName)} {
		if _, err := ds.disk.Stat(used); err == nil {
			return fmt.Errorf("%w: NVMe directory %s was used before but has no pair id", ErrDirs, ds.nvme)
		}
	}
	if got[0] != nil {
		if names, err := ds.disk.List(ds.disk.PathJoin(ds.journal, ringName)); err == nil && len(names) > 0 {
			return fmt.Errorf("%w: journal directory %s has pair id %x, NVMe directory %s has none: was the NVMe directory lost or moved?", ErrDirs, ds.journal, got[0].pair, ds.nvme)
		}
		ds.id = got[0].pair // a crash while both were made
		return ds.writePair(ds.nvme, pairID{ds.id, volume})
	}
	if _, err := io.ReadFull(rand, ds.id[:]); err != nil {
		return fmt.Errorf("volume: random: %w", err)
	}
	if err := ds.writePair(ds.journal, pairID{ds.id, volume}); err != nil {
		return err
	}
	return ds.writePair(ds.nvme, pairID{ds.id, volume})
}

func (ds *dirs) writePair(dir string, p pairID) error {
	return writeFile(ds.disk, ds.disk.PathJoin(dir, pairName), p.text())
}

func (ds *dirs) close() {
	for _, l := range ds.locks {
		l.Close()
	}
	ds.locks = nil
}

// setAside makes room for a tree from the bucket. What the log overtook is moved to lost/, never
// mixed in and never deleted, unless the directory was left clean: then it holds nothing that the
// bucket did not get. The NVMe tier's clean copies and parts go too: they are a cache.
func (ds *dirs) setAside(label string, clean bool) (kept string, err error) {
	tree := ds.disk.PathJoin(ds.nvme, treeName)
	moves := [][2]string{
		{tree, ds.disk.PathJoin(ds.nvme, lostName, label)},
		{ds.disk.PathJoin(ds.nvme, tablesName), ds.disk.PathJoin(ds.nvme, lostName, label)},
		{ds.disk.PathJoin(ds.journal, ringName), ds.disk.PathJoin(ds.journal, lostName, label)},
	}
	for _, m := range moves {
		if _, err := ds.disk.Stat(m[0]); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return kept, fmt.Errorf("volume: %w", err)
		}
		if clean {
			if err := ds.disk.RemoveAll(m[0]); err != nil {
				return "", fmt.Errorf("volume: %w", err)
			}
			continue
		}
		if err := ds.moveInto(m[0], m[1]); err != nil {
			return kept, err
		}
		kept = m[1]
	}
	for _, dir := range []string{ds.nvme, ds.journal} {
		if err := ds.disk.SyncDir(dir); err != nil {
			return kept, fmt.Errorf("volume: %w", err)
		}
	}
	return kept, nil
}

// moveInto renames path to a free name in dir, which is made if need be.
func (ds *dirs) moveInto(path, dir string) error {
	if err := ds.disk.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("volume: %w", err)
	}
	to := ds.disk.PathJoin(dir, ds.disk.PathBase(path))
	for n := 2; ; n++ {
		if _, err := ds.disk.Stat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return fmt.Errorf("volume: %w", err)
		}
		to = ds.disk.PathJoin(dir, fmt.Sprintf("%s.%d", ds.disk.PathBase(path), n))
	}
	if err := ds.disk.Rename(path, to); err != nil {
		return fmt.Errorf("volume: set aside: %w", err)
	}
	for _, d := range []string{dir, ds.disk.PathDir(dir), ds.disk.PathDir(ds.disk.PathDir(dir)), ds.disk.PathDir(path)} {
		if err := ds.disk.SyncDir(d); err != nil {
			return fmt.Errorf("volume: %w", err)
		}
	}
	return nil
}

// isMarked reports whether a mark is there: an empty file in the NVMe directory.
func (ds *dirs) isMarked(name string) bool {
	_, err := ds.disk.Stat(ds.disk.PathJoin(ds.nvme, name))
	return err == nil
}

// setMark makes or removes a mark, durably: also a removal that a killed process did not come to sync.
func (ds *dirs) setMark(name string, there bool) error {
	path := ds.disk.PathJoin(ds.nvme, name)
	if there {
		return writeFile(ds.disk, path, nil)
	}
	if err := ds.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("volume: %w", err)
	}
	if err := ds.disk.SyncDir(ds.nvme); err != nil {
		return fmt.Errorf("volume: %w", err)
	}
	return nil
}

// writeFile replaces a small file, durably and at once.
func writeFile(d disk.FS, path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := d.Create(tmp, vfs.WriteCategoryUnspecified)
	if err == nil {
		if len(data) > 0 {
			_, err = f.Write(bytes.Clone(data))
		}
		if err == nil {
			err = f.Sync()
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		err = d.Rename(tmp, path)
	}
	if err == nil {
		err = d.SyncDir(d.PathDir(path))
	}
	if err != nil {
		return fmt.Errorf("volume: write %s: %w", path, err)
	}
	return nil
}

func readFile(d disk.FS, path string) ([]byte, error) {
	f, err := d.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
