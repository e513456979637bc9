// Package pipeline serves connections on which a client has many requests under way and takes the
// answers in any order. It has what such protocols share: listeners and their end, admission of
// requests within bounds of memory, workers, time limits for slow clients, and one coalescing writer
// for each connection. What a request means is the business of a Session.
//
// # Invariants
//
//   - Server.Wait is asked before every write of answers to a socket. When it fails, nothing more
//     is answered on that connection.
//   - Answers are written in the order in which they were posted.
//   - Memory is bounded by what was admitted, never by a length that a client named: buffers are
//     taken after their length was checked and counted.
//   - A client that stalls, in its greeting, within a request or in reading its answers, loses its
//     connection when the time limit passes. Others keep a reserve that it cannot take.
//   - No goroutine, request or session outlives the Serve that began it.
//
// # Concurrency
//
// Each connection has one goroutine that reads, in Session.Serve. It answers what it can at once, or
// gives requests to workers, so that none waits for another. Whoever finishes a request while nobody
// writes to the socket becomes the writer until no answer is left, so that answers which come
// together leave in one system call and a lone request takes no detour over further goroutines.
package pipeline
