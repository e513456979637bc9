package objecttest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"zerofs/tiers/object"
)

// Bucket is what a store holds, late effects on their way to it included.
type Bucket struct {
	now func() time.Time

	mu    sync.Mutex // before the lock of mem
	mem   *object.Memory
	late  []lateEffect // in the order of their requests
	ticks int64        // requests so far: the clock where none was given
}

// lateEffect is a put or delete that was answered by an error and lands at its time.
type lateEffect struct {
	at   time.Time // zero: only when Land says so
	op   string
	keys []string
	body []byte
	opts object.PutOptions
}

// NewBucket returns an empty bucket whose clock is now; time.Now within a synctest bubble is fine.
// With nil its clock starts in 2000 and goes on by a millisecond with each request.
func NewBucket(now func() time.Time) *Bucket {
	b := &Bucket{now: now}
	b.mem = object.NewMemory(b.clock)
	return b
}

// clock is called with mu held, or by nobody else.
func (b *Bucket) clock() time.Time {
	if b.now != nil {
		return b.now()
	}
	return time.UnixMilli(946_684_800_000 + b.ticks).UTC()
}

// Clone returns an independent bucket that holds what b holds now, late effects included.
func (b *Bucket) Clone() *Bucket {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &Bucket{now: b.now, late: slices.Clone(b.late), ticks: b.ticks}
	c.mem = b.mem.CloneWithClock(c.clock)
	return c
}

// Restore makes b hold what from holds, as a roll-back of the store does. Late effects on their
// way stay on their way. The clock does not go back.
func (b *Bucket) Restore(from *Bucket) {
	from.mu.Lock()
	mem := from.mem.CloneWithClock(b.clock)
	from.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mem = mem
}

// Late returns a line for each late effect that has not landed, in the order of their requests.
func (b *Bucket) Late() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []string
	for _, l := range b.late {
		lines = append(lines, fmt.Sprintf("%s %v (%d bytes)", l.op, l.keys, len(l.body)))
	}
	return lines
}

// Land makes every late effect happen now.
func (b *Bucket) Land() {
	b.mu.Lock()
	defer b.mu.Unlock()
	late := b.late
	b.late = nil
	for _, l := range late {
		b.apply(l)
	}
}

// LandOne makes the i-th late effect of Late happen now.
func (b *Bucket) LandOne(i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.late[i]
	b.late = slices.Delete(b.late, i, i+1)
	b.apply(l)
}

// Forget drops every late effect: they never happen.
func (b *Bucket) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.late = nil
}

// Keys returns all keys, sorted. Late effects that are due have landed.
func (b *Bucket) Keys() []string {
	var keys []string
	for after := ""; ; {
		b.mu.Lock()
		b.settle()
		page, err := b.mem.List(context.Background(), "", after)
		b.mu.Unlock()
		if err != nil {
			panic(err) // a Memory always lists
		}
		for _, e := range page.Entries {
			keys = append(keys, e.Key)
		}
		if after = page.Next; after == "" {
			return keys
		}
	}
}

// Object returns the bytes of the object under key, nil and false when there is none.
func (b *Bucket) Object(key string) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle()
	info, err := b.mem.Head(context.Background(), key)
	if err != nil {
		return nil, false
	}
	data := make([]byte, info.Size)
	_, _, err = b.mem.Get(context.Background(), key, 0, data)
	return data, err == nil
}

// Set stores data under key past all conditions and faults.
func (b *Bucket) Set(key string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.mem.Put(context.Background(), key, bytes.NewReader(data), object.PutOptions{}); err != nil {
		panic(err) // the test's own key
	}
}

// Flip inverts the bits of mask in the byte at off of the object under key, which must have it.
func (b *Bucket) Flip(key string, off int, mask byte) {
	data, _ := b.Object(key)
	data[off] ^= mask
	b.Set(key, data)
}

// Remove deletes the object under key past all faults.
func (b *Bucket) Remove(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.mem.Delete(context.Background(), key); err != nil {
		panic(err) // the test's own key
	}
}

// settle lands what is due, in the order of the times. The caller holds mu.
func (b *Bucket) settle() {
	if len(b.late) == 0 {
		return
	}
	now := b.clock()
	var due, rest []lateEffect
	for _, l := range b.late {
		if !l.at.IsZero() && !l.at.After(now) {
			due = append(due, l)
		} else {
			rest = append(rest, l)
		}
	}
	slices.SortStableFunc(due, func(a, b lateEffect) int { return a.at.Compare(b.at) })
	b.late = rest
	for _, l := range due {
		b.apply(l)
	}
}

// apply makes a late effect happen. Its answer goes nowhere. The caller holds mu.
func (b *Bucket) apply(l lateEffect) {
	if l.op == object.OpDelete {
		b.mem.Delete(context.Background(), l.keys...)
		return
	}
	b.mem.Put(context.Background(), l.keys[0], bytes.NewReader(l.body), l.opts)
}
