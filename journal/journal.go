package journal

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"zerofs/fence"
	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

// LSN is a record's place in the journal, from 1, without gaps. Zero means none.
type LSN uint64

const lsnMax = LSN(1<<64 - 1)

var (
	// ErrCorrupt reports damage: a record that was durable and cannot be read. It is wrapped with
	// the segment's file and the offset.
	ErrCorrupt = errors.New("journal: corrupt")
	// ErrGone reports that an LSN asked for is no longer held.
	ErrGone = errors.New("journal: released")
	// ErrFailed reports that a write to disk failed; it is final for this Journal.
	ErrFailed = errors.New("journal: failed")
	// ErrClosed reports use after Close.
	ErrClosed = errors.New("journal: closed")
	// ErrTooLarge reports a record larger than MaxRecord, or one larger than its reservation.
	ErrTooLarge = errors.New("journal: record too large")
)

// Options is what Open needs. All fields but Volatile are required.
type Options struct {
	Disk   disk.FS
	Dir    string    // made (0700) if it does not exist; the caller holds its lock
	Size   int64     // bytes of all segments, at least 256 KiB
	Key    *seal.Key // of the volume
	Rand   io.Reader // of each turn's salt: crypto/rand.Reader
	Logger *slog.Logger
	// Volatile says that Dir's file system forgets everything when the power goes, as tmpfs does:
	// Start then warns that nothing is durable.
	Volatile bool
}

func (o *Options) validate() error {
	switch {
	case o.Disk == nil:
		return errors.New("journal: no disk")
	case o.Dir == "":
		return errors.New("journal: no directory")
	case o.Key == nil:
		return errors.New("journal: no key")
	case o.Rand == nil:
		return errors.New("journal: no source of randomness")
	case o.Logger == nil:
		return errors.New("journal: no logger")
	}
	return nil
}

// phase is where a Journal is in its life.
type phase int

const (
	reading phase = iota // Open returned
	running              // Start returned
	closing              // Close was called: nothing new is taken
	closed               // Close gave up waiting or has nothing to wait for
)

// Journal is an open journal.
type Journal struct {
	opts    Options
	log     *slog.Logger
	segSize int64
	epoch   fence.Epoch // set by Start
	salt    salt        // set by Start
	aead    cipher.AEAD // set by Start; safe for concurrent use
	kept    LSN         // set by Start

	found recovery // what Open found; not used after Start

	writerWake  chan struct{} // capacity 1
	prepareWake chan struct{} // capacity 1
	stop        chan struct{} // closed with phase closed
	drained     chan struct{} // closed when phase is closing and nothing is queued, or the journal failed
	finished    chan struct{} // closed when every goroutine has ended and the files are closed
	workers     sync.WaitGroup
	lazy        *time.Timer // writes what nobody waits for; see lazyDelay

	mu      sync.Mutex // guards everything below
	phase   phase
	failed  error // wraps ErrFailed
	last    LSN   // last given out
	durable LSN
	release LSN // highest LSN that Release was called with

	// The ring, oldest first: held, cur, prepared; free is sorted by sequence.
	held     []*segment // written before, not released
	cur      *segment   // being written
	prepared []*segment // header on disk, empty
	free     []*segment
	retired  []*segment // removed from the ring; the preparer removes their files
	total    int64      // bytes of all segments, at least segSize for each
	nextSeq  uint64
	nextFile int
	noSpace  bool // the disk was full when the preparer last wanted a segment

	space  space
	queue  []*run // not taken yet, in LSN order; the last one takes records
	flight []*run // taken and not answered, in LSN order
	busy   int    // runs being encoded or written
	encode bool   // one of them has no place yet
	flush  bool   // write the queue though nobody waits for it
	armed  bool   // lazy runs

	spare spareRuns
	tail  tail
	scans []*scanner // idle ones, for Batches
}

// Held returns the first and last LSN that can be replayed; zeros when there is none. Once the
// journal was started it is the first held and the last durable.
func (j *Journal) Held() (first, last LSN) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.phase == reading {
		if j.found.first == 0 {
			return 0, 0
		}
		return j.found.first, j.found.last
	}
	if first = j.oldestLocked(); first > j.durable {
		return 0, 0
	}
	return first, j.durable
}

// MaxRecord returns the largest record in bytes that Reserve and Append take: what fits a segment,
// which is a sixteenth of Options.Size, at most 64 MiB.
func (j *Journal) MaxRecord() int { return int(j.segSize - firstRun - runOverhead - lenSize) }

// Last returns the last LSN that Append gave out, or the one that Start was called with.
func (j *Journal) Last() LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// Durable returns the last LSN that is durable.
func (j *Journal) Durable() LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable
}

// Usage tells how full the ring is.
type Usage struct {
	Used, Size int64 // bytes, reservations included
	First      LSN   // oldest record held; 0 if none is
	Last       LSN
	Durable    LSN
	Failed     error // nil while the disk works
}

// Usage returns the ring's state.
func (j *Journal) Usage() Usage {
	j.mu.Lock()
	defer j.mu.Unlock()
	u := Usage{Size: j.opts.Size / j.segSize * j.segSize, Last: j.last, Durable: j.durable, Failed: j.failed}
	if j.phase == reading {
		u.First, u.Last, u.Durable = j.found.first, j.found.last, j.found.last
		return u
	}
	for _, s := range j.held {
		u.Used += s.ready
	}
	u.Used += j.cur.off + j.space.pending
	if first := j.oldestLocked(); first <= j.last {
		u.First = first
	}
	return u
}

// oldestLocked returns the first LSN that is not released, or the next one if all are. It only
// grows. (What is not placed in a segment yet follows the last durable record.)
func (j *Journal) oldestLocked() LSN {
	for _, s := range j.held {
		if s.first != 0 {
			return s.first
		}
	}
	if j.cur != nil && j.cur.first != 0 {
		return j.cur.first
	}
	return j.durable + 1
}

// usableLocked reports why nothing new is taken; nil if it is.
func (j *Journal) usableLocked() error {
	switch {
	case j.failed != nil:
		return j.failed
	case j.phase == reading:
		return errors.New("journal: not started")
	case j.phase != running:
		return ErrClosed
	}
	return nil
}

// kick puts a token into a channel of capacity one.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Open fsyncs and reads what Dir holds. Nothing is appended before Start.
//
// Damage is reported by Replay, and only if it lies where the caller asks for records; Open fails
// on what makes the ring as a whole unreadable.
func Open(ctx context.Context, opts Options) (*Journal, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	size, err := segmentSize(opts.Size)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		opts: opts, log: opts.Logger, segSize: size,
		writerWake:  make(chan struct{}, 1),
		prepareWake: make(chan struct{}, 1),
		stop:        make(chan struct{}),
		drained:     make(chan struct{}),
		finished:    make(chan struct{}),
	}
	j.found, err = recoverRing(ctx, &opts)
	if err != nil {
		return nil, fmt.Errorf("journal: open %s: %w", opts.Dir, err)
	}
	return j, nil
}
