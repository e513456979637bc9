//go:build linux

package fuse

import (
	"bytes"
	"strconv"
	"sync"
	"time"

	"zerofs/engine"
)

// groupsFor is how long a thread's supplementary groups are believed: long enough that a thread which
// makes many requests costs nothing, short enough that nobody sees a setgroups(2) come late.
const groupsFor = 100 * time.Millisecond

// credsMax bounds the threads that are remembered.
const credsMax = 4096

// creds knows who a thread is. The protocol names user and group; supplementary groups are read
// from /proc. A thread that has ended, or that now is somebody else, has none.
type creds struct {
	status func(tid uint32) ([]byte, error)
	now    func() time.Time
	root   engine.Cred

	mu   sync.Mutex
	seen map[thread]known // guarded by mu
}

type thread struct{ tid, uid, gid uint32 }

type known struct {
	cred  *engine.Cred
	until time.Time
}

// of returns the credential of a request. Root's groups are of no consequence and are not read.
func (c *creds) of(tid, uid, gid uint32) *engine.Cred {
	if uid == 0 && gid == 0 {
		return &c.root
	}
	key, now := thread{tid, uid, gid}, c.now()
	c.mu.Lock()
	k, ok := c.seen[key]
	c.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.cred
	}
	k = known{cred: &engine.Cred{UID: uid, GID: gid, Groups: c.groups(tid, uid)}, until: now.Add(groupsFor)}
	c.mu.Lock()
	if len(c.seen) >= credsMax || c.seen == nil {
		c.seen = make(map[thread]known)
	}
	c.seen[key] = k
	c.mu.Unlock()
	return k.cred
}

// groups reads a thread's supplementary groups.
func (c *creds) groups(tid, uid uint32) []uint32 {
	if tid == 0 || uid == 0 { // 0: the kernel itself, or a thread of another PID namespace
		return nil
	}
	text, err := c.status(tid)
	if err != nil {
		return nil
	}
	uids := statusField(text, "Uid:")
	if len(uids) != 4 || parseID(uids[3]) != int64(uid) { // real, effective, saved, file system
		return nil
	}
	var groups []uint32
	for _, f := range statusField(text, "Groups:") {
		if id := parseID(f); id >= 0 {
			groups = append(groups, uint32(id))
		}
	}
	return groups
}

// dying reports whether the thread is being killed, or is gone. SIGKILL is what the kernel leaves
// pending in each thread of a process that a signal ends.
func (c *creds) dying(tid uint32) bool {
	text, err := c.status(tid)
	if err != nil {
		return true
	}
	const sigkill = 1 << (9 - 1)
	for _, name := range []string{"SigPnd:", "ShdPnd:"} {
		if f := statusField(text, name); len(f) == 1 {
			if mask, err := strconv.ParseUint(string(f[0]), 16, 64); err == nil && mask&sigkill != 0 {
				return true
			}
		}
	}
	return false
}

// statusField returns the words of a line of /proc/TID/status after its name.
func statusField(text []byte, name string) [][]byte {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return bytes.Fields(rest)
		}
	}
	return nil
}

// parseID returns a user or group id, or -1.
func parseID(b []byte) int64 {
	n, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil {
		return -1
	}
	return int64(n)
}
