// Package ninep serves a file system over 9P2000.L, the protocol of Linux's v9fs. docs/design/ninep.md
// says why the server is our own, and what it does where the protocol leaves a choice.
//
// # Invariants
//
//   - A message is answered after the file system has done it. Nothing is answered twice, or without
//     the lease (Server.Wait).
//   - The answer to Tflush comes after that of the message which it flushes.
//   - What a fid says never changes: a message that makes something else of its number puts another
//     fid in its place. A fid that is open keeps its inode until it is clunked, unlinked or not.
//   - No walk leaves the directory that was attached, upwards or by a name that is none.
//   - A client that is gone leaves no fid, lock, or inode in use behind. So does Tversion.
//   - Memory is bounded: messages by what pipeline admits, fids and the values of extended attributes
//     by quotas of server and connection.
//
// # Format
//
// The protocol's. The fields of each message stand at its type in decode.go, those of the answer at the
// method that gives it. Integers are little-endian; a string is its length in 2 bytes and so many bytes; a
// message begins with size[4] type[1] tag[2], the size being that of all of it.
//
// # Concurrency
//
// As package pipeline says: one goroutine of each connection reads. A Tread that the file system has in
// memory it answers itself, many in one write; Tversion and Tflush too. Everything else runs on
// workers, at the same time as others of the connection, and is answered in any order.
package ninep
