// Package nbdclient is a small NBD client for measurements: it keeps a number of requests in flight
// on one connection and times each. Unlike fio's nbd engine it can send FUA.
//
// # Concurrency
//
// One goroutine uses a Client. Writes and reads do not mix in one Run: a client that waits to send
// while the server waits to answer would stand still.
package nbdclient

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// Commands and flags of requests, as in the NBD protocol.
const (
	Read  = 0
	Write = 1
	Flush = 3

	FUA = 1 // flag
)

const (
	handshakeMagic = 0x4e42444d41474943 // NBDMAGIC
	optionMagic    = 0x49484156454f5054 // IHAVEOPT
	replyMagic     = 0x3e889045565a9    // of an option's reply
	requestMagic   = 0x25609513
	simpleMagic    = 0x67446698

	optGo     = 7
	repAck    = 1
	repInfo   = 3
	infoFirst = 0 // NBD_INFO_EXPORT
)

// Client is a connection in the transmission phase.
type Client struct {
	Size int64 // of the export, in bytes

	conn net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
}

// Dial connects to the export name on a Unix socket.
func Dial(socket, name string) (*Client, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, in: bufio.NewReaderSize(conn, 256<<10), out: bufio.NewWriterSize(conn, 64<<10)}
	if err := c.negotiate(name); err != nil {
		conn.Close()
		return nil, fmt.Errorf("nbdclient: %s: %w", name, err)
	}
	return c, nil
}

// Close drops the connection.
func (c *Client) Close() error { return c.conn.Close() }

// negotiate asks for the export with GO, and for simple replies by not asking for structured ones.
func (c *Client) negotiate(name string) error {
	var hello struct {
		Magic, Option uint64
		Flags         uint16
	}
	if err := binary.Read(c.in, binary.BigEndian, &hello); err != nil {
		return err
	}
	if hello.Magic != handshakeMagic || hello.Option != optionMagic {
		return fmt.Errorf("no newstyle NBD server")
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(hello.Flags&3))
	b = binary.BigEndian.AppendUint64(b, optionMagic)
	b = binary.BigEndian.AppendUint32(b, optGo)
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(name)+2))
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	b = append(append(b, name...), 0, 0)
	if _, err := c.conn.Write(b); err != nil {
		return err
	}
	for {
		var r struct {
			Magic             uint64
			Option, Type, Len uint32
		}
		if err := binary.Read(c.in, binary.BigEndian, &r); err != nil {
			return err
		}
		data := make([]byte, min(r.Len, 64<<10))
		if _, err := io.ReadFull(c.in, data); err != nil {
			return err
		}
		switch {
		case r.Magic != replyMagic:
			return fmt.Errorf("bad option reply %#x", r.Magic)
		case r.Type == repAck:
			return nil
		case r.Type == repInfo && len(data) >= 12 && binary.BigEndian.Uint16(data) == infoFirst:
			c.Size = int64(binary.BigEndian.Uint64(data[2:]))
		case r.Type >= 1<<31:
			return fmt.Errorf("refused with %#x: %s", r.Type, data)
		}
	}
}

// Request is what Run sends next.
type Request struct {
	Command uint16
	Flags   uint16
	Offset  int64
	Data    []byte // to write, or where to read to; empty for Flush
}

// Source says what to do. Both methods are called from Run.
type Source interface {
	// Next sets r for one of the places in flight, 0 ≤ place < depth; false ends that place.
	Next(place int, r *Request) bool
	// Done is called when the request of a place is answered.
	Done(place int, took time.Duration)
}

// flight is one request under way.
type flight struct {
	Request
	sent time.Time
	busy bool
}

// Run keeps depth requests in flight until the source has no more, and waits for all answers.
func (c *Client) Run(depth int, src Source) error {
	fl := make([]flight, depth)
	busy := 0
	for i := range fl {
		if err := c.send(fl, i, src, &busy); err != nil {
			return err
		}
	}
	var head [16]byte
	for busy > 0 {
		if c.in.Buffered() < len(head) {
			if err := c.out.Flush(); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return err
		}
		place := binary.BigEndian.Uint64(head[8:])
		if binary.BigEndian.Uint32(head[:]) != simpleMagic || place >= uint64(depth) || !fl[place].busy {
			return fmt.Errorf("nbdclient: bad reply % x", head)
		}
		f := &fl[place]
		if errno := binary.BigEndian.Uint32(head[4:]); errno != 0 {
			return fmt.Errorf("nbdclient: command %d at %d: errno %d", f.Command, f.Offset, errno)
		}
		if f.Command == Read {
			if _, err := io.ReadFull(c.in, f.Data); err != nil {
				return err
			}
		}
		f.busy = false
		busy--
		src.Done(int(place), time.Since(f.sent))
		if err := c.send(fl, int(place), src, &busy); err != nil {
			return err
		}
	}
	return nil
}

// send starts the next request of a place, if there is one. It goes out with the next Flush.
func (c *Client) send(fl []flight, place int, src Source, busy *int) error {
	f := &fl[place]
	f.Request = Request{}
	if !src.Next(place, &f.Request) {
		return nil
	}
	f.sent, f.busy = time.Now(), true
	*busy++
	var head [28]byte
	binary.BigEndian.PutUint32(head[:], requestMagic)
	binary.BigEndian.PutUint16(head[4:], f.Flags)
	binary.BigEndian.PutUint16(head[6:], f.Command)
	binary.BigEndian.PutUint64(head[8:], uint64(place))
	binary.BigEndian.PutUint64(head[16:], uint64(f.Offset))
	binary.BigEndian.PutUint32(head[24:], uint32(len(f.Data)))
	if _, err := c.out.Write(head[:]); err != nil {
		return err
	}
	if f.Command != Write {
		return nil
	}
	_, err := c.out.Write(f.Data)
	return err
}
