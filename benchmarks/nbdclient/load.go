package nbdclient

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Load is a Source of reads or writes, each of Block bytes, at random or one after another in a part of the
// device, until a count is reached or a time has passed.
type Load struct {
	Command uint16 // Read or Write
	Flags   uint16
	Flush   bool // a Flush follows each request at its place; the latency is that of both

	Start  int64 // of the part of the device used, in bytes
	Length int64 // of it, a multiple of Block
	Block  int64 // bytes of a request
	Random bool

	Count int           // of requests; 0: no limit
	For   time.Duration // how long; 0: no limit
	Every time.Duration // from one request to the next, at the least; for a depth of 1

	Rand *rand.Rand

	buffers  [][]byte // by place
	flushes  []bool   // by place: the Flush is next or under way
	partial  []time.Duration
	pool     []byte // random bytes that writes take their data from
	started  int
	begun    time.Time
	nextAt   time.Time
	position int64

	Latencies []time.Duration // of those answered
}

// poolBytes is more than any compressor looks back, so that data from the pool are as good as random.
const poolBytes = 32 << 20

// Prepare makes room for depth places, so that Run allocates little.
func (l *Load) Prepare(depth int) {
	l.buffers = make([][]byte, depth)
	l.flushes = make([]bool, depth)
	l.partial = make([]time.Duration, depth)
	if l.Command == Write {
		l.pool = RandomBytes(l.Rand, poolBytes+int(l.Block))
	} else {
		for i := range l.buffers {
			l.buffers[i] = make([]byte, l.Block)
		}
	}
	l.Latencies = make([]time.Duration, 0, max(l.Count, 1<<20))
}

// RandomBytes returns n of them.
func RandomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, (n+7)&^7)
	for i := 0; i < len(b); i += 8 {
		v := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b[:n]
}

// Next is a Source's.
func (l *Load) Next(place int, r *Request) bool {
	if l.flushes[place] {
		r.Command = Flush
		return true
	}
	now := time.Now()
	if l.begun.IsZero() {
		l.begun, l.nextAt = now, now
	}
	if l.Count > 0 && l.started == l.Count || l.For > 0 && now.Sub(l.begun) >= l.For {
		return false
	}
	if l.Every > 0 {
		time.Sleep(l.nextAt.Sub(now))
		l.nextAt = l.nextAt.Add(l.Every)
	}
	l.started++
	r.Command, r.Flags, r.Offset = l.Command, l.Flags, l.Start+l.offset()
	r.Data = l.buffers[place]
	if l.Command == Write {
		from := l.Rand.IntN(poolBytes)
		r.Data = l.pool[from : from+int(l.Block)]
	}
	return true
}

func (l *Load) offset() int64 {
	if l.Random {
		return l.Rand.Int64N(l.Length/l.Block) * l.Block
	}
	off := l.position
	l.position = (l.position + l.Block) % l.Length
	return off
}

// Done is a Source's.
func (l *Load) Done(place int, took time.Duration) {
	if !l.Flush {
		l.Latencies = append(l.Latencies, took)
		return
	}
	if l.flushes[place] {
		l.Latencies = append(l.Latencies, l.partial[place]+took)
	} else {
		l.partial[place] = took
	}
	l.flushes[place] = !l.flushes[place]
}

// Run prepares the load and runs it on a new connection; it returns how long that took, without the
// preparation.
func (l *Load) Run(socket, export string, depth int) (time.Duration, error) {
	c, err := Dial(socket, export)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	l.Prepare(depth)
	start := time.Now()
	err = c.Run(depth, l)
	return time.Since(start), err
}

// Percentile returns the latency that a share p of the requests stayed under, from 0 to 1.
func Percentile(ds []time.Duration, p float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(ds))
	return s[min(int(p*float64(len(s))), len(s)-1)]
}

// Once is a Source of one request.
type Once struct {
	Request
	Took time.Duration
	sent bool
}

// Next is a Source's.
func (o *Once) Next(_ int, r *Request) bool {
	if o.sent {
		return false
	}
	*r, o.sent = o.Request, true
	return true
}

// Done is a Source's.
func (o *Once) Done(_ int, took time.Duration) { o.Took = took }

// FlushAll sends one Flush and waits for it.
func FlushAll(socket, export string) error {
	c, err := Dial(socket, export)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Run(1, &Once{Request: Request{Command: Flush}})
}
