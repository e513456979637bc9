package nbd

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"zerofs/servers"
)

// errAborted ends a connection whose client asked for it in good order.
var errAborted = errors.New("client ended the handshake")

// description is what a client that asks for one is told of an export.
const description = "ZeroFS block device"

// negotiation is the state of one handshake.
type negotiation struct {
	*conn
	fixed      bool // the client speaks fixed newstyle
	noZeroes   bool
	secure     bool   // TLS is on
	allocation bool   // base:allocation is selected
	export     string // that it was selected for
}

// negotiate does the handshake. When it returns nil, dev is open and the transmission phase begins.
//
// The server begins; what follows is options, each answered in full before the next is read:
//
//	offset  size  field
//	0       8     magic "NBDMAGIC"
//	8       8     magic "IHAVEOPT"
//	16      2     handshake flags
//
// and the client's first words are its flags (4 bytes).
func (c *conn) negotiate() error {
	c.handshake.arm(c.svc.now.Load(), c.svc.handshakeTicks, 0)
	defer c.handshake.disarm()
	hello := binary.BigEndian.AppendUint64(nil, magicServer)
	hello = binary.BigEndian.AppendUint64(hello, magicOption)
	hello = binary.BigEndian.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := c.nc.Write(hello); err != nil {
		return fmt.Errorf("greet: %w", err)
	}
	p, err := c.in.take(4)
	if err != nil {
		return fmt.Errorf("read client flags: %w", err)
	}
	flags := binary.BigEndian.Uint32(p)
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return fmt.Errorf("client flags %#x: some are unknown", flags)
	}
	n := negotiation{conn: c, fixed: flags&flagFixedNewstyle != 0, noZeroes: flags&flagNoZeroes != 0}
	for {
		done, err := n.option()
		if err != nil {
			return err
		}
		if done {
			c.status = c.structured && n.allocation && n.export == c.name
			return nil
		}
	}
}

// option reads one option and answers it. done means that the transmission phase begins.
//
//	offset  size  field
//	0       8     magic "IHAVEOPT"
//	8       4     option
//	12      4     n, length of the data
//	16      n     data
func (n *negotiation) option() (done bool, err error) {
	p, err := n.in.take(16)
	if err != nil {
		return false, fmt.Errorf("read option: %w", err)
	}
	if binary.BigEndian.Uint64(p) != magicOption {
		return false, errors.New("read option: wrong magic")
	}
	opt, size := binary.BigEndian.Uint32(p[8:]), binary.BigEndian.Uint32(p[12:])
	if size > maxOption {
		err := n.reply(opt, repErrTooBig)
		return false, errors.Join(fmt.Errorf("option %d: %d bytes of data", opt, size), err)
	}
	data := make([]byte, size)
	if err := n.in.readFull(data); err != nil {
		return false, fmt.Errorf("read option %d: %w", opt, err)
	}
	if !n.fixed && opt != optExportName {
		return false, fmt.Errorf("option %d from a client that does not speak fixed newstyle", opt)
	}
	if n.svc.srv.TLSRequired && !n.secure {
		switch opt {
		case optExportName:
			return false, errors.New("export asked for without TLS")
		case optAbort, optStartTLS:
		default:
			return false, n.reply(opt, repErrTLSReqd)
		}
	}
	return n.answer(opt, data)
}

// answer does what an option asks.
func (n *negotiation) answer(opt uint32, data []byte) (done bool, err error) {
	switch opt {
	case optExportName:
		return true, n.exportName(data)
	case optAbort:
		_ = n.reply(opt, repAck) // the client may have closed already, and that is fine
		return false, errAborted
	case optInfo, optGo:
		return n.info(opt, data)
	case optListMetaContext, optSetMetaContext:
		return false, n.metaContext(opt, data)
	case optList, optStartTLS, optStructuredReply:
		if len(data) > 0 {
			return false, n.reply(opt, repErrInvalid)
		}
	default:
		return false, n.reply(opt, repErrUnsup)
	}
	switch opt {
	case optList:
		return false, n.list()
	case optStartTLS:
		return false, n.startTLS()
	}
	n.structured = true
	return false, n.reply(opt, repAck)
}

// reply sends one reply without data.
func (n *negotiation) reply(opt, kind uint32) error { return n.send(optionReply(nil, opt, kind)) }

func (n *negotiation) send(p []byte) error {
	if _, err := n.nc.Write(p); err != nil {
		return fmt.Errorf("answer option: %w", err)
	}
	return nil
}

// open opens the export that a client calls name; its real name becomes the connection's.
func (n *negotiation) open(name string) (Device, func(), string, error) {
	name = n.resolve(name)
	if len(name) > maxName {
		return nil, nil, "", fmt.Errorf("open export: name of %d bytes: %w", len(name), fs.ErrNotExist)
	}
	dev, release, err := n.svc.srv.Exports.Open(n.ctx, name)
	if err != nil {
		return nil, nil, "", fmt.Errorf("open export %q: %w", name, err)
	}
	return dev, release, name, nil
}

// resolve returns the real name of an export.
func (n *negotiation) resolve(name string) string {
	if name == "" {
		return n.svc.opts.DefaultExport
	}
	return name
}

// use makes dev the device of the transmission phase.
func (n *negotiation) use(dev Device, release func(), name string) {
	n.dev, n.release, n.name = dev, release, name
	n.fast, _ = dev.(FastReader)
	n.size = uint64(dev.Size())
}

func (n *negotiation) transmissionFlags() uint16 {
	if n.structured {
		return exportFlags | flagSendDF
	}
	return exportFlags
}

// exportName is the old way into the transmission phase: it has no answer but success.
func (n *negotiation) exportName(data []byte) error {
	dev, release, name, err := n.open(string(data))
	if err != nil {
		return err
	}
	n.use(dev, release, name)
	p := binary.BigEndian.AppendUint64(nil, n.size)
	p = binary.BigEndian.AppendUint16(p, n.transmissionFlags())
	if !n.noZeroes {
		p = append(p, make([]byte, 124)...)
	}
	return n.send(p)
}

func (n *negotiation) list() error {
	var p []byte
	for _, name := range n.svc.srv.Exports.Names() {
		length := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
		p = optionReply(p, optList, repServer, length, []byte(name))
	}
	return n.send(optionReply(p, optList, repAck))
}

// startTLS turns TLS on and forgets what was agreed before.
func (n *negotiation) startTLS() error {
	cfg := n.svc.srv.TLS
	switch {
	case cfg == nil:
		return n.reply(optStartTLS, repErrUnsup)
	case n.secure:
		return n.reply(optStartTLS, repErrInvalid)
	}
	if n.in.buffered() > 0 {
		// Somebody in the middle could have put words there that would count as said under TLS.
		return errors.New("plain text after STARTTLS")
	}
	if err := n.reply(optStartTLS, repAck); err != nil {
		return err
	}
	tc := tls.Server(n.raw, cfg)
	if err := tc.HandshakeContext(n.ctx); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	n.nc, n.in = tc, newWireReader(tc, negotiateBuffer)
	n.secure, n.structured, n.allocation = true, false, false
	return nil
}

// info answers INFO and GO.
func (n *negotiation) info(opt uint32, data []byte) (done bool, err error) {
	req, ok := parseInfo(data)
	if !ok {
		return false, n.reply(opt, repErrInvalid)
	}
	dev, release, name, err := n.open(req.name)
	if err != nil {
		return false, n.refuse(opt, err)
	}
	p := n.describe(opt, req, name, uint64(dev.Size()))
	if opt == optInfo {
		release()
		return false, n.send(p)
	}
	n.use(dev, release, name)
	return true, n.send(p)
}

// refuse tells a client that an export does not open. The cause is for the log.
func (n *negotiation) refuse(opt uint32, cause error) error {
	kind := uint32(repErrPolicy)
	switch servers.Errno(cause) {
	case syscall.ENOENT:
		kind = repErrUnknown
	case syscall.ESHUTDOWN, syscall.ECANCELED:
		kind = repErrShutdown
	}
	n.log.Info("export refused", "err", cause)
	return n.reply(opt, kind)
}

// describe builds the replies to a successful INFO or GO.
func (n *negotiation) describe(opt uint32, req infoRequest, name string, size uint64) []byte {
	be := binary.BigEndian
	info := be.AppendUint16(be.AppendUint64(be.AppendUint16(nil, infoExport), size), n.transmissionFlags())
	p := optionReply(nil, opt, repInfo, info)
	if slices.Contains(req.kinds, infoName) || name != req.name {
		p = optionReply(p, opt, repInfo, be.AppendUint16(nil, infoName), []byte(name))
	}
	if slices.Contains(req.kinds, infoDescription) {
		p = optionReply(p, opt, repInfo, be.AppendUint16(nil, infoDescription), []byte(description))
	}
	if slices.Contains(req.kinds, infoBlockSize) {
		info := be.AppendUint16(nil, infoBlockSize)
		for _, v := range []uint32{blockMin, blockPreferred, MaxPayload} {
			info = be.AppendUint32(info, v)
		}
		p = optionReply(p, opt, repInfo, info)
	}
	return optionReply(p, opt, repAck)
}

// metaContext answers LIST_META_CONTEXT and SET_META_CONTEXT.
func (n *negotiation) metaContext(opt uint32, data []byte) error {
	set := opt == optSetMetaContext
	if set {
		n.allocation = false // also when this fails
	}
	req, ok := parseMeta(data)
	if !ok || !n.structured {
		return n.reply(opt, repErrInvalid)
	}
	name := n.resolve(req.name)
	if !slices.Contains(n.svc.srv.Exports.Names(), name) {
		return n.reply(opt, repErrUnknown)
	}
	var p []byte
	if req.selects(!set) {
		id := uint32(0) // reserved in a list
		if set {
			id = contextID
			n.allocation, n.export = true, name
		}
		p = optionReply(p, opt, repMetaContext, binary.BigEndian.AppendUint32(nil, id), []byte(contextAllocation))
	}
	return n.send(optionReply(p, opt, repAck))
}
