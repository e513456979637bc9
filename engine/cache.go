package engine

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"zerofs/tiers/memory"
)

// chunkCache is what the engine asks of the memory tier. *memory.Tier is one.
//
// A cached chunk may become the base of a Set, so a stale one would be lost data. Two rules keep that
// out: a fill loses against any write since its BeginFill, and a chunk is used as a base under its
// write lock only.
type chunkCache interface {
	Get(dst []byte, inode, index uint64) ([]byte, bool)
	BeginFill(inode, index uint64) memory.Token
	Fill(tok memory.Token, inode, index uint64, chunk []byte)
	Write(inode, index uint64, chunk []byte)
	Invalidate(inode, first, last uint64)
}

func newChunkCache(t *memory.Tier) chunkCache {
	if t == nil {
		return noCache{}
	}
	return t
}

// noCache holds nothing.
type noCache struct{}

func (noCache) Get(dst []byte, _, _ uint64) ([]byte, bool) { return dst, false }
func (noCache) BeginFill(_, _ uint64) memory.Token         { return 0 }
func (noCache) Fill(_ memory.Token, _, _ uint64, _ []byte) {}
func (noCache) Write(_, _ uint64, _ []byte)                {}
func (noCache) Invalidate(_, _, _ uint64)                  {}

// pools keep what a request needs, so that it allocates nothing.
type pools struct {
	chunks sync.Pool // *chunkBuf
	runs   sync.Pool // *runScratch
	piece  sync.Pool // *chunkBuf of what is read ahead at a time
}

// chunkBuf holds a chunk.
type chunkBuf struct{ b []byte }

func (p *pools) init(chunkSize int) {
	p.chunks.New = func() any { return &chunkBuf{b: make([]byte, chunkSize)} }
	p.piece.New = func() any { return &chunkBuf{b: make([]byte, pieceChunks*minChunkSize)} }
	p.runs.New = func() any { return &runScratch{} }
}

func (p *pools) chunk() *chunkBuf     { return p.chunks.Get().(*chunkBuf) }
func (p *pools) putChunk(c *chunkBuf) { p.chunks.Put(c) }

// batchOptions keep a batch's buffer for the next one, up to the largest that a write makes.
var batchOptions = []pebble.BatchOption{pebble.WithMaxRetainedSizeBytes(2 * writeMax)}

func (e *Engine) newBatch() *pebble.Batch { return e.db.NewBatch(batchOptions...) }
