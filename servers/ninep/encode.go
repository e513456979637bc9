package ninep

import (
	"encoding/binary"

	"zerofs/engine"
)

// qid is the server's name for a file.
//
//	0  1  type: 0x80 directory, 0x02 symbolic link
//	1  4  version: changes when the file does, never 0
//	5  8  path: the inode number
type qid struct {
	typ     uint8
	version uint32
	path    uint64
}

// qidOf returns the qid of an inode. Its version is made of the times, so that a client which keeps
// data knows whether they are still those; Linux takes 0 for a file that must not be kept.
func qidOf(ino engine.Ino, a *engine.Attr) qid {
	q := qid{typ: qidType(a.Type), path: uint64(ino)}
	t := dataVersion(a)
	q.version = max(uint32(t)^uint32(t>>32), 1)
	return q
}

func qidType(t engine.FileType) uint8 {
	switch t {
	case engine.TypeDir:
		return qidDir
	case engine.TypeSymlink:
		return qidSymlink
	}
	return 0
}

// dataVersion mixes the times of the last changes; both count, since mtime alone can be set back.
func dataVersion(a *engine.Attr) uint64 {
	return (uint64(a.Ctime) ^ uint64(a.Mtime)<<1) * 0x9e3779b97f4a7c15
}

// The answer is built in place: begin, the fields, end.

// begin makes room for a header. dst must be empty.
func begin(dst []byte) []byte { return append(dst[:0], make([]byte, headerSize)...) }

// putHeader writes the header of a message of n bytes into p.
//
//	0  4  size, of the whole message
//	4  1  type
//	5  2  tag
func putHeader(p []byte, n int, typ uint8, tag uint16) {
	binary.LittleEndian.PutUint32(p, uint32(n))
	p[4] = typ
	binary.LittleEndian.PutUint16(p[5:], tag)
}

// putData writes what goes before n bytes of data in Rread and Rreaddir: the header and count[4].
func putData(p []byte, n int, typ uint8, tag uint16) {
	putHeader(p, dataHeaderSize+n, typ, tag)
	binary.LittleEndian.PutUint32(p[headerSize:], uint32(n))
}

func appendString(dst []byte, s string) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

func appendQid(dst []byte, q qid) []byte {
	dst = append(dst, q.typ)
	dst = binary.LittleEndian.AppendUint32(dst, q.version)
	return binary.LittleEndian.AppendUint64(dst, q.path)
}

// appendDirent appends an entry of Rreaddir: qid[13] offset[8] type[1] name[s]. The type is that of
// readdir(3).
func appendDirent(dst []byte, q qid, offset uint64, typ engine.FileType, name string) []byte {
	dst = appendQid(dst, q)
	dst = binary.LittleEndian.AppendUint64(dst, offset)
	dst = append(dst, byte(typ))
	return appendString(dst, name)
}

// direntSize is what appendDirent appends.
func direntSize(name string) int { return qidSize + 8 + 1 + 2 + len(name) }

// appendAttr appends the fields of Rgetattr:
//
//	valid[8] qid[13] mode[4] uid[4] gid[4] nlink[8] rdev[8] size[8] blksize[8] blocks[8]
//	atime[16] mtime[16] ctime[16] btime[16] gen[8] data_version[8]
//
// A time is seconds[8] and nanoseconds[8].
func appendAttr(dst []byte, q qid, a *engine.Attr) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, getAll)
	dst = appendQid(dst, q)
	dst = le.AppendUint32(dst, uint32(a.Type)<<12|a.Mode)
	dst = le.AppendUint32(dst, a.UID)
	dst = le.AppendUint32(dst, a.GID)
	dst = le.AppendUint64(dst, uint64(a.Nlink))
	dst = le.AppendUint64(dst, a.Rdev)
	dst = le.AppendUint64(dst, a.Size)
	dst = le.AppendUint64(dst, blockSize)
	dst = le.AppendUint64(dst, (a.Blocks+511)/512)
	for _, t := range [...]int64{a.Atime, a.Mtime, a.Ctime, a.Btime} {
		sec, nsec := split(t)
		dst = le.AppendUint64(dst, uint64(sec))
		dst = le.AppendUint64(dst, uint64(nsec))
	}
	dst = le.AppendUint64(dst, a.Generation)
	return le.AppendUint64(dst, dataVersion(a))
}

// blockSize is what st_blksize says: the size in bytes that programs read and write by.
const blockSize = 64 << 10

// split returns Unix nanoseconds as seconds, rounded down, and what is left.
func split(t int64) (sec, nsec int64) {
	sec, nsec = t/1e9, t%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return sec, nsec
}

// appendStatFS appends the fields of Rstatfs:
//
//	type[4] bsize[4] blocks[8] bfree[8] bavail[8] files[8] ffree[8] fsid[8] namelen[4]
func appendStatFS(dst []byte, s *engine.StatFS) []byte {
	le, size := binary.LittleEndian, max(uint64(s.BlockSize), 1)
	dst = le.AppendUint32(dst, statfsMagic)
	dst = le.AppendUint32(dst, uint32(size))
	for _, v := range [...]uint64{s.Total / size, s.Free / size, s.Avail / size, s.Files, s.FreeFiles, s.ID} {
		dst = le.AppendUint64(dst, v)
	}
	return le.AppendUint32(dst, s.NameMax)
}
