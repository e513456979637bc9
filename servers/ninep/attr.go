package ninep

import (
	"math"

	"zerofs/engine"
)

// getattr does Tgetattr. All attributes are always there, whatever the mask asks for.
//
//	Tgetattr fid[4] request_mask[8]   Rgetattr: see appendAttr
func (r *request) getattr(d *decoder) error {
	var m tgetattr
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	f, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer f.put()
	a, err := r.s.srv.FS.GetAttr(r.ctx, f.ino)
	if err != nil {
		return err
	}
	r.out = appendAttr(r.out, qidOf(f.ino, &a), &a)
	return nil
}

// setattr does Tsetattr. A size is that of ftruncate if the fid is open for writing. The change of
// ctime that a client may ask for comes with every change.
//
//	Tsetattr fid[4] valid[4] mode[4] uid[4] gid[4] size[8] atime[16] mtime[16]   Rsetattr
func (r *request) setattr(d *decoder) error {
	var m tsetattr
	if m.decode(d); !d.ok() || m.valid&^setAll != 0 {
		return errInvalid
	}
	f, err := r.file(m.fid)
	if err != nil {
		return err
	}
	defer f.put()
	set, err := m.set()
	if err != nil {
		return err
	}
	set.Opened = f.write
	_, lsn, err := r.s.srv.FS.SetAttr(r.ctx, f.who.cred, f.ino, set)
	if err != nil || !f.dataSync {
		return err
	}
	return r.s.srv.FS.Sync(r.ctx, lsn)
}

// set returns what the message asks of the engine.
func (m *tsetattr) set() (engine.SetAttr, error) {
	var set engine.SetAttr
	if m.valid&setMode != 0 {
		mode := m.mode & permBits
		set.Mode = &mode
	}
	if m.valid&setUID != 0 {
		set.UID = &m.uid
	}
	if m.valid&setGID != 0 {
		set.GID = &m.gid
	}
	if m.valid&setSize != 0 {
		if m.size > math.MaxInt64 {
			return set, errInvalid
		}
		set.Size = &m.size
	}
	var err error
	set.Atime, set.AtimeNow, err = when(m.valid, setAtime, setAtimeSet, m.atime, m.atimeNs)
	if err != nil {
		return set, err
	}
	set.Mtime, set.MtimeNow, err = when(m.valid, setMtime, setMtimeSet, m.mtime, m.mtimeNs)
	return set, err
}

// when returns one of the times of a Tsetattr: none, the server's clock, or what was sent.
func when(valid, bit, given uint32, sec, nsec uint64) (t *int64, now bool, err error) {
	switch {
	case valid&bit == 0:
		return nil, false, nil
	case valid&given == 0:
		return nil, true, nil
	case nsec > 999_999_999:
		return nil, false, errInvalid
	}
	// Seconds are signed. What nanoseconds in 64 bits cannot hold becomes the time nearest to it.
	n := min(max(int64(sec), -secondsMax), secondsMax)*1e9 + int64(nsec)
	return &n, false, nil
}

// secondsMax is what nanoseconds in 64 bits can hold, in either direction.
const secondsMax = math.MaxInt64/1_000_000_000 - 1

// statfs does Tstatfs.
//
//	Tstatfs fid[4]   Rstatfs: see appendStatFS
func (r *request) statfs(d *decoder) error {
	id := d.u32()
	if !d.ok() {
		return errInvalid
	}
	f, err := r.file(id)
	if err != nil {
		return err
	}
	defer f.put()
	st, err := r.s.srv.FS.StatFS(r.ctx)
	if err != nil {
		return err
	}
	r.out = appendStatFS(r.out, &st)
	return nil
}
