package main

import (
	"context"
	"io/fs"
	"slices"

	"zerofs/config"
	"zerofs/engine/volume"
	"zerofs/servers/nbd"
)

// exports are the block devices of a volume as the NBD server sees them.
type exports struct {
	vol     *volume.Volume
	names   []string        // sorted
	through map[string]bool // devices without a write cache
}

func newExports(vol *volume.Volume, devices []config.Device) *exports {
	e := &exports{vol: vol, through: map[string]bool{}}
	for _, d := range devices {
		e.names = append(e.names, d.Name)
		e.through[d.Name] = !d.WriteCache
	}
	slices.Sort(e.names)
	return e
}

// Names returns the configured devices.
func (e *exports) Names() []string { return e.names }

// Open opens a configured device.
func (e *exports) Open(ctx context.Context, name string) (nbd.Device, func(), error) {
	if _, ok := slices.BinarySearch(e.names, name); !ok {
		return nil, nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	dev, err := e.vol.Device(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if e.through[name] {
		return writeThrough{dev}, dev.Close, nil
	}
	return dev, dev.Close, nil
}

// Wait returns once an answer may be sent.
func (e *exports) Wait(ctx context.Context) error { return e.vol.Wait(ctx) }

// writeThrough answers each write when it is durable.
type writeThrough struct{ nbd.Device }

func (d writeThrough) WriteAt(ctx context.Context, p []byte, off int64, _ bool) error {
	return d.Device.WriteAt(ctx, p, off, true)
}

func (d writeThrough) Zero(ctx context.Context, off, n int64, keep, _ bool) error {
	return d.Device.Zero(ctx, off, n, keep, true)
}

func (d writeThrough) Trim(ctx context.Context, off, n int64, _ bool) error {
	return d.Device.Trim(ctx, off, n, true)
}

// TryReadAt passes the fast path on.
func (d writeThrough) TryReadAt(p []byte, off int64) bool {
	f, ok := d.Device.(nbd.FastReader)
	return ok && f.TryReadAt(p, off)
}
