package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The model divides a device into blocks, each of which is written by one connection alone, with
// versions that only grow. So the bytes of a block say which write they are from.
const (
	modelBlock = 512
	modelConns = 4
	modelEach  = 8 // blocks of each connection
)

// versions are the versions of all blocks.
type versions [modelConns * modelEach]uint32

// model is what the connections know together.
type model struct {
	mu       sync.Mutex
	answered versions // guarded by mu; newest version whose write was answered
	durable  versions // guarded by mu; at least this has to survive a crash from now on
	sent     versions // guarded by mu; newest version that may be there
}

// TestModel runs random requests of several connections, many at once on each, against a device
// that takes random times, in virtual time. What is read is what was written last; what was
// answered before a FLUSH was sent, on whatever connection, survives a crash at any moment after
// the answer to it, and so does what was written with FUA.
func TestModel(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runModel(t, seed) })
	}
}

func runModel(t *testing.T, seed uint64) {
	d := newRAM(modelConns * modelEach * modelBlock)
	var rngMu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	d.before = func(context.Context, string) error {
		rngMu.Lock()
		pause := time.Duration(rng.IntN(3)*rng.IntN(1000)) * time.Microsecond
		rngMu.Unlock()
		time.Sleep(pause)
		return nil
	}
	dev := Device(d)
	if seed%2 == 1 {
		dev = fastRAM{d, d.Size() / 2}
	}
	var m model
	inBubble(t, &Server{Exports: &shelf{devs: map[string]Device{"d": dev}}}, Options{}, func(r *rig) {
		var wg sync.WaitGroup
		for i := range modelConns {
			c := newModelConn(r, &m, i, seed)
			wg.Go(c.listen)
			wg.Go(c.run)
		}
		stop := make(chan struct{})
		var crasher sync.WaitGroup
		crasher.Go(func() { m.crashNowAndThen(t, d, stop) })
		wg.Wait()
		close(stop)
		crasher.Wait()
		synctest.Wait()
	})
}

// crashNowAndThen looks at what a crash would leave.
func (m *model) crashNowAndThen(t *testing.T, d *ram, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Microsecond):
		}
		m.mu.Lock()
		want := m.durable
		m.mu.Unlock()
		d.mu.Lock()
		for b := range want {
			if got := binary.BigEndian.Uint32(d.stable[b*modelBlock:]); got < want[b] {
				t.Errorf("block %d: version %d survives, %d was made durable", b, got, want[b])
			}
		}
		d.mu.Unlock()
	}
}

// modelConn is a client with several requests in flight, at most one on each block.
type modelConn struct {
	t    *testing.T
	m    *model
	nc   net.Conn
	me   int
	rng  *rand.Rand
	free chan int // blocks with nothing in flight, by their number on the device

	mu     sync.Mutex
	flight map[uint64]*modelOp // guarded by mu
	reads  map[uint64]int      // guarded by mu; for parseAnswer
}

type modelOp struct {
	h       header
	block   int
	version uint32
	before  versions // of a FLUSH: what was answered when it was sent
}

func newModelConn(r *rig, m *model, me int, seed uint64) *modelConn {
	c := &modelConn{
		t: r.t, m: m, nc: r.dialDeaf(), me: me, rng: rand.New(rand.NewPCG(seed, uint64(me)+1)),
		free: make(chan int, modelEach), flight: map[uint64]*modelOp{}, reads: map[uint64]int{},
	}
	for i := range modelEach {
		c.free <- me*modelEach + i
	}
	return c
}

// run sends requests and then waits until all are answered.
func (c *modelConn) run() {
	for i := range 300 {
		op, payload := c.draw(uint64(i + 1))
		c.mu.Lock()
		c.flight[op.h.cookie] = op
		if op.h.cmd == cmdRead {
			c.reads[op.h.cookie] = int(op.h.length)
		}
		c.mu.Unlock()
		if _, err := c.nc.Write(append(encodeRequest(op.h), payload...)); err != nil {
			c.t.Errorf("connection %d: %v", c.me, err)
			return
		}
	}
	for range modelEach {
		<-c.free
	}
	if _, err := c.nc.Write(encodeRequest(header{cmd: cmdDisc})); err != nil {
		c.t.Error(err)
	}
}

// draw makes up a request on a block that has none in flight.
func (c *modelConn) draw(cookie uint64) (*modelOp, []byte) {
	op := &modelOp{block: <-c.free, h: header{cookie: cookie}}
	op.h.off, op.h.length = uint64(op.block*modelBlock), modelBlock
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	switch c.rng.IntN(10) {
	case 0, 1:
		op.h.cmd, op.h.off, op.h.length, op.before = cmdFlush, 0, 0, c.m.answered
		return op, nil
	case 2, 3, 4:
		op.h.cmd, op.version = cmdRead, c.m.sent[op.block]
		return op, nil
	case 5:
		op.h.flags = cmdFlagFUA
	}
	op.h.cmd = cmdWrite
	c.m.sent[op.block]++
	op.version = c.m.sent[op.block]
	return op, blockOf(op.version)
}

func blockOf(version uint32) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint32(nil, version), modelBlock/4)
}

// listen checks the answers until the server hangs up.
func (c *modelConn) listen() {
	var got []byte
	buf := make([]byte, 4096)
	for {
		n, err := c.nc.Read(buf)
		got = append(got, buf[:n]...)
		for c.hear(&got) {
		}
		if err != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(got) > 0 || len(c.flight) > 0 {
		c.t.Errorf("connection %d: %d bytes left, %d requests unanswered", c.me, len(got), len(c.flight))
	}
}

// hear takes one answer from got.
func (c *modelConn) hear(got *[]byte) bool {
	c.mu.Lock()
	a, rest, ok, err := parseAnswer(*got, c.reads)
	op := c.flight[a.cookie]
	if ok {
		delete(c.flight, a.cookie)
	}
	c.mu.Unlock()
	if err != nil || ok && (op == nil || a.errno != 0) {
		c.t.Errorf("connection %d: %+v, %v", c.me, a, err)
		*got = nil
		return false
	}
	if !ok {
		return false
	}
	*got = rest
	c.m.answer(c.t, op, a.data)
	c.free <- op.block
	return true
}

// answer learns from an answer.
func (m *model) answer(t *testing.T, op *modelOp, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch op.h.cmd {
	case cmdRead:
		if !bytes.Equal(data, blockOf(op.version)) {
			t.Errorf("block %d: read % x…, want version %d", op.block, data[:4], op.version)
		}
	case cmdWrite:
		m.answered[op.block] = op.version
		if op.h.flags&cmdFlagFUA != 0 {
			m.durable[op.block] = max(m.durable[op.block], op.version)
		}
	case cmdFlush:
		for b, v := range op.before {
			m.durable[b] = max(m.durable[b], v)
		}
	}
}
