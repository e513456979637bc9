package engine

import (
	"encoding/binary"
	"fmt"
	"time"
)

// FileType is the kind of a file, numbered as in POSIX's S_IFMT shifted right by 12.
type FileType uint8

// The types of file.
const (
	TypeFIFO    FileType = 1
	TypeChar    FileType = 2
	TypeDir     FileType = 4
	TypeBlock   FileType = 6
	TypeRegular FileType = 8
	TypeSymlink FileType = 10
	TypeSocket  FileType = 12
)

func (t FileType) valid() bool {
	switch t {
	case TypeFIFO, TypeChar, TypeDir, TypeBlock, TypeRegular, TypeSymlink, TypeSocket:
		return true
	}
	return false
}

// Attr is what an inode says of itself. Times are Unix nanoseconds.
type Attr struct {
	Type       FileType
	Mode       uint32 // permission bits, setuid, setgid and sticky: 07777 at most
	UID, GID   uint32
	Nlink      uint32
	Rdev       uint64
	Size       uint64 // bytes; of a directory, its number of entries
	Blocks     uint64 // bytes of chunks that hold data; a device's as last counted
	Atime      int64
	Mtime      int64
	Ctime      int64  // grows with each change, so that it tells any two states apart
	Btime      int64  // birth
	Generation uint64 // of this use of the number; numbers are never used twice, so always 1
	Flags      uint32
	Parent     Ino    // of a directory; zero for others
	Cookie     uint64 // of a directory: the last cookie that an entry of it was given
	Verifier   uint64 // of the exclusive creation that made the file, or zero

	dense uint64 // see alloc.go
	acl   *acls  // nil without ACLs; what it points to never changes
}

// Flags of an inode.
const (
	flagGroups     uint32 = 1 << iota // it has allocation records
	flagXattrs                        // it may have extended attributes
	flagACL                           // of these, ACLs
	flagCapability                    // and security.capability
	flagDevice                        // it is a block device, or the directory of them
)

// Device reports whether the inode is a block device's file, or the directory of them.
func (a *Attr) Device() bool { return a.Flags&flagDevice != 0 }

const (
	attrVersion = 2
	attrLen     = 118
)

// appendAttr encodes a as the package documentation's table says.
func appendAttr(dst []byte, a *Attr) []byte {
	be := binary.BigEndian
	dst = append(dst, attrVersion, byte(a.Type))
	dst = be.AppendUint32(dst, a.Mode)
	dst = be.AppendUint32(dst, a.UID)
	dst = be.AppendUint32(dst, a.GID)
	dst = be.AppendUint32(dst, a.Nlink)
	dst = be.AppendUint32(dst, a.Flags)
	dst = be.AppendUint64(dst, a.Rdev)
	dst = be.AppendUint64(dst, a.Size)
	dst = be.AppendUint64(dst, uint64(a.Atime))
	dst = be.AppendUint64(dst, uint64(a.Mtime))
	dst = be.AppendUint64(dst, uint64(a.Ctime))
	dst = be.AppendUint64(dst, uint64(a.Btime))
	dst = be.AppendUint64(dst, a.Generation)
	dst = be.AppendUint64(dst, uint64(a.Parent))
	dst = be.AppendUint64(dst, a.Cookie)
	dst = be.AppendUint64(dst, a.Blocks)
	dst = be.AppendUint64(dst, a.dense)
	return be.AppendUint64(dst, a.Verifier)
}

// decodeAttr is appendAttr's inverse. It refuses what a newer version wrote.
func decodeAttr(b []byte) (Attr, error) {
	if len(b) != attrLen || b[0] != attrVersion {
		return Attr{}, fmt.Errorf("%w: attributes of %d bytes, %x", ErrCorrupt, len(b), b[:min(len(b), 2)])
	}
	be := binary.BigEndian
	a := Attr{
		Type: FileType(b[1]), Mode: be.Uint32(b[2:]), UID: be.Uint32(b[6:]), GID: be.Uint32(b[10:]),
		Nlink: be.Uint32(b[14:]), Flags: be.Uint32(b[18:]), Rdev: be.Uint64(b[22:]), Size: be.Uint64(b[30:]),
		Atime: int64(be.Uint64(b[38:])), Mtime: int64(be.Uint64(b[46:])), Ctime: int64(be.Uint64(b[54:])),
		Btime: int64(be.Uint64(b[62:])), Generation: be.Uint64(b[70:]), Parent: Ino(be.Uint64(b[78:])), Cookie: be.Uint64(b[86:]),
		Blocks: be.Uint64(b[94:]), dense: be.Uint64(b[102:]), Verifier: be.Uint64(b[110:]),
	}
	if !a.Type.valid() {
		return Attr{}, fmt.Errorf("%w: attributes with file type %d", ErrCorrupt, a.Type)
	}
	return a, nil
}

// changed stamps a change made at now. The change time grows even where the clock does not.
func (a *Attr) changed(now int64) { a.Ctime = max(now, a.Ctime+1) }

// modified stamps a change of the content.
func (a *Attr) modified(now int64) {
	a.changed(now)
	a.Mtime = a.Ctime
}

func nanos(t time.Time) int64 { return t.UnixNano() }
