// Package fence decides who may write a volume: the fenced log. docs/design/fence.md tells what
// a crash leaves at each step, and how the protocol was explored.
//
// # Objects
//
//	log/<seq, 16 hex digits>              one sealed record each, at most 256 KiB; put-if-absent; never rewritten
//	log-base                              a hint where a listing may begin; may be stale or wrong
//	files/<epoch>-<id>.ship .commit .base bodies too large for a record, put-if-absent, before their record
//
// # Invariants
//
//   - The records that count form one run of consecutive numbers that ends at the highest, each
//     naming the one before it by hash. What its successor does not name is stray and ignored.
//   - An append is put-if-absent at head+1, repeated with the same bytes until it is answered, and
//     one at a time. Another record in its slot ends the turn (ErrFenced), for good.
//   - An append whose answer came more than half a lease after the last look at the head counts only
//     if the record before it is still the one whose hash it carries, and none is above it.
//   - Requests are answered only while the last append that succeeded was started less than one
//     lease ago.
//   - The nonce of every Claim, Ship, Commit, Base and Release is in the lineage file before the
//     record is sent. The local directory wins only if the newest record that it is known to
//     contain is in the log, and every such record above that carries a nonce from the file.
//   - Records are deleted only below a Base and below every Ship that is still needed, and only when
//     older than the retention by the store's clock; lower ones in no later request than higher ones.
//   - The highest sequence number seen is remembered; a log that ends below it, or lacks a record
//     above its Base, is refused (ErrRolledBack).
//
// The decisions are functions without clock or store, in rules.go; the model in the tests explores
// those very functions.
//
// # Format of a record
//
// Integers are little-endian; strings and bytes have their length in front (4 bytes).
//
//	offset  size  field
//	0       4     "ZFSL"
//	4       1     version, 1
//	5       3     zero
//	8       24    random nonce of XChaCha20-Poly1305
//	32      n+16  sealed plaintext and tag; AAD is bytes 0..7, the volume's id and seq (8, big-endian)
//
//	offset  size  plaintext
//	0       1     kind: 1 Claim, 2 Renew, 3 Ship, 4 Commit, 5 Base, 6 Pin, 7 Unpin, 8 Release
//	1       1     form: 0 the body is in the record, 1 it is in an object (Ship, Commit and Base only)
//	2       6     zero
//	8       8     epoch
//	16      16    nonce
//	32      32    SHA-256 of the stored bytes of record seq-1; zero for the first
//	64            by kind
//
//	Claim      directory id (16), boot id (16), device (8), inode (8), local (1), durability (1), lease in ns (8), owner (string)
//	Ship       first LSN (8), last LSN (8), body: the journal's
//	Commit     LSN (8), body
//	Base       the record that it stands for (8), body; records between that one and the Base come on top
//	Pin, Unpin name (string); reserved: this version refuses a log that has them
//	Renew, Release  nothing
//
// A body in an object is written as id (16), size in bytes (8) and key (string). The object is a sealed
// file (package seal) under that id.
//
//	Commit body   count (4) of deltas: name (string), offset (8), removed (1), data (bytes)
//	              count (4) of tables added: name (string), object (string), size (8), file id (16)
//	              count (4) of names dropped (string)
//	Base body     LSN of the newest Commit (8), seq of the newest Claim (8), that Claim as above
//	              count (4) of tables, by name; count (4) of meta files, by name: name (string), data (bytes)
//	              count (4) of Ships not covered: seq (8), first (8), last (8), hash of the record (32),
//	              in an object (1), then id, size and key of the body, or its size (8)
//	              count (4) of objects to be deleted, by name (string)
//	log-base      "ZFHN", zero (4), first seq to list (8, big-endian)
//
// # Format of the lineage file
//
// Two slots of 4 KiB, written in turn, each holding the same 2048 bytes twice:
//
//	offset  size  field
//	0       4     "ZFLN"
//	4       4     version 1, zero (3)
//	8       24    random nonce of XChaCha20-Poly1305
//	32      2016  sealed plaintext and tag; AAD is bytes 0..7, the volume's id and the slot's number (1)
//
//	offset  size  plaintext
//	0       8     counter; the higher one counts
//	8       8     highest seq seen in the log
//	16      8     seq of the newest record that the directory is known to contain (adopted); zero for none
//	24      32    its hash
//	56      4     count of pending nonces, at most 80
//	60      4     zero
//	64      24×n  seq (8) that the record was sent to, nonce (16); zeros after that
//
// # Concurrency
//
// Any goroutine may call any method of an Owner. Two goroutines belong to it: one appends, one makes
// Bases and trims; Release and Close end them. Valid takes no lock.
package fence
