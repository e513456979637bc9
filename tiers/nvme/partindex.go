package nvme

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"zerofs/tiers/disk"
	"zerofs/tiers/nvme/internal/slots"
)

// open opens the slab and reads the index. Whatever is wrong with either costs the cache's
// content and no more.
func (c *partCache) open() error {
	file, err := c.tier.disk.OpenDirect(c.slab, true)
	if errors.Is(err, disk.ErrFull) {
		c.tier.log.Warn("disk full: no part cache until the next start", "file", c.slab, "err", err)
		c.ended = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("nvme: open %s: %w", c.slab, err)
	}
	c.file = file
	if !file.Direct() {
		c.tier.log.Warn("nvme: no direct I/O here, falling back to synced buffered writes", "dir", c.tier.dir)
	}
	if err := c.load(); err != nil {
		_ = file.Close()
		return fmt.Errorf("nvme: %s: %w", c.slab, err)
	}
	for range partWriters {
		c.writers.Go(c.write)
	}
	return nil
}

// load reads the index, and gives back the space of slots that it does not name.
func (c *partCache) load() error {
	size, err := c.file.Size()
	if err != nil {
		return err
	}
	table, err := c.readIndex(uint32((size + PartSize - 1) / PartSize))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.tier.log.Warn("part cache starts empty", "file", c.index, "err", err)
		}
		table = slots.New(PartSize)
	}
	if err := c.dropUnnamed(table, size); err != nil {
		c.tier.log.Warn("part cache starts empty", "file", c.slab, "err", err)
		table = slots.New(PartSize)
		if err := c.file.Truncate(0); err != nil {
			return fmt.Errorf("truncate: %w", err)
		}
	}
	c.table = table
	c.tier.budget.setParts(int64(table.Occupied()) * PartSize)
	return nil
}

func (c *partCache) readIndex(slotsMax uint32) (*slots.Table, error) {
	f, err := c.tier.disk.Open(c.index)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if most := slots.EncodedMax(slotsMax); info.Size() > most {
		return nil, fmt.Errorf("%d bytes, at most %d for %d slots", info.Size(), most, slotsMax)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, err
	}
	return slots.Decode(data, PartSize, slotsMax)
}

// dropUnnamed gives back the space of slots that hold nothing, which a crash may have left filled.
func (c *partCache) dropUnnamed(table *slots.Table, size int64) error {
	if end := int64(table.Slots()) * PartSize; size > end {
		if err := c.file.Truncate(end); err != nil {
			return fmt.Errorf("truncate: %w", err)
		}
		size = end
	}
	var err error
	table.Empty(func(first, n uint32) {
		if at := int64(first) * PartSize; err == nil && at < size {
			err = c.file.PunchHole(at, int64(n)*PartSize)
		}
	})
	if err != nil {
		return fmt.Errorf("punch: %w", err)
	}
	return nil
}

// save makes slab and index durable. One goroutine at a time calls it.
func (c *partCache) save() error {
	d := c.tier.disk
	if err := c.file.Sync(); err != nil {
		return fmt.Errorf("nvme: sync %s: %w", c.slab, err)
	}
	c.mu.Lock()
	data := c.table.Encode(nil)
	c.changed = 0
	c.mu.Unlock()
	next := c.index + ".new"
	if err := writeFile(d, next, data); err != nil {
		_ = d.Remove(next) // it is of no use
		return fmt.Errorf("nvme: write %s: %w", next, err)
	}
	if err := d.Rename(next, c.index); err != nil {
		return fmt.Errorf("nvme: rename %s: %w", next, err)
	}
	if err := d.SyncDir(c.tier.dir); err != nil {
		return fmt.Errorf("nvme: sync %s: %w", c.tier.dir, err)
	}
	return nil
}

// writeFile writes a durable file; its name is the caller's to make durable.
func writeFile(d disk.FS, path string, data []byte) error {
	f, err := d.Create(path, writeCategory)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// removeFiles removes slab and index.
func (c *partCache) removeFiles() error {
	for _, path := range []string{c.index, c.slab} {
		if err := c.tier.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// close writes what waits, saves the index and closes the slab.
func (c *partCache) close() error {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	close(c.queue)
	c.writers.Wait()
	if c.file == nil {
		return nil
	}
	return errors.Join(c.save(), c.file.Close())
}

// saveIfChanged saves the index when more than a few parts changed.
func (c *partCache) saveIfChanged() {
	c.mu.Lock()
	due := c.file != nil && c.changed > c.table.Ready()/64
	c.mu.Unlock()
	if !due {
		return
	}
	if err := c.save(); err != nil {
		c.note(err)
	}
}
