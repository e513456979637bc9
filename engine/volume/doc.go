// Package volume is one volume from its store and its directories: opened in the one order that
// is safe, drained towards the bucket while it serves, and closed so that the next owner need not
// wait.
//
// # Invariants
//
//   - Nothing is acknowledged that a crash could undo: fsync waits for the journal and, with
//     durability object, for the Ship that carries it.
//   - Directories are locked before anything in them is believed, and the log is read before the
//     local tree is: the tree is used only if the log says that nobody went on without it.
//   - What lost against the log is moved aside, never mixed in, and deleted only where it was left
//     with nothing that the bucket lacks and the log does not contradict that.
//   - The tree's LSN, the Ships and the journal join without a gap, or the volume does not open.
//   - A journal segment is released when the tree on the local disk has passed it and, with
//     durability object, the log as well.
//
// # Layout of the directories
//
//	<nvme>/lock      held while a process uses the directory
//	<nvme>/pair      id that ties both directories to each other and to the volume
//	<nvme>/lineage   what the fenced log and this directory have in common (package fence)
//	<nvme>/tree/     map and meta files of the tree (package tiers)
//	<nvme>/nvme/     table files and part cache (package tiers/nvme)
//	<nvme>/clean     there while nothing in the directories is missing in the bucket
//	<nvme>/refused   there while devices wait for an operator's word
//	<nvme>/lost/     what lost against the log
//	<journal>/lock, pair, ring/, lost/
//
// # Concurrency
//
// Any goroutine may call any method of Volume. Open and Close start and end all goroutines.
package volume
