// Package fuse serves a volume to the Linux kernel of the machine that it runs on: a mount whose
// requests go-fuse reads from /dev/fuse and this package maps to the engine's calls. On other
// systems Mount fails. docs/design/fuse.md says why it is as it is.
//
// # Invariants
//
//   - An inode that the kernel knows (its lookup count is above zero) or has open is held, so that an
//     unlinked file lives until the kernel has forgotten it.
//   - Options.Wait is asked immediately before each answer, errors and attributes included. When it
//     fails for good, the answer is EIO.
//   - The kernel keeps names, attributes and pages for as long as it likes. Whatever another server
//     changes is taken from it by a notice that the engine causes (Watch).
//   - The kernel checks permissions, as it does for a disk's file system, and so does the engine, with
//     the caller's user, group and supplementary groups.
//   - An interrupt ends a wait for a lock. Other requests it ends only when the caller is being killed:
//     a signal that a process handles never makes its open or write fail.
//   - A write with O_SYNC or O_DSYNC, and an fsync, are answered when they are durable.
//
// # Format
//
// The kernel's FUSE protocol, version 7 (linux/fuse.h), which go-fuse encodes. Node ids are inode
// numbers; the root is 1 in both. Offsets in a directory: 1 is after ".", 2 after "..", and that of an
// entry is its cookie and two.
//
// # Concurrency
//
// go-fuse runs each request on a goroutine; requests wait for nothing but the engine, the lease and locks.
// Notices are written by one goroutine, since the kernel may hold a directory's lock for a request that
// is under way.
package fuse
