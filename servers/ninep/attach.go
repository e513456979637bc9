package ninep

import (
	"context"
	"strconv"
	"strings"

	"zerofs/engine"
)

// nobody is whom a client attaches as that names nobody whom we know.
const nobody = 65534

// attach does Tattach: the fid becomes the directory that aname names, for a user.
//
//	Tattach fid[4] afid[4] uname[s] aname[s] n_uname[4]   Rattach qid[13]
func (r *request) attach(d *decoder) error {
	var m tattach
	if m.decode(d); !d.ok() {
		return errInvalid
	}
	if m.afid != noFid {
		return errNotSupported // there is nothing to authenticate with
	}
	cred, err := r.s.srv.cred(m.uid, m.uname)
	if err != nil {
		return err
	}
	root, err := r.s.srv.subdirectory(r.ctx, m.aname)
	if err != nil {
		return err
	}
	f, err := r.s.newFid(&identity{cred: cred, root: root}, root, engine.TypeDir)
	if err != nil {
		return err
	}
	a, err := f.hold(r.ctx)
	if err == nil && !r.s.fids.add(m.fid, f) {
		err = errBusy
	}
	if err != nil {
		f.put()
		return err
	}
	r.out = appendQid(r.out, qidOf(root, &a))
	return nil
}

// cred returns the credential of a user, who is named by number, or else by name.
func (s *Server) cred(uid uint32, name string) (*engine.Cred, error) {
	if uid == noUID {
		uid = s.uid(name)
	}
	c := &engine.Cred{UID: uid, GID: nobody}
	if uid == 0 {
		c.GID = 0
	}
	if s.Users == nil {
		c.AnyGroup = true
		return c, nil
	}
	groups, err := s.Users.Groups(uid)
	if err != nil {
		return nil, err
	}
	if len(groups) > 0 {
		c.GID, c.Groups = groups[0], groups[1:]
	}
	return c, nil
}

// uid returns the number of a user's name, which may be a number itself.
func (s *Server) uid(name string) uint32 {
	if name == "root" {
		return 0
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil && uint32(n) != noUID {
		return uint32(n)
	}
	if s.Users != nil {
		if uid, ok := s.Users.UID(name); ok {
			return uid
		}
	}
	return nobody
}

// subdirectory returns the directory that an aname means: a path from the root, or nothing for the
// root itself. Who may mount is not who uses the mount, so nobody's permissions are asked.
func (s *Server) subdirectory(ctx context.Context, aname string) (engine.Ino, error) {
	ino := engine.RootIno
	for name := range strings.SplitSeq(aname, "/") {
		switch name {
		case "", ".":
			continue
		case "..":
			return 0, errInvalid
		}
		if err := checkName(name); err != nil {
			return 0, err
		}
		next, a, err := s.FS.Lookup(ctx, nil, ino, name)
		if err != nil {
			return 0, err
		}
		if a.Type != engine.TypeDir {
			return 0, errNotDir
		}
		ino = next
	}
	return ino, nil
}
