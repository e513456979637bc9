package ninep

import "encoding/binary"

// decoder takes the fields of a message off its front. Once a field is not all there every further
// one is zero, and ok says so in the end.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if p := d.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// str returns a copy of a string: what is decoded outlives the message.
func (d *decoder) str() string { return string(d.take(int(d.u16()))) }

// ok reports whether the message was whole and had nothing behind its last field.
func (d *decoder) ok() bool { return !d.bad && len(d.b) == 0 }

// Messages, without the header: each has its fields in the order of the wire. Integers are
// little-endian, a string is its length in 2 bytes and so many bytes.
type (
	// tversion: msize[4] version[s]
	tversion struct {
		msize   uint32
		version string
	}
	// tattach: fid[4] afid[4] uname[s] aname[s] n_uname[4]
	tattach struct {
		fid, afid    uint32
		uname, aname string
		uid          uint32
	}
	// twalk: fid[4] newfid[4] nwname[2] nwname*(wname[s])
	twalk struct {
		fid, newFid uint32
		names       []string
	}
	// tlopen: fid[4] flags[4]
	tlopen struct{ fid, flags uint32 }
	// tlcreate: fid[4] name[s] flags[4] mode[4] gid[4]
	tlcreate struct {
		fid              uint32
		name             string
		flags, mode, gid uint32
	}
	// tsymlink: fid[4] name[s] symtgt[s] gid[4]
	tsymlink struct {
		fid          uint32
		name, target string
		gid          uint32
	}
	// tmknod: dfid[4] name[s] mode[4] major[4] minor[4] gid[4]
	tmknod struct {
		fid                     uint32
		name                    string
		mode, major, minor, gid uint32
	}
	// tmkdir: dfid[4] name[s] mode[4] gid[4]
	tmkdir struct {
		fid       uint32
		name      string
		mode, gid uint32
	}
	// trename: fid[4] dfid[4] name[s]; tlink: dfid[4] fid[4] name[s]
	twoFids struct {
		first, second uint32
		name          string
	}
	// trenameat: olddirfid[4] oldname[s] newdirfid[4] newname[s]
	trenameat struct {
		from    uint32
		name    string
		to      uint32
		newName string
	}
	// tunlinkat: dirfd[4] name[s] flags[4]
	tunlinkat struct {
		fid   uint32
		name  string
		flags uint32
	}
	// tgetattr: fid[4] request_mask[8]
	tgetattr struct {
		fid  uint32
		mask uint64
	}
	// tsetattr: fid[4] valid[4] mode[4] uid[4] gid[4] size[8] atime_sec[8] atime_nsec[8] mtime_sec[8] mtime_nsec[8]
	tsetattr struct {
		fid, valid, mode, uid, gid     uint32
		size                           uint64
		atime, atimeNs, mtime, mtimeNs uint64
	}
	// txattrwalk: fid[4] newfid[4] name[s]
	txattrwalk struct {
		fid, newFid uint32
		name        string
	}
	// txattrcreate: fid[4] name[s] attr_size[8] flags[4]
	txattrcreate struct {
		fid   uint32
		name  string
		size  uint64
		flags uint32
	}
	// tio: fid[4] offset[8] count[4], of Tread and Treaddir, and before the data of Twrite
	tio struct {
		fid   uint32
		off   uint64
		count uint32
	}
	// tlock: fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s]
	tlock struct {
		fid           uint32
		typ           uint8
		flags         uint32
		start, length uint64
		proc          uint32
		client        string
	}
	// tgetlock: fid[4] type[1] start[8] length[8] proc_id[4] client_id[s]
	tgetlock struct {
		fid           uint32
		typ           uint8
		start, length uint64
		proc          uint32
		client        string
	}
)

func (m *tversion) decode(d *decoder) {
	m.msize, m.version = d.u32(), d.str()
}

func (m *tattach) decode(d *decoder) {
	m.fid, m.afid, m.uname, m.aname, m.uid = d.u32(), d.u32(), d.str(), d.str(), d.u32()
}

func (m *twalk) decode(d *decoder) {
	m.fid, m.newFid = d.u32(), d.u32()
	n := int(d.u16())
	if n > maxWalk {
		d.bad = true
		return
	}
	for range n {
		m.names = append(m.names, d.str())
	}
}

func (m *tlopen) decode(d *decoder) { m.fid, m.flags = d.u32(), d.u32() }

func (m *tlcreate) decode(d *decoder) {
	m.fid, m.name, m.flags, m.mode, m.gid = d.u32(), d.str(), d.u32(), d.u32(), d.u32()
}

func (m *tsymlink) decode(d *decoder) {
	m.fid, m.name, m.target, m.gid = d.u32(), d.str(), d.str(), d.u32()
}

func (m *tmknod) decode(d *decoder) {
	m.fid, m.name, m.mode, m.major, m.minor, m.gid = d.u32(), d.str(), d.u32(), d.u32(), d.u32(), d.u32()
}

func (m *tmkdir) decode(d *decoder) {
	m.fid, m.name, m.mode, m.gid = d.u32(), d.str(), d.u32(), d.u32()
}

func (m *twoFids) decode(d *decoder) { m.first, m.second, m.name = d.u32(), d.u32(), d.str() }

func (m *trenameat) decode(d *decoder) {
	m.from, m.name, m.to, m.newName = d.u32(), d.str(), d.u32(), d.str()
}

func (m *tunlinkat) decode(d *decoder) { m.fid, m.name, m.flags = d.u32(), d.str(), d.u32() }

func (m *tgetattr) decode(d *decoder) { m.fid, m.mask = d.u32(), d.u64() }

func (m *tsetattr) decode(d *decoder) {
	m.fid, m.valid, m.mode, m.uid, m.gid, m.size = d.u32(), d.u32(), d.u32(), d.u32(), d.u32(), d.u64()
	m.atime, m.atimeNs, m.mtime, m.mtimeNs = d.u64(), d.u64(), d.u64(), d.u64()
}

func (m *txattrwalk) decode(d *decoder) { m.fid, m.newFid, m.name = d.u32(), d.u32(), d.str() }

func (m *txattrcreate) decode(d *decoder) {
	m.fid, m.name, m.size, m.flags = d.u32(), d.str(), d.u64(), d.u32()
}

func (m *tio) decode(d *decoder) { m.fid, m.off, m.count = d.u32(), d.u64(), d.u32() }

func (m *tlock) decode(d *decoder) {
	m.fid, m.typ, m.flags, m.start, m.length, m.proc, m.client = d.u32(), d.u8(), d.u32(), d.u64(), d.u64(), d.u32(), d.str()
}

func (m *tgetlock) decode(d *decoder) {
	m.fid, m.typ, m.start, m.length, m.proc, m.client = d.u32(), d.u8(), d.u64(), d.u64(), d.u32(), d.str()
}
