package nbd

import "encoding/binary"

// Magic numbers of the handshake and of the transmission phase.
const (
	magicServer     = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicOptReply   = 0x0003e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef
)

// Handshake flags of the server, and those a client answers with; the bits are the same.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Transmission flags of an export.
const (
	flagHasFlags        = 1 << 0
	flagSendFlush       = 1 << 2
	flagSendFUA         = 1 << 3
	flagSendTrim        = 1 << 5
	flagSendWriteZeroes = 1 << 6
	flagSendDF          = 1 << 7
	flagCanMultiConn    = 1 << 8
	flagSendCache       = 1 << 10
	flagSendFastZero    = 1 << 11

	exportFlags = flagHasFlags | flagSendFlush | flagSendFUA | flagSendTrim | flagSendWriteZeroes |
		flagCanMultiConn | flagSendCache | flagSendFastZero
)

// Options of the handshake.
const (
	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optStartTLS        = 5
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMetaContext = 9
	optSetMetaContext  = 10
)

// Replies to options.
const (
	repAck         = 1
	repServer      = 2
	repInfo        = 3
	repMetaContext = 4

	repErrUnsup    = 1<<31 + 1
	repErrPolicy   = 1<<31 + 2
	repErrInvalid  = 1<<31 + 3
	repErrTLSReqd  = 1<<31 + 5
	repErrUnknown  = 1<<31 + 6
	repErrShutdown = 1<<31 + 7
	repErrTooBig   = 1<<31 + 9
)

// Kinds of information about an export.
const (
	infoExport      = 0
	infoName        = 1
	infoDescription = 2
	infoBlockSize   = 3
)

// Commands.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdCache       = 5
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	commands = 8 // number of known commands
)

// Flags of commands.
const (
	cmdFlagFUA      = 1 << 0
	cmdFlagNoHole   = 1 << 1
	cmdFlagDF       = 1 << 2
	cmdFlagReqOne   = 1 << 3
	cmdFlagFastZero = 1 << 4
)

// Chunks of structured replies.
const (
	replyDone = 1 << 0 // flag: the last chunk

	replyNone        = 0
	replyOffsetData  = 1
	replyBlockStatus = 5
	replyError       = 1<<15 + 1
)

// Status flags of the base:allocation context, and our id for that context.
const (
	stateHole = 1 << 0
	stateZero = 1 << 1

	contextAllocation = "base:allocation"
	contextID         = 1
)

// Errors as the wire knows them; the numbers are the protocol's and not the host's.
const (
	errPerm     = 1
	errIO       = 5
	errNoMem    = 12
	errInvalid  = 22
	errNoSpace  = 28
	errNotSup   = 95
	errShutdown = 108
)

// Limits.
const (
	blockMin       = 1
	blockPreferred = 4096
	// MaxPayload is the largest READ or WRITE in bytes; clients are told.
	MaxPayload = 32 << 20

	maxDrain      = 2 * MaxPayload // payload of a refused WRITE that is read and thrown away
	maxOption     = 64 << 10       // data of one option, bytes
	maxName       = 4096           // the protocol's limit for strings, bytes
	maxDescriptor = 4096           // extents in one answer to BLOCK_STATUS
)

// Sizes of headers in bytes.
const (
	requestSize    = 28
	simpleSize     = 16
	structuredSize = 20
	offsetSize     = 8                           // of the offset that begins a data chunk
	readHeaderMax  = structuredSize + offsetSize // before the data of a READ
	errorChunkSize = structuredSize + 6
)

// header is a request as it stands on the wire.
//
//	offset  size  field
//	0       4     magic 0x25609513
//	4       2     command flags
//	6       2     command
//	8       8     cookie, returned in the answer
//	16      8     offset
//	24      4     length
type header struct {
	flags  uint16
	cmd    uint16
	cookie uint64
	off    uint64
	length uint32
}

// parseHeader reads a request header from the first requestSize bytes of p; ok is false when the
// magic is wrong, after which nothing on that connection can be trusted.
func parseHeader(p []byte) (h header, ok bool) {
	_ = p[requestSize-1]
	return header{
		flags:  binary.BigEndian.Uint16(p[4:]),
		cmd:    binary.BigEndian.Uint16(p[6:]),
		cookie: binary.BigEndian.Uint64(p[8:]),
		off:    binary.BigEndian.Uint64(p[16:]),
		length: binary.BigEndian.Uint32(p[24:]),
	}, binary.BigEndian.Uint32(p) == magicRequest
}

// putSimple writes a simple reply into the first simpleSize bytes of p.
//
//	0  4  magic 0x67446698
//	4  4  error, 0 for none
//	8  8  cookie
func putSimple(p []byte, errno uint32, cookie uint64) {
	binary.BigEndian.PutUint32(p, magicSimple)
	binary.BigEndian.PutUint32(p[4:], errno)
	binary.BigEndian.PutUint64(p[8:], cookie)
}

// putChunk writes the header of the only chunk of a structured reply into the first
// structuredSize bytes of p.
//
//	0   4  magic 0x668e33ef
//	4   2  flags, always DONE
//	6   2  type
//	8   8  cookie
//	16  4  length of what follows
func putChunk(p []byte, typ uint16, cookie uint64, length uint32) {
	binary.BigEndian.PutUint32(p, magicStructured)
	binary.BigEndian.PutUint16(p[4:], replyDone)
	binary.BigEndian.PutUint16(p[6:], typ)
	binary.BigEndian.PutUint64(p[8:], cookie)
	binary.BigEndian.PutUint32(p[16:], length)
}

// putReadHeader writes what goes before n bytes of data read at off and returns its length, at
// most readHeaderMax.
func putReadHeader(p []byte, structured bool, cookie, off uint64, n uint32) int {
	switch {
	case !structured:
		putSimple(p, 0, cookie)
		return simpleSize
	case n == 0: // a data chunk is never empty
		putChunk(p, replyNone, cookie, 0)
		return structuredSize
	}
	putChunk(p, replyOffsetData, cookie, offsetSize+n)
	binary.BigEndian.PutUint64(p[structuredSize:], off)
	return readHeaderMax
}

// readHeaderSize is what putReadHeader will return.
func readHeaderSize(structured bool, n uint32) int {
	switch {
	case !structured:
		return simpleSize
	case n == 0:
		return structuredSize
	}
	return readHeaderMax
}

// putErrorChunk writes an error without a message into the first errorChunkSize bytes of p.
func putErrorChunk(p []byte, errno uint32, cookie uint64) {
	putChunk(p, replyError, cookie, errorChunkSize-structuredSize)
	binary.BigEndian.PutUint32(p[structuredSize:], errno)
	binary.BigEndian.PutUint16(p[structuredSize+4:], 0)
}
