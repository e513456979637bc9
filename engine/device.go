package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"zerofs/journal"
)

// deviceDir is the directory in the root whose files are the block devices.
const deviceDir = ".nbd"

// SectorSize divides the size of every device, in bytes.
const SectorSize = 512

// Device is a file in /.nbd seen as a block device. Any goroutine may call any method; ranges must
// lie within Size. Writes to a device do not set its file's times.
type Device struct {
	e    *Engine
	n    *node
	name string
	once sync.Once
}

// EnsureDevice makes the device if there is none of that name, durably. A larger size grows it; a
// smaller one is refused with ErrSmaller.
func (e *Engine) EnsureDevice(ctx context.Context, name string, size int64) error {
	if size <= 0 || size%SectorSize != 0 || size > maxFileSize {
		return fmt.Errorf("engine: device %q: size %d is no multiple of %d: %w", name, size, SectorSize, errInvalid)
	}
	dir, err := e.ensureDeviceDir(ctx)
	if err != nil {
		return fmt.Errorf("engine: device %q: %w", name, err)
	}
	made, err := e.Create(ctx, nil, dir, name, NewFile{Type: TypeRegular, Mode: 0o600, Exclusive: true})
	ino := made.Ino
	if errors.Is(err, errExist) {
		ino, _, err = e.Lookup(ctx, nil, dir, name)
	}
	if err != nil {
		return fmt.Errorf("engine: device %q: %w", name, err)
	}
	lsn, err := e.growDevice(ctx, ino, uint64(size))
	if err != nil {
		return fmt.Errorf("engine: device %q: %w", name, err)
	}
	return e.Sync(ctx, lsn)
}

func (e *Engine) ensureDeviceDir(ctx context.Context) (Ino, error) {
	made, err := e.Create(ctx, nil, RootIno, deviceDir, NewFile{Type: TypeDir, Mode: 0o700})
	if errors.Is(err, errExist) {
		ino, _, err := e.Lookup(ctx, nil, RootIno, deviceDir)
		return ino, err
	}
	return made.Ino, err
}

// growDevice makes a device at least as large as asked for, and durably so.
func (e *Engine) growDevice(ctx context.Context, ino Ino, size uint64) (journal.LSN, error) {
	a, err := e.Hold(ctx, ino)
	if err != nil {
		return 0, err
	}
	defer e.Release(ino)
	if size < a.Size {
		return 0, fmt.Errorf("%w: it has %d bytes, not %d", ErrSmaller, a.Size, size)
	}
	if size == a.Size {
		return e.Applied(), nil
	}
	_, lsn, err := e.SetAttr(ctx, nil, ino, SetAttr{Size: &size})
	return lsn, err
}

// Devices returns the names of the block devices, sorted.
func (e *Engine) Devices(ctx context.Context) ([]string, error) {
	dir, _, err := e.Lookup(ctx, nil, RootIno, deviceDir)
	if errors.Is(err, errNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	err = e.ReadDir(ctx, nil, dir, 0, false, func(d *Entry) bool {
		if d.Type == TypeRegular {
			names = append(names, d.Name)
		}
		return true
	})
	slices.Sort(names)
	return names, err
}

// Device opens a device, which Close gives back; an unknown name gives an error that matches fs.ErrNotExist.
func (e *Engine) Device(ctx context.Context, name string) (*Device, error) {
	dir, _, err := e.Lookup(ctx, nil, RootIno, deviceDir)
	if err != nil {
		return nil, fmt.Errorf("engine: device %q: %w", name, err)
	}
	ino, _, err := e.Lookup(ctx, nil, dir, name)
	if err != nil {
		return nil, fmt.Errorf("engine: device %q: %w", name, err)
	}
	n, err := e.open(ctx, ino, TypeRegular)
	if err != nil {
		return nil, fmt.Errorf("engine: device %q: %w", name, err)
	}
	n.dir.Lock()
	defer n.dir.Unlock()
	if n.attr.Load().Nlink == 0 {
		e.release(n)
		return nil, fmt.Errorf("engine: device %q: %w", name, errNotExist)
	}
	n.devices++
	return &Device{e: e, n: n, name: name}, nil
}

// Close gives the device back. No other call may run.
func (d *Device) Close() {
	d.once.Do(func() {
		d.n.dir.Lock()
		d.n.devices--
		d.n.dir.Unlock()
		d.e.recount(d.n, d.n.counted.Load(), nanos(d.e.opts.Now()))
		d.e.release(d.n)
	})
}

// mayHold reports why dir cannot have such a file. The directory of block devices holds regular files only, and
// nothing else has its name.
func mayHold(dir *node, name string, typ FileType) error {
	switch {
	case dir.attr.Load().Flags&flagDevice != 0 && typ != TypeRegular:
		return fmt.Errorf("engine: directory %d: %q: block devices only: %w", dir.ino, name, ErrPerm)
	case isDeviceDir(dir, name) && typ != TypeDir:
		return fmt.Errorf("engine: %q is for block devices: %w", name, ErrPerm)
	}
	return nil
}

func isDeviceDir(dir *node, name string) bool { return dir.ino == RootIno && name == deviceDir }

// Size returns the size in bytes.
func (d *Device) Size() int64 { return int64(d.n.attr.Load().Size) }

func (d *Device) check(what string, off, n int64) error {
	if size := d.Size(); off < 0 || n < 0 || n > size || off > size-n {
		return fmt.Errorf("engine: device %q: %s of %d bytes at %d of %d: %w", d.name, what, n, off, size, errInvalid)
	}
	return nil
}

// ReadAt fills p from off.
func (d *Device) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := d.check("read", off, int64(len(p))); err != nil {
		return err
	}
	return d.e.read(ctx, d.n, p, off)
}

// WriteAt writes p at off. It is visible when WriteAt returns; with durable it is durable too.
func (d *Device) WriteAt(ctx context.Context, p []byte, off int64, durable bool) error {
	if err := d.check("write", off, int64(len(p))); err != nil {
		return err
	}
	lsn, err := d.e.write(ctx, d.n, p, off)
	return d.done(ctx, lsn, durable, err)
}

// Zero makes the range read as zeros. Space is never kept allocated: the journal makes room for a
// write when it comes, so keep means nothing here.
func (d *Device) Zero(ctx context.Context, off, n int64, keep, durable bool) error {
	if err := d.check("zero", off, n); err != nil {
		return err
	}
	return d.punch(ctx, off, n, durable)
}

// Trim gives the range back; it reads as zeros afterwards.
func (d *Device) Trim(ctx context.Context, off, n int64, durable bool) error {
	if err := d.check("trim", off, n); err != nil {
		return err
	}
	return d.punch(ctx, off, n, durable)
}

func (d *Device) punch(ctx context.Context, off, n int64, durable bool) error {
	if n == 0 {
		return nil
	}
	lsn, err := d.e.punch(ctx, d.n, off, n)
	return d.done(ctx, lsn, durable, err)
}

func (d *Device) done(ctx context.Context, lsn journal.LSN, durable bool, err error) error {
	if err != nil || !durable {
		return err
	}
	return d.e.Sync(ctx, lsn)
}

// Flush returns when everything that completed before it, on whatever device, is durable.
func (d *Device) Flush(ctx context.Context) error { return d.e.Sync(ctx, d.e.Applied()) }

// Cache brings the range into the memory tier, as far as it may keep it.
func (d *Device) Cache(ctx context.Context, off, n int64) error {
	if err := d.check("cache", off, n); err != nil {
		return err
	}
	if d.e.aheads == nil || n == 0 {
		return nil
	}
	_, err := d.e.prefetch(ctx, d.n.ino, off, min(n, prefetchMax))
	return err
}

// Extents calls fn for the runs of data and holes from off to off+n, in order, until fn returns false.
func (d *Device) Extents(ctx context.Context, off, n int64, fn func(n int64, hole bool) bool) error {
	if err := d.check("extents", off, n); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	return d.e.extents(ctx, d.n, off, n, fn)
}
