package disktest_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/tiers/disk/disktest"
)

const keys = 20

// TestPebble crashes a real LSM at every operation: what it flushed is there afterwards.
func TestPebble(t *testing.T) {
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	for k := int64(1); ; k += step {
		disk := disktest.New(disktest.Options{OnOp: disktest.CrashAt(k)})
		acked := fill(disk)
		if !disk.Crashed() {
			if acked != keys {
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

// stopping is a Logger whose Fatalf, as Pebble wants it, does not return: the goroutine stays, as
// the rest of a process whose power is gone.
type stopping struct{}

func (stopping) Infof(string, ...any)  {}
func (stopping) Errorf(string, ...any) {}
func (stopping) Fatalf(string, ...any) { select {} }

// fill writes keys and flushes some of them until an error, and returns how many were acknowledged.
func fill(disk *disktest.FS) int {
	var acked atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		workload(disk, &acked)
	}()
	select {
	case <-done:
	case <-disk.PowerCut(): // what Pebble still runs is stuck by then
	}
	return int(acked.Load())
}

func workload(disk *disktest.FS, acked *atomic.Int64) {
	defer func() { _ = recover() }() // Open panics when a marker's directory cannot be synced
	db, err := pebble.Open("db", &pebble.Options{
		FS: disk, Logger: stopping{}, DisableWAL: true,
		EventListener: &pebble.EventListener{BackgroundError: func(error) { select {} }}, // or it retries for ever
	})
	if err != nil {
		return
	}
	for i := range keys {
		if err := db.Set(fmt.Appendf(nil, "k%02d", i), make([]byte, 1000), pebble.NoSync); err != nil {
			return
		}
		if i%4 == 3 {
			if err := db.Flush(); err != nil {
				return
			}
			acked.Store(int64(i) + 1)
		}
	}
	_ = db.Close()
}

func check(t *testing.T, disk *disktest.FS, acked int, what string) {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: disk, Logger: stopping{}})
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
