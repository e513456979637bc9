package tiers

import (
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"

	"zerofs/fence"
	"zerofs/tiers/seal"
)

// class says what a name in the directory stands for. The name alone decides it.
type class uint8

const (
	classScratch class = iota // in memory only: LOCK, *.log
	classTable                // *.sst, *.blob: a table file of the NVMe tier
	classMeta                 // MANIFEST-*, OPTIONS-*: a sealed log that travels in Commits
	classMarker               // marker.*: a name without bytes that travels in Commits
	classTemp                 // *.dbtmp: a sealed log that stays here until it is renamed
)

// classify returns the class of a base name.
func classify(name string) class {
	switch {
	case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".blob"):
		return classTable
	case strings.HasSuffix(name, ".dbtmp"):
		return classTemp
	case strings.HasPrefix(name, "MANIFEST-"), strings.HasPrefix(name, "OPTIONS-"):
		return classMeta
	case strings.HasPrefix(name, "marker."):
		return classMarker
	default:
		return classScratch
	}
}

// travels reports whether a Commit carries the name and its bytes.
func (c class) travels() bool { return c == classMeta || c == classMarker }

// isManifest reports whether the bytes of name may reach the disk only behind the journal.
func isManifest(name string) bool { return strings.HasPrefix(name, "MANIFEST-") }

// hidesErrors reports whether the name is that of a file whose errors Pebble does not survive.
func hidesErrors(name string) bool { return strings.HasSuffix(name, ".blob") }

// objectPrefix begins the key of every table file's object.
const objectPrefix = "files/"

// objectName returns the key of a table file's object: files/<epoch>-<random>.<extension>. The
// epoch keeps the owners of a volume apart, since file numbers repeat after a takeover.
func objectName(epoch fence.Epoch, random [16]byte, name string) string {
	return fmt.Sprintf("%s%016x-%s%s", objectPrefix, uint64(epoch), hex.EncodeToString(random[:]), path.Ext(name))
}

// tableEpoch returns the epoch in the key of a table file's object; ok is false for every other key.
func tableEpoch(object string) (epoch fence.Epoch, ok bool) {
	name, found := strings.CutPrefix(object, objectPrefix)
	if !found || classify(name) != classTable {
		return 0, false
	}
	digits, _, found := strings.Cut(name, "-")
	if !found || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return fence.Epoch(n), err == nil
}

// Names of the files on the local disk. They tell nothing of what Pebble calls them.
const (
	mapName     = "map"     // the directory's map
	mapNextName = "map.new" // its successor while it is written
	metaPrefix  = "meta-"   // then the hexadecimal id of the sealed log
)

// metaName returns the local name of the sealed log with the given id.
func metaName(id seal.FileID) string { return metaPrefix + hex.EncodeToString(id[:]) }
