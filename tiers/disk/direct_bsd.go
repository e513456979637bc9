//go:build unix && !linux

package disk

import "errors"

// errNoDsync reports that pwriteDsync cannot be used here.
var errNoDsync = errors.New("no RWF_DSYNC")

// pwriteDsync does not exist outside of Linux: a write and a sync take its place.
func pwriteDsync(int, []byte, int64) (int, error) { return 0, errNoDsync }

// datasync is fsync(2), which on darwin is fcntl(F_FULLFSYNC).
func (d *directFile) datasync() error { return d.f.Sync() }

// punch is not there: zeros take its place.
func punch(int, int64, int64) error { return errors.ErrUnsupported }

// directWorks has nothing to ask: F_NOCACHE and O_DIRECT need no alignment here.
func directWorks(int) bool { return true }
