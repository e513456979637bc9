package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// boottime reads CLOCK_BOOTTIME, which runs on while the machine sleeps: leases are timed with it.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("CLOCK_BOOTTIME: " + err.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// bootID returns the kernel's id of this boot.
func bootID() (id [16]byte, err error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, err
	}
	text = bytes.ReplaceAll(bytes.TrimSpace(text), []byte("-"), nil)
	if n, err := hex.Decode(id[:], text); err != nil || n != len(id) {
		return id, fmt.Errorf("boot id %q", text)
	}
	return id, nil
}
