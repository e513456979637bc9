package engine

// acls are an inode's ACLs. They are never changed, but replaced.
type acls struct {
	access *acl // nil: the mode says it all
	preset *acl // of a directory: what new inodes in it begin with
}

type acl struct{}

func (l *acl) granted(c *Cred, a *Attr, want uint32) uint32 { return 0 }

const aclOpMax = 0
const capabilityOpMax = 0

func (t *txn) setACLs(ino Ino, acls *acls) {}

func (t *txn) chmod(n *node, set *SetAttr) {}

func (a *Attr) inherit(dir *Attr, umask uint32) { a.Mode &^= umask & 0o777 }
