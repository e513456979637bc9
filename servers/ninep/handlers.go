package ninep

import (
	"fmt"
	"strings"

	"zerofs/engine"
)

// handlers do the messages that workers do. Each decodes the message and appends the fields of the
// answer to r.out, or sets r.Answer; an error becomes Rlerror.
var handlers = [messages]func(*request, *decoder) error{
	msgTstatfs:      (*request).statfs,
	msgTlopen:       (*request).lopen,
	msgTlcreate:     (*request).lcreate,
	msgTsymlink:     (*request).symlink,
	msgTmknod:       (*request).mknod,
	msgTrename:      (*request).rename,
	msgTreadlink:    (*request).readlink,
	msgTgetattr:     (*request).getattr,
	msgTsetattr:     (*request).setattr,
	msgTxattrwalk:   (*request).xattrwalk,
	msgTxattrcreate: (*request).xattrcreate,
	msgTreaddir:     (*request).readdir,
	msgTfsync:       (*request).fsync,
	msgTlock:        (*request).lock,
	msgTgetlock:     (*request).getlock,
	msgTlink:        (*request).link,
	msgTmkdir:       (*request).mkdir,
	msgTrenameat:    (*request).renameat,
	msgTunlinkat:    (*request).unlinkat,
	msgTattach:      (*request).attach,
	msgTwalk:        (*request).walk,
	msgTread:        (*request).readData,
	msgTwrite:       (*request).writeData,
	msgTclunk:       (*request).clunk,
	msgTremove:      (*request).remove,
}

// file returns the fid of a file, with a reference that the caller gives back.
func (r *request) file(id uint32) (*fid, error) {
	f := r.s.fids.get(id)
	if f == nil {
		return nil, fmt.Errorf("fid %d: %w", id, errBadFid)
	}
	if f.xattr != nil {
		f.put()
		return nil, fmt.Errorf("fid %d is an extended attribute: %w", id, errInvalid)
	}
	return f, nil
}

// files returns two fids of files.
func (r *request) files(a, b uint32) (f, g *fid, err error) {
	if f, err = r.file(a); err != nil {
		return nil, nil, err
	}
	if g, err = r.file(b); err != nil {
		f.put()
		return nil, nil, err
	}
	return f, g, nil
}

// checkName reports why a message cannot name a file so. "." and ".." are left to the engine.
func checkName(name string) error {
	switch {
	case name == "":
		return errNotExist
	case len(name) > maxName:
		return errNameTooLong
	case strings.ContainsAny(name, "/\x00"):
		return errInvalid
	}
	return nil
}

// as returns the credential for making a file with the group that the client asks for: that which
// its process has.
func (who *identity) as(gid uint32) *engine.Cred {
	if gid == noUID || gid == who.cred.GID {
		return who.cred
	}
	c := *who.cred
	c.GID = gid
	return &c
}
