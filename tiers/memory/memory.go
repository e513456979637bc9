// Package memory is the memory tier: decrypted chunks in two bigcaches with ghost admission.
package memory

// Tier is the memory tier. Any goroutine may call any method.
type Tier struct{}

// New returns a tier that holds at most size bytes, its own overhead included. Zero holds nothing.
func New(size int64, chunkSize int) (*Tier, error) { panic("not built") }

// Get appends the chunk to dst and reports whether it was there. An all-zero chunk may be held as empty.
func (t *Tier) Get(dst []byte, inode, index uint64) ([]byte, bool) { panic("not built") }

// Token stands for a read of the tree that may fill the tier.
type Token uint64

// BeginFill is called before the tree is read.
func (t *Tier) BeginFill(inode, index uint64) Token { panic("not built") }

// Fill inserts what was read, unless the chunk's stripe was written since BeginFill.
func (t *Tier) Fill(tok Token, inode, index uint64, chunk []byte) { panic("not built") }

// Write replaces a chunk; the caller holds the chunk's write lock. Fills begun before lose.
func (t *Tier) Write(inode, index uint64, chunk []byte) { panic("not built") }

// Invalidate forgets chunks first..last, both included. Fills begun before lose.
func (t *Tier) Invalidate(inode, first, last uint64) { panic("not built") }

// Stats are counts since New, and bytes held.
type Stats struct{ Hits, Misses, Fills, FillsLost, Bytes int64 }

// Stats returns the counters.
func (t *Tier) Stats() Stats { panic("not built") }

// Close frees the memory.
func (t *Tier) Close() error { panic("not built") }
