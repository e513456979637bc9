package ninep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"zerofs/engine/locks"
	"zerofs/servers/pipeline"
)

// session is one connection. It is a pipeline.Session.
type session struct {
	srv  *Server
	conn *pipeline.Conn
	id   uint64 // of the connection, in the table of locks

	msize int // negotiated; zero before. The reader's own, and constant while a request runs
	fids  fids
	tags  tags
	batch *request // answers of the reader's that are not posted yet; the reader's own

	fidQuota, holds, xattrs quota
	waiting                 atomic.Int32 // requests that wait for a lock
}

func (s *Server) newSession(c *pipeline.Conn) pipeline.Session {
	x := &session{srv: s, conn: c, id: s.clients.Add(1)}
	x.fids.m, x.tags.m = make(map[uint32]*fid), make(map[uint16]*request)
	x.fidQuota = quota{all: &s.fids, most: maxFids, part: maxFids / 2}
	x.holds = quota{all: &s.holds, most: maxHolds, part: maxHolds / 4}
	x.xattrs = quota{all: &s.xattrs, most: maxXattrs, part: maxXattrs / 4}
	return x
}

// NewRequest makes a request.
func (s *session) NewRequest() *pipeline.Request {
	r := &request{s: s, ctx: &ctx{Context: s.conn.Context()}}
	r.Op = r
	return &r.Request
}

// admit is pipeline.Conn.Admit for a message.
func (s *session) admit(typ uint8, tag uint16, n int) (*request, error) {
	p, err := s.conn.Admit(n)
	if err != nil {
		return nil, err
	}
	r := p.Op.(*request)
	r.typ, r.tag = typ, tag
	return r, nil
}

// Serve reads messages until the client or the server ends.
func (s *session) Serve() error {
	defer s.unblock()
	if err := s.secure(); err != nil {
		return err
	}
	for !s.conn.Stopping() {
		p, err := s.conn.Next(headerSize)
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
		size, typ, tag := binary.LittleEndian.Uint32(p), p[4], binary.LittleEndian.Uint16(p[5:])
		limit := s.msize
		if limit == 0 {
			limit = maxFirst
		}
		if size < headerSize || int64(size) > int64(limit) {
			return fmt.Errorf("message of %d bytes, at most %d", size, limit)
		}
		if s.msize == 0 && typ != msgTversion {
			return fmt.Errorf("message of type %d before a version is negotiated", typ)
		}
		if err := s.message(typ, tag, int(size)-headerSize); err != nil {
			return fmt.Errorf("message of type %d, %d bytes: %w", typ, size, err)
		}
	}
	return nil
}

// secure begins TLS if the client does: its first byte cannot be that of any first message that is
// short enough.
func (s *session) secure() error {
	if s.srv.TLS == nil {
		return nil
	}
	p, err := s.conn.Peek(headerSize)
	if err != nil {
		return fmt.Errorf("read first message: %w", err)
	}
	if p[0] == 0x16 && p[1] == 0x03 {
		return s.conn.StartTLS(s.srv.TLS)
	}
	if s.srv.TLSRequired && s.conn.RemoteAddr().Network() != "unix" {
		return errors.New("client does not begin TLS")
	}
	return nil
}

// message reads the rest of a message, n bytes, and answers it or has it answered.
func (s *session) message(typ uint8, tag uint16, n int) error {
	if int(typ) < messages {
		s.srv.stats.messages[typ].Add(1)
	}
	switch typ {
	case msgTread, msgTreaddir:
		return s.readMessage(typ, tag, n)
	case msgTwrite:
		return s.writeMessage(tag, n)
	}
	if handlers[min(typ, messages-1)] == nil && typ != msgTversion && typ != msgTflush {
		return s.refuse(typ, tag, n, errNotSupported)
	}
	if n > maxSmall {
		return s.refuse(typ, tag, n, errMessageSize)
	}
	body, err := s.conn.Take(n)
	if err != nil {
		return err
	}
	switch typ {
	case msgTversion:
		return s.version(tag, body)
	case msgTflush:
		if n != 2 {
			return errMalformed
		}
		old := binary.LittleEndian.Uint16(body)
		r, err := s.admit(typ, tag, 0)
		if err != nil {
			return err
		}
		return s.dropOn(r, s.flush(r, old))
	}
	r, err := s.admit(typ, tag, 0)
	if err != nil {
		return err
	}
	r.body = append(r.body, body...)
	return s.start(r)
}

var errMalformed = errors.New("malformed message")

// start gives a request to a worker.
func (s *session) start(r *request) error {
	if err := s.tags.add(r); err != nil {
		return s.dropOn(r, err)
	}
	s.conn.Do(&r.Request)
	return nil
}

// dropOn drops r if there is an error, and returns that.
func (s *session) dropOn(r *request, err error) error {
	if err != nil {
		r.reset()
		s.conn.Drop(&r.Request)
	}
	return err
}

// refuse reads past a message and answers it with an error.
func (s *session) refuse(typ uint8, tag uint16, n int, cause error) error {
	if err := s.conn.Discard(n); err != nil {
		return err
	}
	r, err := s.admit(typ, tag, 0)
	if err != nil {
		return err
	}
	if err := s.tags.add(r); err != nil {
		return s.dropOn(r, err)
	}
	r.fail(cause)
	s.complete(r)
	return nil
}

// Run does a message. Workers call it.
func (s *session) Run(p *pipeline.Request) {
	r := p.Op.(*request)
	if err := r.do(); err != nil {
		r.fail(err)
		s.report(r, err)
	}
	s.complete(r)
}

// do calls the handler of a message, which appends the fields of its answer to out.
func (r *request) do() error {
	r.out = begin(r.out)
	d := decoder{b: r.body}
	if err := handlers[r.typ](r, &d); err != nil {
		return err
	}
	if r.Answer == nil {
		r.answer()
	}
	return nil
}

// report logs what a client cannot be told: errors that are none of its doing.
func (s *session) report(r *request, err error) {
	if wireErrno(err) != errIO || s.conn.Context().Err() != nil {
		return
	}
	s.conn.Logger().Error("request failed", "type", r.typ, "err", err)
}

// version does Tversion: it ends whatever the client had before, and agrees on msize.
//
//	Tversion msize[4] version[s]   Rversion msize[4] version[s]
func (s *session) version(tag uint16, body []byte) error {
	var m tversion
	d := decoder{b: body}
	if m.decode(&d); !d.ok() {
		return errMalformed
	}
	s.end()
	r, err := s.admit(msgTversion, tag, 0)
	if err != nil {
		return err
	}
	if err := s.tags.add(r); err != nil {
		return s.dropOn(r, err)
	}
	speaks := m.version == version || strings.HasPrefix(m.version, version+".")
	switch {
	case m.msize < minMsize:
		r.fail(errInvalid)
	case !speaks:
		r.versionAnswer(m.msize, versionUnknown)
	default:
		if s.msize == 0 {
			s.conn.Started()
		}
		s.msize = int(min(m.msize, MaxMsize))
		r.versionAnswer(uint32(s.msize), version)
	}
	s.complete(r)
	return nil
}

func (r *request) versionAnswer(msize uint32, version string) {
	r.out = begin(r.out)
	r.out = binary.LittleEndian.AppendUint32(r.out, msize)
	r.out = appendString(r.out, version)
	r.answer()
}

// end cancels all requests, waits for them, and lets go of all fids and locks. The reader calls it.
func (s *session) end() {
	s.abort()
	s.conn.Idle()
	s.fids.clear()
	s.srv.Locks.DropClient(s.id)
}

// Flush posts the batch.
func (s *session) Flush() {
	b := s.batch
	if b == nil {
		return
	}
	s.batch = nil
	if b.answers == 0 { // there was no hit that it was made for
		_ = s.dropOn(b, errNoHit)
		return
	}
	s.conn.Complete(&b.Request)
}

var errNoHit = errors.New("not in memory")

// Released counts what was answered and prepares the request for its next use.
func (s *session) Released(p *pipeline.Request, sent bool) {
	r := p.Op.(*request)
	if sent {
		s.srv.stats.count(r)
	}
	r.reset()
}

// Cut does nothing: the contexts of requests end with the connection's.
func (s *session) Cut() {}

// Close lets go of what the client had.
func (s *session) Close() {
	s.fids.clear()
	s.srv.Locks.DropClient(s.id)
}

// owner is a lock owner of this connection: a process of the client's, as the client numbers it.
func (s *session) owner(proc uint32) locks.Owner { return locks.Owner{Client: s.id, ID: uint64(proc)} }
