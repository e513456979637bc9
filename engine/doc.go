// Package engine is what a file is: inodes, dentries and chunks as keys of one LSM (Pebble), and the one
// order in which changes are committed. It stands between the protocol servers above and the journal
// and the tiers below. docs/design/engine.md says why it is built as it is.
//
// # Invariants
//
//   - The tree is the result of exactly the records 1 to Applied of the log, in that order; what table
//     files hold durably is the result of exactly those up to Flushed. Both LSNs are read from the tree.
//   - A change is in the log before it is in the tree. A change that the log refused is seen nowhere.
//   - Every operation of a record is absolute: applying a suffix of the log again changes nothing.
//   - An inode number is never used twice.
//   - Nothing that lies beyond a file's size is stored: a larger size shows zeros.
//   - An all-zero chunk is an absent key, or a value without bytes.
//   - No lock is held while the tree is read. The write path reads nothing, but for a record of allocation
//     before a write to a part of a file that was not written from its beginning to its end.
//   - A name in memory means what it means in the tree, or is marked as changing (dcache.go). An inode in
//     use or in the cache has one node, whose attributes are the tree's.
//
// # Keys
//
// Integers in keys are big-endian, so that order is meaning.
//
//	key                      value
//	c inode(8) index(8)      chunk, see below
//	i inode(8)               attributes, see below
//	d dir(8) name            inode(8) type(1) cookie(8)
//	r dir(8) cookie(8)       inode(8) type(1) name; the order of ReadDir
//	x inode(8) name          extended attribute
//	b inode(8) group(8)      which of 4096 chunks there are, see alloc.go: a bit each, 64-bit words
//	                         little-endian, without the zero bytes at the end
//	s inode(8)               target of a symbolic link
//	o inode(8)               empty; unlinked, removed with its last user or at the next start
//	m "lsn"                  last LSN applied (8)
//	m "next"                 next inode number (8)
//	m "chunk"                chunk size in bytes (8)
//	m "usage"                bytes of data (8), inodes (8)
//
// # Chunk values
//
// The last byte is the kind. Kind 1 is a whole chunk: the bytes before it are the chunk's, and what is
// missing at the chunk's end is zeros. Kind 2 is a merge operand, a list of runs; what they do not cover
// is as it was. A run:
//
//	size     field
//	uvarint  gap: bytes from the end of the run before it, or from the chunk's start
//	uvarint  2 × length + 1 for zeros, 2 × length for bytes; length > 0
//	length   the bytes, unless zeros
//
// Runs are ordered, within the chunk, and neighbours of one kind do not touch. Numbers are in their
// shortest form. Anything else is refused.
//
// # Attributes
//
//	offset  size  field             offset  size  field
//	0       1     version, 2        46      8     mtime, ns
//	1       1     type              54      8     ctime, ns
//	2       4     mode              62      8     birth time, ns
//	6       4     uid               70      8     generation
//	10      4     gid               78      8     parent, of a directory
//	14      4     link count        86      8     last cookie, of a directory
//	18      4     flags             94      8     bytes of chunks with data
//	22      8     rdev              102     8     dense, see alloc.go
//	30      8     size in bytes;    110     8     verifier of an exclusive creation
//	              of a directory,
//	              entries
//	38      8     atime, ns
//
// # Records of the log
//
// A record is a Pebble batch that begins by setting the LSN key; record.go has the table.
//
// # Concurrency
//
// Any goroutine may call any method, except that Replay comes before Start, from one goroutine.
// Locks, in order: Engine.moving; nodes' dir, by inode number; a node's stripes, ascending; its meta; its allocs;
// the commit lock; short ones that guard maps and counters. Waiting for room (Gate, Reserve) comes before all of
// them. Readers take none: a read that runs beside a write sees each chunk before it or after it.
package engine
