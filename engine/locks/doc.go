// Package locks is the table of advisory locks on files: byte ranges as fcntl(2) with F_SETLK and F_OFD_SETLK has
// them, and whole files as flock(2). The two kinds do not see each other. All protocols of a
// volume share one table, so that a lock holds against clients of each of them. Nothing is stored: locks
// end with the process that serves.
//
// # Invariants
//
//   - Two locks on a byte of one inode have one owner or are both shared.
//   - An owner's ranges on an inode neither overlap, nor touch where they are of one kind.
//   - Nobody waits in a ring: whoever would close one gets ErrDeadlock.
//
// # Concurrency
//
// Any goroutine may call any method. One mutex guards the table; only Set and Flock wait, without it.
package locks
