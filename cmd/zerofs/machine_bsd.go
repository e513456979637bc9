//go:build darwin || freebsd

package main

import (
	"crypto/sha256"
	"time"

	"golang.org/x/sys/unix"
)

// boottime reads CLOCK_MONOTONIC, which on these systems runs on while the machine sleeps.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("CLOCK_MONOTONIC: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// bootID derives an id of this boot from the time at which it began.
func bootID() (id [16]byte, err error) {
	raw, err := unix.SysctlRaw("kern.boottime")
	if err != nil {
		return id, err
	}
	sum := sha256.Sum256(raw)
	copy(id[:], sum[:])
	return id, nil
}
