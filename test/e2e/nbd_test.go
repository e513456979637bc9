package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
)

// client is an NBD client with one request at a time and simple replies.
type client struct {
	conn   net.Conn
	size   int64
	mu     sync.Mutex
	cookie uint64 // guarded by mu, as the connection is
}

// Numbers of the NBD protocol.
const (
	nbdMagic      = 0x4e42444d41474943
	nbdOption     = 0x49484156454f5054
	nbdOptReply   = 0x3e889045565a9
	nbdRequest    = 0x25609513
	nbdReply      = 0x67446698
	nbdGo         = 7
	nbdAck        = 1
	nbdInfo       = 3
	nbdRead       = 0
	nbdWrite      = 1
	nbdDisc       = 2
	nbdFlush      = 3
	nbdTrim       = 4
	nbdFlagFUA    = 1
	nbdMaxOptions = 1 << 16
)

// errno is the error of an answer.
type errno uint32

func (e errno) Error() string { return fmt.Sprintf("nbd error %d", uint32(e)) }

// dial connects to a host's device.
func (h *host) dial() *client {
	h.t.Helper()
	c, err := dialNBD(h.nbd, "disk")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.conn.Close() })
	return c
}

func dialNBD(socket, export string) (*client, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn}
	if err := c.negotiate(export); err != nil {
		conn.Close()
		return nil, fmt.Errorf("negotiate: %w", err)
	}
	return c, nil
}

func (c *client) negotiate(export string) error {
	var hello [18]byte
	if _, err := io.ReadFull(c.conn, hello[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint64(hello[:]) != nbdMagic || binary.BigEndian.Uint64(hello[8:]) != nbdOption {
		return fmt.Errorf("greeting % x", hello)
	}
	p := binary.BigEndian.AppendUint32(nil, 3) // fixed newstyle, no zeroes
	p = binary.BigEndian.AppendUint64(p, nbdOption)
	p = binary.BigEndian.AppendUint32(p, nbdGo)
	p = binary.BigEndian.AppendUint32(p, uint32(4+len(export)+2))
	p = binary.BigEndian.AppendUint32(p, uint32(len(export)))
	p = append(p, export...)
	p = binary.BigEndian.AppendUint16(p, 0)
	if _, err := c.conn.Write(p); err != nil {
		return err
	}
	for {
		kind, data, err := c.optionReply()
		switch {
		case err != nil:
			return err
		case kind == nbdAck:
			return nil
		case kind == nbdInfo && len(data) == 12 && binary.BigEndian.Uint16(data) == 0:
			c.size = int64(binary.BigEndian.Uint64(data[2:]))
		case kind&(1<<31) != 0:
			return fmt.Errorf("option refused: %x %s", kind, data)
		}
	}
}

func (c *client) optionReply() (kind uint32, data []byte, err error) {
	var head [20]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[16:])
	if binary.BigEndian.Uint64(head[:]) != nbdOptReply || n > nbdMaxOptions {
		return 0, nil, fmt.Errorf("reply to option % x", head)
	}
	data = make([]byte, n)
	_, err = io.ReadFull(c.conn, data)
	return binary.BigEndian.Uint32(head[12:]), data, err
}

// send sends one request; c.mu is held, or nobody else uses c.
func (c *client) send(cmd, flags uint16, off int64, length int, payload []byte) error {
	c.cookie++
	p := binary.BigEndian.AppendUint32(nil, nbdRequest)
	p = binary.BigEndian.AppendUint16(p, flags)
	p = binary.BigEndian.AppendUint16(p, cmd)
	p = binary.BigEndian.AppendUint64(p, c.cookie)
	p = binary.BigEndian.AppendUint64(p, uint64(off))
	p = binary.BigEndian.AppendUint32(p, uint32(length))
	_, err := c.conn.Write(append(p, payload...))
	return err
}

// receive reads the answer to the request sent last, and what it read into into.
func (c *client) receive(into []byte) error {
	var head [16]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(head[:]) != nbdReply || binary.BigEndian.Uint64(head[8:]) != c.cookie {
		return fmt.Errorf("answer % x to request %d", head, c.cookie)
	}
	if e := binary.BigEndian.Uint32(head[4:]); e != 0 {
		return errno(e)
	}
	_, err := io.ReadFull(c.conn, into)
	return err
}

func (c *client) do(cmd, flags uint16, off int64, length int, payload, into []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.send(cmd, flags, off, length, payload); err != nil {
		return err
	}
	return c.receive(into)
}

func (c *client) read(p []byte, off int64) error { return c.do(nbdRead, 0, off, len(p), nil, p) }

func (c *client) write(p []byte, off int64) error { return c.do(nbdWrite, 0, off, len(p), p, nil) }

// writeThrough writes with FUA.
func (c *client) writeThrough(p []byte, off int64) error {
	return c.do(nbdWrite, nbdFlagFUA, off, len(p), p, nil)
}

func (c *client) flush() error { return c.do(nbdFlush, 0, 0, 0, nil, nil) }

// close says good-bye.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.send(nbdDisc, 0, 0, 0, nil) // the server may be gone
	c.conn.Close()
}

// isErrno tells an error that the server answered from a connection that broke.
func isErrno(err error) bool {
	var e errno
	return errors.As(err, &e)
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
