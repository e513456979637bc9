package objecttest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"hash/fnv"
	"io"
	"slices"
	"time"

	"zerofs/tiers/object"
)

// Put stores body under key, unless a fault says otherwise.
func (f *Faulty) Put(ctx context.Context, key string, body object.Body, opts object.PutOptions) (object.Info, error) {
	req := Request{Op: object.OpPut, Key: key, IfAbsent: opts.IfAbsent, Size: body.Size()}
	data := make([]byte, body.Size())
	if n, err := body.ReadAt(data, 0); n < len(data) {
		return object.Info{}, &object.Error{Op: object.OpPut, Key: key, Kind: object.Fatal, Err: cmp.Or(err, io.ErrUnexpectedEOF)}
	}
	var info object.Info
	err := f.run(ctx, req, func() error {
		return f.do(func(m *object.Memory) (err error) {
			info, err = m.Put(context.Background(), key, bytes.NewReader(data), opts)
			return err
		})
	}, func(by time.Duration) {
		f.bucket.later(by, lateEffect{op: object.OpPut, keys: []string{key}, body: data, opts: opts})
	})
	if err != nil {
		return object.Info{}, err
	}
	return info, nil
}

// Get reads a range of an object, unless a fault says otherwise.
func (f *Faulty) Get(ctx context.Context, key string, off int64, dst []byte) (int, object.Info, error) {
	var n int
	var info object.Info
	err := f.run(ctx, Request{Op: object.OpGet, Key: key, Size: int64(len(dst))}, func() error {
		return f.do(func(m *object.Memory) (err error) {
			n, info, err = m.Get(context.Background(), key, off, dst)
			return err
		})
	}, nil)
	if err != nil {
		return 0, object.Info{}, err
	}
	f.set(func() { f.counts.BytesGot += int64(n) })
	return n, info, nil
}

// Head returns an object's Info, unless a fault says otherwise.
func (f *Faulty) Head(ctx context.Context, key string) (object.Info, error) {
	var info object.Info
	err := f.run(ctx, Request{Op: object.OpHead, Key: key}, func() error {
		return f.do(func(m *object.Memory) (err error) {
			info, err = m.Head(context.Background(), key)
			return err
		})
	}, nil)
	if err != nil {
		return object.Info{}, err
	}
	return info, nil
}

// List returns a page of objects, unless a fault says otherwise.
func (f *Faulty) List(ctx context.Context, prefix, after string) (object.Page, error) {
	f.mu.Lock()
	unordered, most := f.unordered, f.pageMax
	f.mu.Unlock()
	var page object.Page
	err := f.run(ctx, Request{Op: object.OpList, Key: prefix}, func() error {
		return f.do(func(m *object.Memory) (err error) {
			if unordered {
				page, err = listUnordered(m, prefix, after, most)
			} else {
				page, err = m.List(context.Background(), prefix, after)
			}
			return err
		})
	}, nil)
	if err != nil {
		return object.Page{}, err
	}
	if !unordered && len(page.Entries) > most {
		page.Entries = page.Entries[:most]
		page.Next = page.Entries[most-1].Key
	}
	return page, nil
}

// listUnordered lists by the hashes of keys; its tokens are the hash and key to go on after.
func listUnordered(m *object.Memory, prefix, token string, most int) (object.Page, error) {
	var all object.Page
	for after := ""; ; {
		page, err := m.List(context.Background(), prefix, after)
		if err != nil {
			return object.Page{}, err
		}
		all.Entries, all.Date = append(all.Entries, page.Entries...), page.Date
		if after = page.Next; after == "" {
			break
		}
	}
	slices.SortFunc(all.Entries, func(a, b object.Entry) int { return cmp.Compare(hashed(a.Key), hashed(b.Key)) })
	first, _ := slices.BinarySearchFunc(all.Entries, token, func(e object.Entry, token string) int {
		if hashed(e.Key) <= token {
			return -1
		}
		return 1
	})
	all.Entries = all.Entries[first:]
	if len(all.Entries) > most {
		all.Entries = all.Entries[:most]
		all.Next = hashed(all.Entries[most-1].Key)
	}
	return all, nil
}

func hashed(key string) string {
	h := fnv.New64a()
	h.Write([]byte(key))
	return hex.EncodeToString(h.Sum(nil)) + key
}

// Delete removes objects, unless a fault says otherwise.
func (f *Faulty) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	return f.run(ctx, Request{Op: object.OpDelete, Key: keys[0]}, func() error {
		return f.do(func(m *object.Memory) error { return m.Delete(context.Background(), keys...) })
	}, func(by time.Duration) {
		f.bucket.later(by, lateEffect{op: object.OpDelete, keys: slices.Clone(keys)})
	})
}

// Ordered reports whether List is in the order of keys.
func (f *Faulty) Ordered() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.unordered
}

// do makes a request's effect happen on the bucket as it is now, unless the process was killed.
func (f *Faulty) do(effect func(*object.Memory) error) error {
	b := f.bucket
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-f.killed:
		return ErrKilled // never seen: run finds the same
	default:
	}
	b.ticks++
	b.settle()
	return effect(b.mem)
}

// later keeps an effect for by from now, or for Land when by is negative.
func (b *Bucket) later(by time.Duration, l lateEffect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ticks++
	if by >= 0 {
		l.at = b.clock().Add(by)
	}
	b.late = append(b.late, l)
}
