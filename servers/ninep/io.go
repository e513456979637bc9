package ninep

import (
	"encoding/binary"
	"math"

	"zerofs/engine"
	"zerofs/journal"
)

// Sizes in bytes of a batch of answers to Tread, and of the largest read that goes into one.
const (
	batchSize   = 128 << 10
	batchedRead = 64 << 10
)

// readMessage reads a Tread or Treaddir, and answers a Tread from memory if it can.
//
//	Tread fid[4] offset[8] count[4]   Rread count[4] data[count]
func (s *session) readMessage(typ uint8, tag uint16, n int) error {
	if n != ioSize-headerSize {
		return errMalformed
	}
	p, err := s.conn.Take(n)
	if err != nil {
		return err
	}
	var m tio
	m.decode(&decoder{b: p})
	limit := s.msize - dataHeaderSize
	if typ == msgTreaddir {
		limit = min(limit, maxReaddir)
	}
	m.count = uint32(min(int64(m.count), int64(limit)))
	if typ == msgTread && s.readNow(tag, &m) {
		return nil
	}
	r, err := s.admit(typ, tag, int(m.count))
	if err != nil {
		return err
	}
	r.io = m
	return s.start(r)
}

// readNow answers a Tread into the batch, if the file system has in memory what it asks for. The
// reader calls it.
func (s *session) readNow(tag uint16, m *tio) bool {
	f := s.fids.look(m.fid)
	if f == nil || !f.read || f.typ != engine.TypeRegular || m.count > batchedRead || m.off > math.MaxInt64 {
		return false
	}
	need := dataHeaderSize + int(m.count)
	if s.batch != nil && len(s.batch.Answer)+need > batchSize {
		s.Flush()
	}
	if s.batch == nil {
		r, err := s.admit(msgTread, tag, batchSize)
		if err != nil {
			return false // the connection is cut; admit will say so again
		}
		r.Answer = r.Buffer.Payload(batchSize)[:0]
		s.batch = r
	}
	b := s.batch
	at := len(b.Answer)
	data := at + dataHeaderSize
	end := data + int(m.count)
	n, ok := s.srv.FS.TryRead(f.ino, b.Answer[data:end:end], int64(m.off))
	if !ok {
		return false
	}
	putData(b.Answer[at:data], n, msgTread+1, tag)
	b.Answer = b.Answer[:data+n]
	b.answers++
	b.payload += n
	return true
}

// readData does a Tread that was not answered at once.
func (r *request) readData(*decoder) error {
	f := r.s.fids.get(r.io.fid)
	if f == nil {
		return errBadFid
	}
	defer f.put()
	n, err := r.readInto(f)
	if err != nil {
		return err
	}
	r.payload = n
	r.data(n, msgTread+1)
	return nil
}

// readInto reads what a Tread asks for into the buffer.
func (r *request) readInto(f *fid) (int, error) {
	if r.io.off > math.MaxInt64 {
		return 0, errInvalid
	}
	if r.io.count == 0 {
		return 0, f.readable()
	}
	p, off := r.Buffer.Payload(int(r.io.count)), int64(r.io.off)
	if f.xattr != nil {
		return f.xattr.read(p, off)
	}
	if err := f.readable(); err != nil {
		return 0, err
	}
	return r.s.srv.FS.Read(r.ctx, f.ino, p, off)
}

// readable reports why the fid cannot be read.
func (f *fid) readable() error {
	switch {
	case f.xattr != nil:
		return nil
	case !f.read:
		return errBadFid
	case f.typ != engine.TypeRegular:
		return errIsDir
	}
	return nil
}

// data makes the first n bytes of the buffer's payload the answer.
func (r *request) data(n int, typ uint8) {
	if r.Buffer == nil { // nothing was asked for
		r.out = append(begin(r.out), 0, 0, 0, 0)
		putData(r.out, 0, typ, r.tag)
		r.Answer = r.out
		return
	}
	r.Answer = r.Buffer.From(dataHeaderSize, n)
	putData(r.Answer, n, typ, r.tag)
}

// writeMessage reads a Twrite, its data straight to where the engine takes them from.
//
//	Twrite fid[4] offset[8] count[4] data[count]   Rwrite count[4]
func (s *session) writeMessage(tag uint16, n int) error {
	const fields = ioSize - headerSize
	if n < fields {
		return errMalformed
	}
	p, err := s.conn.Take(fields)
	if err != nil {
		return err
	}
	var m tio
	m.decode(&decoder{b: p})
	if int64(m.count) != int64(n-fields) {
		return errMalformed
	}
	r, err := s.admit(msgTwrite, tag, int(m.count))
	if err != nil {
		return err
	}
	r.io = m
	if m.count > 0 {
		if err := s.conn.ReadFull(r.Buffer.Payload(int(m.count))); err != nil {
			return s.dropOn(r, err)
		}
	}
	return s.start(r)
}

// writeData does a Twrite.
func (r *request) writeData(*decoder) error {
	f := r.s.fids.get(r.io.fid)
	if f == nil {
		return errBadFid
	}
	defer f.put()
	var p []byte
	if r.Buffer != nil {
		p = r.Buffer.Payload(int(r.io.count))
	}
	if err := r.writeTo(f, p); err != nil {
		return err
	}
	r.payload = len(p)
	r.out = binary.LittleEndian.AppendUint32(r.out, uint32(len(p)))
	return nil
}

// writeTo writes a Twrite's data. What a fid that appends is told of the place is how its client
// remembers the file, and not where its end is.
func (r *request) writeTo(f *fid, p []byte) error {
	if f.xattr != nil {
		return f.xattr.write(p, r.io.off)
	}
	if !f.write {
		return errBadFid
	}
	if r.io.off > math.MaxInt64 {
		return errInvalid
	}
	if len(p) == 0 {
		return nil
	}
	fsys := r.s.srv.FS
	var lsn journal.LSN
	var err error
	if f.append {
		_, _, lsn, err = fsys.Append(r.ctx, f.who.cred, f.ino, p)
	} else {
		_, lsn, err = fsys.Write(r.ctx, f.who.cred, f.ino, p, int64(r.io.off))
	}
	if err != nil || !f.dataSync {
		return err
	}
	return fsys.Sync(r.ctx, lsn)
}

// fsync does Tfsync. Older clients leave datasync away; what it would spare is not worth a difference.
//
//	Tfsync fid[4] datasync[4]   Rfsync
func (r *request) fsync(d *decoder) error {
	id := d.u32()
	if len(d.b) > 0 {
		d.u32()
	}
	if !d.ok() {
		return errInvalid
	}
	f, err := r.file(id)
	if err != nil {
		return err
	}
	defer f.put()
	return r.s.srv.FS.SyncInode(r.ctx, f.ino)
}
