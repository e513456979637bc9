package memory

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/allegro/bigcache/v3"
)

// An entry is the chunk's bytes. An empty chunk is stored as emptyLength zeros, so that many of
// them do not outgrow the budget through the hash maps; chunks between empty and dataMin bytes are not held.
const (
	emptyLength = 511
	dataMin     = emptyLength + 1
)

var emptyEntry [emptyLength]byte

// entryOverhead is what bigcache adds to a chunk: its header, our key, and the length.
const entryOverhead = 18 + keySize + 3

const keySize = 24

// key is what a chunk is filed under: inode, index, and the region's clock. bigcache wants a
// string and keeps none, so that pooled bytes do.
type key struct {
	b [keySize]byte
	s string // the bytes of b
}

var keys = sync.Pool{New: func() any {
	k := new(key)
	k.s = unsafe.String(&k.b[0], keySize)
	return k
}}

func getKey(inode, index, region uint64) *key {
	k := keys.Get().(*key)
	binary.NativeEndian.PutUint64(k.b[0:], inode)
	binary.NativeEndian.PutUint64(k.b[8:], index)
	binary.NativeEndian.PutUint64(k.b[16:], region)
	return k
}

func (k *key) put() { keys.Put(k) }

// parseKey takes apart a key that bigcache gives back.
func parseKey(s string) (inode, index, region uint64) {
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	return binary.NativeEndian.Uint64(b), binary.NativeEndian.Uint64(b[8:]), binary.NativeEndian.Uint64(b[16:])
}

// hasher hashes keys. bigcache takes hash zero for deleted: hashOf is never zero.
type hasher struct{}

func (hasher) Sum64(s string) uint64 {
	inode, index, region := parseKey(s)
	return mix(hashOf(inode, index) ^ region*0xd6e8feb86659fd93)
}

// cache is a bigcache of a fixed size.
type cache struct {
	big *bigcache.BigCache
}

// newCache returns a cache of the given MiB, all of it allocated at once (growing would copy, and
// leave halves for the garbage collector). fallOut gets each entry that makes way for another; its bytes are its own.
func newCache(mib, chunkSize int, fallOut func(key string, entry []byte)) (*cache, error) {
	shards := shardsFor(mib, chunkSize)
	entryMax := chunkSize + entryOverhead
	config := bigcache.Config{
		Shards:             shards,
		LifeWindow:         100 * 365 * 24 * time.Hour, // an entry never gets too old
		CleanWindow:        0,                          // so nobody need look
		MaxEntriesInWindow: mib<<20/entryMax + shards,
		MaxEntrySize:       entryMax,
		HardMaxCacheSize:   mib,
		Hasher:             hasher{},
		OnRemoveWithReason: func(key string, entry []byte, _ bigcache.RemoveReason) { fallOut(key, entry) },
	}
	big, err := bigcache.New(context.Background(), config.OnRemoveFilterSet(bigcache.NoSpace))
	if err != nil {
		return nil, fmt.Errorf("bigcache of %d MiB: %w", mib, err)
	}
	return &cache{big: big}, nil
}

// get returns a copy of the entry.
func (c *cache) get(k *key) ([]byte, bool) {
	entry, err := c.big.Get(k.s)
	return entry, err == nil
}

// set replaces the entry. Entries are far smaller than a shard, so that it does not fail; if it
// did there would be none.
func (c *cache) set(k *key, chunk []byte) {
	if len(chunk) == 0 {
		chunk = emptyEntry[:]
	}
	if err := c.big.Set(k.s, chunk); err != nil {
		c.delete(k)
	}
}

func (c *cache) delete(k *key) { _ = c.big.Delete(k.s) } // fails only if there is none
