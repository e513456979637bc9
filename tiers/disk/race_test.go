//go:build race

package disk

// raceEnabled: the race detector makes sync.Pool forget at random.
const raceEnabled = true
