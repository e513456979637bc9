package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// ramSector is the grain at which ram knows what is durable.
const ramSector = 512

// ram is a device in memory which knows what would survive a crash.
type ram struct {
	mu     sync.Mutex
	data   []byte // guarded by mu
	stable []byte // guarded by mu; what is durable
	calls  []string

	clock    uint64   // guarded by mu; counts changes
	changed  []uint64 // guarded by mu; clock of the last change of each sector of data
	stableAt []uint64 // guarded by mu; clock of each sector of stable

	// before is called at the start of each operation that may take its time; an error fails it.
	before func(ctx context.Context, op string) error
}

func newRAM(size int) *ram {
	sectors := (size + ramSector - 1) / ramSector
	return &ram{
		data: make([]byte, size), stable: make([]byte, size),
		changed: make([]uint64, sectors), stableAt: make([]uint64, sectors),
	}
}

// change lets f change a range of data. d.mu is held.
func (d *ram) change(off, n int64, durable bool, f func(p []byte)) {
	d.clock++
	f(d.data[off : off+n])
	for s := off / ramSector; s*ramSector < off+n; s++ {
		d.changed[s] = d.clock
		if durable {
			d.settle(s)
		}
	}
}

// settle makes a sector durable. d.mu is held.
func (d *ram) settle(sector int64) {
	first := sector * ramSector
	last := min(first+ramSector, int64(len(d.data)))
	copy(d.stable[first:last], d.data[first:last])
	d.stableAt[sector] = d.changed[sector]
}

func (d *ram) begin(ctx context.Context, op string, args ...any) error {
	d.mu.Lock()
	d.calls = append(d.calls, op+fmt.Sprint(args...))
	d.mu.Unlock()
	if d.before == nil {
		return nil
	}
	return d.before(ctx, op)
}

func (d *ram) Size() int64 { return int64(len(d.data)) }

func (d *ram) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := d.begin(ctx, "read", off, len(p)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(p, d.data[off:])
	return nil
}

func (d *ram) WriteAt(ctx context.Context, p []byte, off int64, durable bool) error {
	if err := d.begin(ctx, "write", off, len(p), durable); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.change(off, int64(len(p)), durable, func(b []byte) { copy(b, p) })
	return nil
}

func (d *ram) Zero(ctx context.Context, off, n int64, keep, durable bool) error {
	if err := d.begin(ctx, "zero", off, n, keep, durable); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.change(off, n, durable, func(b []byte) { clear(b) })
	return nil
}

func (d *ram) Trim(ctx context.Context, off, n int64, durable bool) error {
	return d.Zero(ctx, off, n, false, durable)
}

// Flush makes durable what completed before it and, where that was not overwritten since, no more.
func (d *ram) Flush(ctx context.Context) error {
	type sector struct {
		n    int64
		at   uint64
		data [ramSector]byte
	}
	var dirty []sector
	d.mu.Lock()
	for s, at := range d.changed {
		if at > d.stableAt[s] {
			dirty = append(dirty, sector{n: int64(s), at: at})
			copy(dirty[len(dirty)-1].data[:], d.data[s*ramSector:])
		}
	}
	d.mu.Unlock()
	if err := d.begin(ctx, "flush"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range dirty {
		if s.at > d.stableAt[s.n] {
			first := s.n * ramSector
			copy(d.stable[first:min(first+ramSector, int64(len(d.stable)))], s.data[:])
			d.stableAt[s.n] = s.at
		}
	}
	return nil
}

func (d *ram) Cache(ctx context.Context, off, n int64) error { return d.begin(ctx, "cache", off, n) }

var zeros [4096]byte

// Extents calls blocks of 4096 zeros holes.
func (d *ram) Extents(ctx context.Context, off, n int64, fn func(int64, bool) bool) error {
	if err := d.begin(ctx, "extents", off, n); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for n > 0 {
		k := min(n, 4096-off%4096)
		first := off - off%4096
		block := d.data[first:min(first+4096, int64(len(d.data)))]
		if !fn(k, bytes.Equal(block, zeros[:len(block)])) {
			return nil
		}
		off, n = off+k, n-k
	}
	return nil
}

// fastRAM answers reads at once from offsets below limit.
type fastRAM struct {
	*ram
	limit int64
}

func (d fastRAM) TryReadAt(p []byte, off int64) bool {
	if off >= d.limit {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(p, d.data[off:])
	return true
}

// shelf is a set of exports.
type shelf struct {
	devs map[string]Device
	wait func(context.Context) error // nil: never waits
	open sync.WaitGroup              // devices open
	err  error                       // of Open, if not nil
}

func (s *shelf) Names() []string {
	names := []string{}
	for name := range s.devs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *shelf) Open(_ context.Context, name string) (Device, func(), error) {
	if s.err != nil {
		return nil, nil, s.err
	}
	dev, ok := s.devs[name]
	if !ok {
		return nil, nil, fmt.Errorf("no device %q: %w", name, fs.ErrNotExist)
	}
	s.open.Add(1)
	return dev, s.open.Done, nil
}

func (s *shelf) Wait(ctx context.Context) error {
	if s.wait == nil {
		return nil
	}
	return s.wait(ctx)
}

// pipes is a listener without a network.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// rig is a server under test.
type rig struct {
	t   *testing.T
	srv *Server
	ln  *pipes
	end chan error // what Serve returned
}

// inBubble runs test with a server, in virtual time; afterwards the server is shut down and every
// goroutine has to be gone.
func inBubble(t *testing.T, srv *Server, opts Options, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, context.Background(), srv, opts)
		test(r)
		r.shutdown()
	})
}

func startRig(t *testing.T, ctx context.Context, srv *Server, opts Options) *rig {
	t.Helper()
	if srv.Logger == nil {
		srv.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	r := &rig{t: t, srv: srv, ln: newPipes(), end: make(chan error, 1)}
	go func() { r.end <- srv.Serve(ctx, r.ln, opts) }()
	return r
}

func (r *rig) shutdown() {
	r.t.Helper()
	if err := r.srv.Shutdown(context.Background()); err != nil {
		r.t.Errorf("Shutdown: %v", err)
	}
	if err := <-r.end; !errors.Is(err, ErrServerClosed) {
		r.t.Errorf("Serve returned %v", err)
	}
	if s, ok := r.srv.Exports.(*shelf); ok {
		s.open.Wait() // or the bubble reports a deadlock: a device was not released
	}
}

// testWriter is a log that shows when a test fails.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// peer is a client that says what it is told to and collects what it hears.
type peer struct {
	t  *testing.T
	nc net.Conn

	mu   sync.Mutex
	got  []byte // guarded by mu; heard and not yet taken
	done bool   // guarded by mu; the server has hung up
}

// dial connects. The peer hangs up when the server does.
func (r *rig) dial() *peer {
	r.t.Helper()
	a, b := net.Pipe()
	select {
	case r.ln.conns <- b:
	case <-r.ln.closed:
		r.t.Fatal("dial: the listener is closed")
	}
	p := &peer{t: r.t, nc: a}
	go p.listen()
	return p
}

func (p *peer) listen() {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.nc.Read(buf)
		p.mu.Lock()
		p.got = append(p.got, buf[:n]...)
		if err != nil {
			p.done = true
			p.mu.Unlock()
			p.nc.Close()
			return
		}
		p.mu.Unlock()
	}
}

// send says b; it fails silently if the server has hung up.
func (p *peer) send(b []byte) { _, _ = p.nc.Write(b) }

// ask says b and returns everything that the server answers before it waits for more.
func (p *peer) ask(b []byte) []byte {
	p.send(b)
	return p.heard()
}

func (p *peer) heard() []byte {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// gone reports whether the server has hung up.
func (p *peer) gone() bool {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// greet takes the server's greeting and answers with flags.
func (p *peer) greet(flags uint32) {
	p.t.Helper()
	if got := len(p.heard()); got != 18 {
		p.t.Fatalf("greeting of %d bytes", got)
	}
	p.send(binary.BigEndian.AppendUint32(nil, flags))
}

// optReply is a reply to an option.
type optReply struct {
	opt, kind uint32
	data      []byte
}

// option sends an option and returns the replies.
func (p *peer) option(opt uint32, data []byte) []optReply {
	p.t.Helper()
	got := p.ask(encodeOption(opt, data))
	replies := []optReply{}
	for len(got) > 0 {
		if len(got) < 20 || binary.BigEndian.Uint64(got) != magicOptReply {
			p.t.Fatalf("option %d: bad reply % x", opt, got)
		}
		n := binary.BigEndian.Uint32(got[16:])
		replies = append(replies, optReply{
			binary.BigEndian.Uint32(got[8:]), binary.BigEndian.Uint32(got[12:]), got[20 : 20+n],
		})
		got = got[20+n:]
	}
	return replies
}

func encodeOption(opt uint32, data []byte) []byte {
	p := binary.BigEndian.AppendUint64(nil, magicOption)
	p = binary.BigEndian.AppendUint32(p, opt)
	p = binary.BigEndian.AppendUint32(p, uint32(len(data)))
	return append(p, data...)
}

func encodeInfo(name string, kinds ...uint16) []byte {
	p := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	p = append(p, name...)
	p = binary.BigEndian.AppendUint16(p, uint16(len(kinds)))
	for _, k := range kinds {
		p = binary.BigEndian.AppendUint16(p, k)
	}
	return p
}

func encodeMeta(name string, queries ...string) []byte {
	p := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	p = append(p, name...)
	p = binary.BigEndian.AppendUint32(p, uint32(len(queries)))
	for _, q := range queries {
		p = binary.BigEndian.AppendUint32(p, uint32(len(q)))
		p = append(p, q...)
	}
	return p
}

func encodeRequest(h header) []byte {
	p := binary.BigEndian.AppendUint32(nil, magicRequest)
	p = binary.BigEndian.AppendUint16(p, h.flags)
	p = binary.BigEndian.AppendUint16(p, h.cmd)
	p = binary.BigEndian.AppendUint64(p, h.cookie)
	p = binary.BigEndian.AppendUint64(p, h.off)
	return binary.BigEndian.AppendUint32(p, h.length)
}

// attach goes into the transmission phase of an export.
func (p *peer) attach(name string, structured bool) {
	p.t.Helper()
	p.greet(flagFixedNewstyle | flagNoZeroes)
	if structured {
		p.option(optStructuredReply, nil)
		p.option(optSetMetaContext, encodeMeta(name, contextAllocation))
	}
	replies := p.option(optGo, encodeInfo(name))
	if len(replies) == 0 || replies[len(replies)-1].kind != repAck {
		p.t.Fatalf("GO: %+v", replies)
	}
}

// answer is one reply of the transmission phase.
type answer struct {
	cookie uint64
	errno  uint32
	typ    uint16 // of a structured reply
	data   []byte // what comes after the headers, offset and context id included
}

// parseAnswer splits off the first answer of p; reads says for which cookies a simple reply has how
// much data. ok is false when it is not all there.
func parseAnswer(p []byte, reads map[uint64]int) (a answer, rest []byte, ok bool, err error) {
	if len(p) < simpleSize {
		return a, p, false, nil
	}
	a.cookie = binary.BigEndian.Uint64(p[8:])
	switch binary.BigEndian.Uint32(p) {
	case magicSimple:
		a.errno = binary.BigEndian.Uint32(p[4:])
		n := simpleSize
		if a.errno == 0 {
			n += reads[a.cookie]
		}
		if len(p) < n {
			return a, p, false, nil
		}
		a.data = p[simpleSize:n]
		return a, p[n:], true, nil
	case magicStructured:
		if len(p) < structuredSize {
			return a, p, false, nil
		}
		n := structuredSize + int(binary.BigEndian.Uint32(p[16:]))
		if len(p) < n {
			return a, p, false, nil
		}
		a.typ, a.data = binary.BigEndian.Uint16(p[6:]), p[structuredSize:n]
		if binary.BigEndian.Uint16(p[4:]) != replyDone {
			return a, p, false, errors.New("chunk without DONE")
		}
		if a.typ == replyError {
			a.errno = binary.BigEndian.Uint32(a.data)
		}
		return a, p[n:], true, nil
	}
	return a, p, false, fmt.Errorf("bad magic % x", p[:4])
}

// do sends one request and returns its answer.
func (p *peer) do(h header, payload []byte, structured bool) answer {
	p.t.Helper()
	reads := map[uint64]int{}
	if h.cmd == cmdRead && !structured {
		reads[h.cookie] = int(h.length)
	}
	got := p.ask(append(encodeRequest(h), payload...))
	a, rest, ok, err := parseAnswer(got, reads)
	if err != nil || !ok || len(rest) > 0 {
		p.t.Fatalf("%+v: answer of %d bytes, %d left, %v", h, len(got), len(rest), err)
	}
	if a.cookie != h.cookie {
		p.t.Fatalf("%+v: cookie %d", h, a.cookie)
	}
	return a
}
