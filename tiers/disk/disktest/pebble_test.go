package disktest_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/tiers/disk/disktest"
)

// TestPebble crashes a real LSM at every operation: what it synced is there afterwards.
func TestPebble(t *testing.T) {
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	for k := int64(1); ; k += step {
		disk := disktest.New(disktest.Options{OnOp: disktest.CrashAt(k)})
		acked := fill(disk)
		if !disk.Crashed() {
			if acked != 20 {
				t.Fatalf("without a crash: %d keys acknowledged", acked)
			}
			return
		}
		for seed := range uint64(3) {
			check(t, disk.CrashClone(seed, 50), acked, fmt.Sprintf("crash at %d, seed %d", k, seed))
		}
		check(t, disk.CrashClone(0, 0), acked, fmt.Sprintf("crash at %d, nothing unsynced", k))
	}
}

// quiet ends the goroutine rather than the process on a fatal error.
type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, a ...any) { panic(errors.New(fmt.Sprintf(f, a...))) }

// fill writes keys, each synced, until an error, and returns how many were acknowledged.
func fill(disk *disktest.FS) (acked int) {
	defer func() { _ = recover() }() // of quiet
	db, err := pebble.Open("db", &pebble.Options{FS: disk, Logger: quiet{}, MemTableSize: 64 << 10})
	if err != nil {
		return 0
	}
	for ; acked < 20; acked++ {
		if err := db.Set(fmt.Appendf(nil, "k%02d", acked), make([]byte, 1000), pebble.Sync); err != nil {
			return acked
		}
		if acked%7 == 6 {
			if err := db.Flush(); err != nil {
				return acked
			}
		}
	}
	_ = db.Close()
	return acked
}

func check(t *testing.T, disk *disktest.FS, acked int, what string) {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: disk, Logger: quiet{}})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer db.Close()
	for i := range acked {
		_, c, err := db.Get(fmt.Appendf(nil, "k%02d", i))
		if err != nil {
			t.Fatalf("%s: key %d of %d acknowledged: %v", what, i, acked, err)
		}
		c.Close()
	}
}
