package engine

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// account is what a file's inode and records say of its chunks.
type account struct {
	dense   uint64
	records map[uint64]*group
}

func (a *account) has(i uint64) bool {
	if g := a.records[i/groupChunks]; g != nil {
		return g.has(i % groupChunks)
	}
	return i < a.dense
}

// count returns how many chunks there are.
func (a *account) count() uint64 {
	n := int64(a.dense)
	for i, g := range a.records {
		n += g.count() - int64(min(max(a.dense, i*groupChunks)-i*groupChunks, groupChunks))
	}
	return uint64(n)
}

// readAccount reads what is said of a file's chunks.
func (c *checker) readAccount(ino Ino, a *Attr) (acc *account, err error) {
	acc = &account{dense: a.dense, records: map[uint64]*group{}}
	if a.Flags&flagGroups == 0 {
		return acc, nil
	}
	it, err := c.snap.NewIterWithContext(c.ctx, &pebble.IterOptions{LowerBound: appendGroupKey(nil, ino, 0), UpperBound: appendGroupKey(nil, ino+1, 0)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		g, err := decodeGroup(v)
		if err != nil {
			return nil, err
		}
		acc.records[binary.BigEndian.Uint64(it.Key()[inodeKeyLen:])] = g
	}
	return acc, it.Error()
}

// chunkRun is what scanChunks has seen of one inode.
type chunkRun struct {
	ino    Ino
	in     *checkedInode // nil: there is no such file
	acc    *account
	chunks uint64 // the account's
	beyond uint64
	silent uint64 // those that the account does not have
}

// scanChunks compares the chunks with what the files say of them.
func (c *checker) scanChunks() error {
	var run *chunkRun
	var failed error
	err := c.scan(prefixChunk, func(key, value []byte) error {
		ino, err := inoOfKey(key)
		if err != nil {
			return err
		}
		i, err := chunkOfKey(key)
		if err != nil {
			return err
		}
		if run == nil || run.ino != ino {
			c.judgeChunks(run)
			if run, err = c.beginChunks(ino); err != nil {
				failed = err
				return err
			}
		}
		c.stats.Chunks++
		if c.read {
			data, err := decodeFull(value, int(c.chunk))
			if err != nil {
				c.unreadable(key, err)
			}
			c.stats.Bytes += int64(len(data))
		}
		switch {
		case run.in == nil || uint64(i)*c.chunk >= run.in.attr.Size:
			run.beyond++
		default:
			run.chunks++
			if run.acc != nil && !run.acc.has(uint64(i)) {
				run.silent++
			}
		}
		return nil
	})
	c.judgeChunks(run)
	return errors.Join(err, failed)
}

func (c *checker) beginChunks(ino Ino) (*chunkRun, error) {
	run := &chunkRun{ino: ino}
	in := c.inodes[ino]
	if in == nil || in.attr.Type != TypeRegular {
		return run, nil
	}
	run.in = in
	if in.attr.Flags&flagDevice != 0 {
		return run, nil
	}
	var err error
	run.acc, err = c.readAccount(ino, &in.attr)
	in.account = &account{} // it was looked at
	return run, err
}

func (c *checker) judgeChunks(run *chunkRun) {
	if run == nil {
		return
	}
	if run.beyond > 0 {
		c.problem(ProblemBeyond, run.ino, "inode %d: %d chunks beyond the end", run.ino, run.beyond)
	}
	if run.acc == nil {
		return
	}
	a := &run.in.attr
	if said := run.acc.count(); run.silent > 0 || run.chunks != said || a.Blocks != said*c.chunk {
		c.problem(ProblemBlocks, run.ino, "inode %d: %d chunks, %d not known of, %d in the account, %d bytes in the inode", run.ino, run.chunks, run.silent, said, a.Blocks)
	}
}

// scanGroups looks at files without chunks, and at records of no file.
func (c *checker) scanGroups() error {
	for ino, in := range c.inodes {
		a := &in.attr
		if a.Type != TypeRegular || a.Flags&flagDevice != 0 || in.account != nil {
			continue
		}
		acc, err := c.readAccount(ino, a)
		if err != nil {
			return err
		}
		if n := acc.count(); n != 0 || a.Blocks != 0 {
			c.problem(ProblemBlocks, ino, "inode %d: no chunks, %d in the account, %d bytes in the inode", ino, n, a.Blocks)
		}
	}
	return c.scan(prefixGroup, func(key, value []byte) error {
		ino, err := inoOfKey(key)
		if err != nil || len(key) != groupKeyLen {
			return ErrCorrupt
		}
		if _, err := decodeGroup(value); err != nil {
			return err
		}
		in := c.inodes[ino]
		i := binary.BigEndian.Uint64(key[inodeKeyLen:])
		if in == nil || in.attr.Flags&flagGroups == 0 || i*groupChunks*c.chunk >= in.attr.Size {
			c.problem(ProblemBlocks, ino, "inode %d: a record of allocation %d that it does not know of", ino, i)
		}
		return nil
	})
}
