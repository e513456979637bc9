package object

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// PageMax is the number of entries that a backend puts in one Page.
const PageMax = 1000

// errShadow reports a key that is a "directory" of another.
var errShadow = errors.New("key is a directory of another key, or below one")

// Memory is a Store in this process's memory, for tests and trials: it is as durable as the
// process. It is stricter than a bucket in that it refuses a key which is a "directory" of another.
type Memory struct {
	now func() time.Time

	mu      sync.RWMutex // taken alone
	objects map[string]memoryObject
	keys    []string // sorted; the keys of objects
}

// memoryObject is one object. Its data never change.
type memoryObject struct {
	data     []byte
	modified time.Time
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store whose clock is now.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, objects: map[string]memoryObject{}}
}

// Clone returns an independent store that holds what m holds now.
func (m *Memory) Clone() *Memory { return m.CloneWithClock(m.now) }

// CloneWithClock is Clone with a clock of its own.
func (m *Memory) CloneWithClock(now func() time.Time) *Memory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return &Memory{now: now, objects: maps.Clone(m.objects), keys: slices.Clone(m.keys)}
}

// Put stores body under key.
func (m *Memory) Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error) {
	if err := m.begin(ctx, OpPut, key); err != nil {
		return Info{}, err
	}
	data := make([]byte, body.Size())
	if n, err := body.ReadAt(data, 0); n < len(data) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Info{}, &Error{OpPut, key, Fatal, err}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, found := m.objects[key]
	if found && opts.IfAbsent {
		return Info{}, &Error{OpPut, key, Exists, nil}
	}
	if !found {
		i, _ := slices.BinarySearch(m.keys, key)
		if m.shadowed(key) {
			return Info{}, &Error{OpPut, key, Fatal, errShadow}
		}
		m.keys = slices.Insert(m.keys, i, key)
	}
	now := m.now()
	m.objects[key] = memoryObject{data, now}
	return Info{Size: int64(len(data)), Modified: now, Date: now}, nil
}

// shadowed reports whether key is above or below another key. The caller holds mu.
func (m *Memory) shadowed(key string) bool {
	dir := key + "/"
	if i, _ := slices.BinarySearch(m.keys, dir); i < len(m.keys) && strings.HasPrefix(m.keys[i], dir) {
		return true
	}
	for i := strings.LastIndexByte(key, '/'); i > 0; i = strings.LastIndexByte(key[:i], '/') {
		if _, ok := m.objects[key[:i]]; ok {
			return true
		}
	}
	return false
}

// Get reads a range of an object.
func (m *Memory) Get(ctx context.Context, key string, off int64, dst []byte) (int, Info, error) {
	if err := m.begin(ctx, OpGet, key); err != nil {
		return 0, Info{}, err
	}
	if off < 0 {
		return 0, Info{}, &Error{OpGet, key, Fatal, errNegativeOffset}
	}
	o, info, err := m.find(OpGet, key)
	if err != nil {
		return 0, Info{}, err
	}
	if off >= info.Size {
		return 0, info, nil
	}
	return copy(dst, o.data[off:]), info, nil
}

// Head returns an object's Info.
func (m *Memory) Head(ctx context.Context, key string) (Info, error) {
	if err := m.begin(ctx, OpHead, key); err != nil {
		return Info{}, err
	}
	_, info, err := m.find(OpHead, key)
	return info, err
}

func (m *Memory) find(op, key string) (memoryObject, Info, error) {
	m.mu.RLock()
	o, ok := m.objects[key]
	now := m.now()
	m.mu.RUnlock()
	if !ok {
		return o, Info{}, &Error{op, key, NotFound, nil}
	}
	return o, Info{Size: int64(len(o.data)), Modified: o.modified, Date: now}, nil
}

// List returns at most PageMax entries, in ascending byte order of their keys.
func (m *Memory) List(ctx context.Context, prefix, after string) (Page, error) {
	if err := ctx.Err(); err != nil {
		return Page{}, &Error{OpList, prefix, Transient, err}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	page := Page{Date: m.now()}
	i, found := slices.BinarySearch(m.keys, max(prefix, after))
	if found && after >= prefix {
		i++
	}
	for ; i < len(m.keys) && strings.HasPrefix(m.keys[i], prefix); i++ {
		if len(page.Entries) == PageMax {
			page.Next = page.Entries[PageMax-1].Key
			break
		}
		o := m.objects[m.keys[i]]
		page.Entries = append(page.Entries, Entry{m.keys[i], int64(len(o.data)), o.modified})
	}
	return page, nil
}

// Delete removes objects.
func (m *Memory) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := m.begin(ctx, OpDelete, key); err != nil {
			return err
		}
		m.mu.Lock()
		if _, ok := m.objects[key]; ok {
			delete(m.objects, key)
			i, _ := slices.BinarySearch(m.keys, key)
			m.keys = slices.Delete(m.keys, i, i+1)
		}
		m.mu.Unlock()
	}
	return nil
}

// Ordered returns true.
func (m *Memory) Ordered() bool { return true }

// begin checks what every request on one key checks.
func (m *Memory) begin(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return &Error{op, key, Transient, err}
	}
	return checkKey(op, key)
}
