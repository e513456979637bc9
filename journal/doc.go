// Package journal is the write-back journal: where a write first becomes durable, and where a
// change may exist with no copy in the object store. It is Pebble's write-ahead log, kept outside
// of Pebble so that an fsync costs one direct write to zero-filled blocks that are written again
// and again, and nothing else.
//
// # Words
//
// A segment is one file of the ring. A record is what one Append gave. A run is what one write
// puts on disk: all records that waited, sealed together (the group commit). A turn is the time
// from one Start to the end of the process; each turn has a key of its own.
//
// # Invariants
//
//   - LSNs start at 1 and have no gaps. Append hands them out in call order.
//   - Runs are written in LSN order, at most two at a time, and answered in LSN order.
//   - A record is durable when its run and every run before it are on disk.
//   - Replay returns every record that Sync covered, in order, and nothing after a gap.
//   - A segment is used again only when Release has passed all its records, oldest first.
//   - No nonce is used twice: a turn's key comes from 128 random bits, and within a turn no LSN
//     begins two runs and no sequence number is given to two segments.
//   - A write error is final. Nothing is written or acknowledged after it.
//   - Append never fails for want of space that Reserve granted.
//
// # Format
//
// Files are named %06d.seg and are multiples of 4096 bytes long. The first block is the segment's
// header; runs follow, each on a block boundary. Integers are little-endian.
//
// Segment header, written once per use of the segment together with a block of zeros behind it,
// and before any run of that use:
//
//	offset  size  field
//	0       8     magic "ZFS-SEG\n"
//	8       4     version, 1
//	12      4     zero
//	16      16    salt of the turn
//	32      8     sequence of the segment: grows by one with each use of any segment
//	40      8     epoch of the writer
//	48      8     kept: the last LSN before this turn; records of older turns above it are void
//	56      8     oldest: the first LSN that the ring held when this was written
//	64      8     durable: the highest LSN known durable when this was written
//	72      16    tag: the header's bytes above, authenticated
//	88      4008  zeros
//
// Run:
//
//	offset  size  field
//	0       4     magic "ZRUN"
//	4       2     flags: 1 = S2, 2 = mark (no records; written once, by Close)
//	6       2     zero
//	8       16    salt, as in the segment's header
//	24      8     sequence, as in the segment's header
//	32      8     first LSN (of a mark: the next that would be given)
//	40      4     number of records
//	44      4     raw length: bytes of the records before compression
//	48      4     stored length n: bytes of the records as sealed, without the tag
//	52      4     block number in the segment
//	56      8     epoch, as in the segment's header
//	64      8     durable: the highest LSN known durable when this was written
//	72      8     oldest: the first LSN that the ring held when this was written
//	80      n     records, sealed; the header above is authenticated with them
//	80+n    16    tag
//	96+n          zeros to the next block boundary
//
// Records, before compression and sealing: for each a length of 4 bytes, then its payload.
//
// The AEAD is the volume's cipher under the sub-key of label "journal" and the turn's salt. The
// nonce is 12 bytes: an LSN or sequence (8), then a part (4). Runs take (first LSN, 0), the mark
// (first LSN, 1), segment headers (sequence, 0xffffffff).
//
// Ship's body, which Batches makes and DecodeBatches reads; whoever ships it seals it:
//
//	offset  size  field
//	0       1     version, 1
//	1       1     flags: 1 = S2
//	2       2     zero
//	4       4     number of records
//	8       8     first LSN
//	16      4     raw length
//	20            records as above, S2-compressed as one block if the flag says so
//
// # Torn tail and damage
//
// Two runs in flight mean that a crash can leave a valid run beyond a torn one. The end of the
// journal is therefore found from what is known to have been durable: every valid header and run
// of the newest turn names an LSN, and the caller of Replay gives one. An unreadable or missing
// record at or below the highest of these is damage (ErrCorrupt, with file and offset). Above it,
// records count as long as they follow one another; what comes after the first that cannot be read
// is a torn tail. The next Start writes its header to another segment, and that header's kept
// makes the torn remains void for good.
//
// The very last run that was acknowledged before a crash is named by nobody. If the disk loses or
// damages it, that cannot be told from a torn tail. After a clean Close it can: the mark names it.
//
// Stale runs of a segment's former use are never taken for current: salt and sequence are in
// every run and authenticated.
//
// # Concurrency
//
// Open, Replay and Start are called in that order by one goroutine; after Start any goroutine may
// call any method but those. Journal.mu guards the state. It is the only lock and is never held
// across disk I/O, compression or sealing. Sync writes in the caller's goroutine when a slot
// is free; two writer goroutines take over under load, and a third one prepares segments.
package journal
