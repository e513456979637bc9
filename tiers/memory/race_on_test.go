//go:build race

package memory

// raceEnabled says that tests of one goroutine, which are slow with the race detector, are of no use.
const raceEnabled = true
