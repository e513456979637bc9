//go:build !freebsd

package servers

import "syscall"

// errNoData is what a missing extended attribute gives.
const errNoData = syscall.ENODATA
