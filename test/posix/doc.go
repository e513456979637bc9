// Package posix is a table of what POSIX and Linux say of a file system's calls, by call. Its tests run on
// whatever is mounted at ZEROFS_POSIX_DIR, as root, and are skipped without it. What they ask holds
// on ext4; test/e2e runs them there as well as on our FUSE mount, and test/vm on our mounts in a virtual machine.
//
//	CGO_ENABLED=0 go test -c -o posix.test ./test/posix
//	ZEROFS_POSIX_DIR=/mnt ./posix.test
//
// ZEROFS_POSIX_SKIP is a regular expression of rows ("call/row") which the file system at hand cannot pass, whatever
// its server does.
package posix
