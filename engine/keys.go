package engine

import (
	"encoding/binary"
	"fmt"
)

// Ino is an inode's number. Numbers start at RootIno and are never used twice; zero is none.
type Ino uint64

// RootIno is the root directory's inode.
const RootIno Ino = 1

// ChunkIndex counts the chunks of a file from zero.
type ChunkIndex uint64

// NameMax is the length of the longest name in a directory, in bytes.
const NameMax = 255

// First bytes of keys, as the package documentation lists them.
const (
	prefixChunk   = 'c'
	prefixInode   = 'i'
	prefixDentry  = 'd'
	prefixReaddir = 'r'
	prefixXattr   = 'x'
	prefixGroup   = 'b'
	prefixSymlink = 's'
	prefixOrphan  = 'o'
	prefixState   = 'm'
)

const (
	chunkKeyLen   = 17
	inodeKeyLen   = 9
	readdirKeyLen = 17
	groupKeyLen   = 17
)

// Names of the volume's state, below prefixState.
const (
	stateLSN   = "lsn"   // last LSN applied, 8 bytes
	stateNext  = "next"  // next inode number, 8 bytes
	stateChunk = "chunk" // chunk size in bytes, 8 bytes
	stateUsage = "usage" // what the volume holds, 16 bytes
)

func putChunkKey(dst []byte, ino Ino, index ChunkIndex) {
	_ = dst[chunkKeyLen-1]
	dst[0] = prefixChunk
	binary.BigEndian.PutUint64(dst[1:], uint64(ino))
	binary.BigEndian.PutUint64(dst[9:], uint64(index))
}

func appendChunkKey(dst []byte, ino Ino, index ChunkIndex) []byte {
	dst = append(dst, prefixChunk)
	dst = binary.BigEndian.AppendUint64(dst, uint64(ino))
	return binary.BigEndian.AppendUint64(dst, uint64(index))
}

// chunkOfKey returns the index in a chunk's key; the key must be one.
func chunkOfKey(key []byte) (ChunkIndex, error) {
	if len(key) != chunkKeyLen || key[0] != prefixChunk {
		return 0, fmt.Errorf("%w: chunk key %x", ErrCorrupt, key)
	}
	return ChunkIndex(binary.BigEndian.Uint64(key[9:])), nil
}

func appendInodeKey(dst []byte, ino Ino) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefixInode), uint64(ino))
}

func appendOrphanKey(dst []byte, ino Ino) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefixOrphan), uint64(ino))
}

func appendDentryKey(dst []byte, dir Ino, name string) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, prefixDentry), uint64(dir))
	return append(dst, name...)
}

func appendReaddirKey(dst []byte, dir Ino, cookie uint64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, prefixReaddir), uint64(dir))
	return binary.BigEndian.AppendUint64(dst, cookie)
}

func appendXattrKey(dst []byte, ino Ino, name string) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, prefixXattr), uint64(ino))
	return append(dst, name...)
}

func appendGroupKey(dst []byte, ino Ino, group uint64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, prefixGroup), uint64(ino))
	return binary.BigEndian.AppendUint64(dst, group)
}

func appendSymlinkKey(dst []byte, ino Ino) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefixSymlink), uint64(ino))
}

func appendStateKey(dst []byte, name string) []byte {
	return append(append(dst, prefixState), name...)
}

// inoOfKey returns the inode number after the first byte of an inode's or orphan's key.
func inoOfKey(key []byte) (Ino, error) {
	if len(key) < inodeKeyLen {
		return 0, fmt.Errorf("%w: key %x", ErrCorrupt, key)
	}
	return Ino(binary.BigEndian.Uint64(key[1:])), nil
}

// A dentry's value: inode(8) type(1) cookie(8).
const dentryLen = 17

// dentry is what a name in a directory says.
type dentry struct {
	ino    Ino
	typ    FileType
	cookie uint64 // its place in the order of ReadDir, from 1
}

func appendDentry(dst []byte, d dentry) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(d.ino))
	dst = append(dst, byte(d.typ))
	return binary.BigEndian.AppendUint64(dst, d.cookie)
}

func decodeDentry(b []byte) (dentry, error) {
	if len(b) != dentryLen {
		return dentry{}, fmt.Errorf("%w: dentry of %d bytes", ErrCorrupt, len(b))
	}
	d := dentry{
		ino:    Ino(binary.BigEndian.Uint64(b)),
		typ:    FileType(b[8]),
		cookie: binary.BigEndian.Uint64(b[9:]),
	}
	if d.ino == 0 || d.cookie == 0 || !d.typ.valid() {
		return dentry{}, fmt.Errorf("%w: dentry %x", ErrCorrupt, b)
	}
	return d, nil
}

func decodeUint64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: number of %d bytes", ErrCorrupt, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func putUint64(dst []byte, v uint64) { binary.BigEndian.PutUint64(dst, v) }
