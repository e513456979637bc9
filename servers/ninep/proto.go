package ninep

import "zerofs/servers/pipeline"

// Types of messages. A T-message asks, the R-message of the next number answers.
const (
	msgRlerror      = 7
	msgTstatfs      = 8
	msgTlopen       = 12
	msgTlcreate     = 14
	msgTsymlink     = 16
	msgTmknod       = 18
	msgTrename      = 20
	msgTreadlink    = 22
	msgTgetattr     = 24
	msgTsetattr     = 26
	msgTxattrwalk   = 30
	msgTxattrcreate = 32
	msgTreaddir     = 40
	msgTfsync       = 50
	msgTlock        = 52
	msgTgetlock     = 54
	msgTlink        = 70
	msgTmkdir       = 72
	msgTrenameat    = 74
	msgTunlinkat    = 76
	msgTversion     = 100
	msgTauth        = 102
	msgTattach      = 104
	msgTflush       = 108
	msgTwalk        = 110
	msgTread        = 116
	msgTwrite       = 118
	msgTclunk       = 120
	msgTremove      = 122

	messages = 128 // above every known type
)

// What a version says, see negotiate.
const (
	version        = "9P2000.L"
	versionUnknown = "unknown"
)

// Numbers that stand for none.
const (
	noFid = ^uint32(0)
	noUID = ^uint32(0)
)

// Sizes of headers in bytes, and limits.
const (
	headerSize     = 7               // of every message
	ioSize         = headerSize + 16 // of Tread and Tread's kin: fid, offset, count
	dataHeaderSize = headerSize + 4  // before the data of Rread and Rreaddir
	qidSize        = 13

	// ioOverhead is what clients take off msize for the largest read or write.
	ioOverhead = 24

	// MaxMsize is the largest message that a client may negotiate, in bytes.
	MaxMsize = 8<<20 + ioOverhead
	minMsize = 4096
	maxFirst = 4096 // a Tversion, while nothing is negotiated

	maxSmall   = 32 << 10 // a message without data
	maxWalk    = 16       // names of one Twalk
	maxName    = 255
	maxReaddir = 64 << 10 // data of one Rreaddir
	maxXattr   = 64 << 10 // value of an extended attribute, or list of names
)

// Every payload fits a buffer, and every small message what can be taken at once.
const (
	_ = uint(pipeline.BufferMax - MaxMsize)
	_ = uint(pipeline.Buffered - maxSmall)
	_ = uint(pipeline.Headroom - dataHeaderSize)
)

// Bits of a qid's type.
const (
	qidDir     = 0x80
	qidSymlink = 0x02
)

// Flags of Tlopen and Tlcreate: Linux's numbers on every system.
const (
	openAccess    = 0o3 // mask: 0 read, 1 write, 2 both
	openCreate    = 0o100
	openExclusive = 0o200
	openTruncate  = 0o1000
	openAppend    = 0o2000
	openDataSync  = 0o10000
	openDirectory = 0o200000
	openSync      = 0o4000000
)

// Bits of Tsetattr.
const (
	setMode     = 1 << 0
	setUID      = 1 << 1
	setGID      = 1 << 2
	setSize     = 1 << 3
	setAtime    = 1 << 4
	setMtime    = 1 << 5
	setCtime    = 1 << 6
	setAtimeSet = 1 << 7 // to the time sent; without it to now
	setMtimeSet = 1 << 8

	setAll = 1<<9 - 1
)

// getAll are the bits of Rgetattr: all that the protocol knows, and all are always there.
const getAll = 0x3fff

// unlinkDir is AT_REMOVEDIR.
const unlinkDir = 0x200

// Types and answers of Tlock.
const (
	lockShared    = 0
	lockExclusive = 1
	lockUnlock    = 2

	lockFlagBlock = 1

	lockSuccess = 0
	lockBlocked = 1
	lockError   = 2
)

// Flags of Txattrcreate, as setxattr(2).
const (
	xattrCreate  = 1
	xattrReplace = 2
)

// statfsMagic is V9FS_MAGIC, what statfs(2) shows as the type.
const statfsMagic = 0x01021997
