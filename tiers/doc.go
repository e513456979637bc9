// Package tiers gives Pebble a directory whose table files live on NVMe first and in the bucket
// later.
//
// FS is the directory, a vfs.FS. The last element of a path is the name, and the name alone
// decides what a file is:
//
//	*.sst *.blob              table file: sealed, on the NVMe tier; dirty when synced, clean once a
//	                          Commit in the log names it, and then it may be evicted and is read
//	                          from the bucket through the part cache
//	MANIFEST-* OPTIONS-*      meta file: a sealed log here; its synced bytes travel in Commits
//	marker.*                  a name without bytes; travels in Commits
//	*.dbtmp                   a meta file that stays here until it is renamed
//	LOCK, *.log, others       in memory only (Lock locks a real file)
//
// # Invariants
//
//   - A table file is clean if and only if the newest Commit known names its object under its name.
//     Nothing local says so: Open compares the map with what the log says at its head.
//   - What a Commit says is durable here before the Commit is sent, so that the log never knows a
//     name or a byte that a crash could take back here.
//   - Before a MANIFEST record is written, even to the page cache, the journal is durable up to what
//     it was handed when Sync was called (Options.Barrier), and so is the map. So a MANIFEST names
//     only table files that are durable under their names, and the tree never knows a change that
//     the journal lost.
//   - Local bytes are removed only after the map says durably that their name is gone, and after the
//     last handle and the last round that captured them let go.
//   - Every Create of a table file draws a new id and a new object name, whatever the name stood
//     for before: file numbers come back after a takeover.
//   - Deltas build on the last Commit that was answered. A Commit is waited for to its end, by the
//     next round if the caller went away; after one that failed there is no other.
//
// # Format
//
// Dir holds sealed logs (package seal) and nothing that tells a name: map, meta-<id> for each meta
// file that was ever synced, and LOCK. Integers are little-endian; n is an unsigned varint.
//
// A record of the map:
//
//	offset  size  field
//	0       4     length of what follows
//	4       1     version, 1
//	5       8     number of the record; each is one more than the one before it
//	13            operations
//
//	1 n name, 16 id, n object, n size    name is a complete table file of size bytes of plaintext
//	2 n name, 16 id                      name is a meta file; an id of zeros has no bytes
//	3 n name                             name is gone
//	4 n name, n bytes                    the meta file was synced up to there
//
// A record of a meta file, one for each Sync:
//
//	0       4     length of what follows
//	4       8     number of the last map record that was durable before
//	12            bytes appended to the file
//
// The two vouch for each other: a map that lacks a record which a meta file names, and a meta file
// shorter than the map says, are damaged and not torn. Only the very last synced record of a
// process that was killed cannot be told from a torn one.
//
// An object is files/<epoch, 16 hex digits>-<random, 32 hex digits>.sst or .blob: a sealed file,
// byte for byte the local copy.
//
// # Concurrency
//
// Any goroutine may call any method of FS; files follow the rules of vfs.File, and any goroutine
// may call ReadAt of a table file. One round of write-back runs at a time. The order of locks is
// metaFile.syncMu, FS.flushMu, FS.mu; readahead.mu, fetcher.mu. None is held across a read of disk
// or store; the first two are held across writes of the small files they are about.
package tiers
