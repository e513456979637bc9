package ninep

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"zerofs/engine/locks"
)

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
	fs  *fake
	srv *Server
	ln  *pipes
	end chan error // what Serve returned
}

// inBubble runs test with a server of a fake file system, in virtual time; afterwards the server is
// shut down, and every goroutine, fid and hold has to be gone.
func inBubble(t *testing.T, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start(context.Background())
		test(r)
		r.shutdown()
	})
}

func newRig(t *testing.T) *rig {
	f := newFake()
	return &rig{t: t, fs: f, ln: newPipes(), end: make(chan error, 1), srv: &Server{
		FS: f, Locks: locks.New(), Wait: func(context.Context) error { return nil },
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}}
}

func (r *rig) start(ctx context.Context) { go func() { r.end <- r.srv.Serve(ctx, r.ln) }() }

func (r *rig) shutdown() {
	r.t.Helper()
	if err := r.srv.Shutdown(context.Background()); err != nil {
		r.t.Errorf("Shutdown: %v", err)
	}
	if err := <-r.end; !errors.Is(err, ErrServerClosed) {
		r.t.Errorf("Serve returned %v", err)
	}
	r.nothingLeft()
}

// nothingLeft checks that no fid, hold, lock or value is left of clients that are gone.
func (r *rig) nothingLeft() {
	r.t.Helper()
	if n := r.fs.held(); n != 0 {
		r.t.Errorf("%d references to inodes are left", n)
	}
	if a, b, c := r.srv.fids.Load(), r.srv.holds.Load(), r.srv.xattrs.Load(); a != 0 || b != 0 || c != 0 {
		r.t.Errorf("left: %d fids, %d holds, %d bytes of attributes", a, b, c)
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

// heard returns everything that the server has answered when it waits for more.
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

// message is one message in either direction.
type message struct {
	typ  uint8
	tag  uint16
	body []byte
}

// errno is that of an Rlerror, 0 of any other message.
func (m message) errno() errno {
	if m.typ != msgRlerror {
		return 0
	}
	return errno(binary.LittleEndian.Uint32(m.body))
}

func (m message) d() *decoder { return &decoder{b: m.body} }

// split takes b apart.
func split9(t *testing.T, b []byte) (all []message) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < headerSize || int(binary.LittleEndian.Uint32(b)) > len(b) || binary.LittleEndian.Uint32(b) < headerSize {
			t.Fatalf("bad message % x", b[:min(len(b), 64)])
		}
		n := binary.LittleEndian.Uint32(b)
		all = append(all, message{b[4], binary.LittleEndian.Uint16(b[5:]), b[headerSize:n]})
		b = b[n:]
	}
	return all
}

// say builds a message of fields: numbers by their size, strings, []string as names of a walk, and
// []byte as it is.
func say(typ uint8, tag uint16, fields ...any) []byte {
	b := make([]byte, headerSize)
	for _, f := range fields {
		switch v := f.(type) {
		case uint8:
			b = append(b, v)
		case uint16:
			b = binary.LittleEndian.AppendUint16(b, v)
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, v)
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case string:
			b = appendString(b, v)
		case []string:
			b = binary.LittleEndian.AppendUint16(b, uint16(len(v)))
			for _, s := range v {
				b = appendString(b, s)
			}
		case []byte:
			b = append(b, v...)
		default:
			panic("say: what is it?")
		}
	}
	putHeader(b, len(b), typ, tag)
	return b
}

// ask sends one message and returns its answer.
func (p *peer) ask(typ uint8, fields ...any) message {
	p.t.Helper()
	const tag = 0x7777
	p.send(say(typ, tag, fields...))
	got := split9(p.t, p.heard())
	if len(got) != 1 || got[0].tag != tag || got[0].typ != typ+1 && got[0].typ != msgRlerror {
		p.t.Fatalf("message %d: answers %+v", typ, got)
	}
	return got[0]
}

// must is ask for what has to succeed.
func (p *peer) must(typ uint8, fields ...any) *decoder {
	p.t.Helper()
	m := p.ask(typ, fields...)
	if e := m.errno(); e != 0 {
		p.t.Fatalf("message %d: errno %d", typ, e)
	}
	return m.d()
}

// fails is ask for what has to fail so.
func (p *peer) fails(want errno, typ uint8, fields ...any) {
	p.t.Helper()
	if got := p.ask(typ, fields...).errno(); got != want {
		p.t.Errorf("message %d %v: errno %d, want %d", typ, fields, got, want)
	}
}

// attach agrees on a version and attaches fid 0 to the root as root.
func (p *peer) attach() *peer {
	p.t.Helper()
	p.must(msgTversion, uint32(1<<20), version)
	p.must(msgTattach, uint32(0), noFid, "root", "", uint32(0))
	return p
}

// walk makes fid newFid from fid.
func (p *peer) walk(fid, newFid uint32, names ...string) {
	p.t.Helper()
	p.must(msgTwalk, fid, newFid, append([]string{}, names...))
}

// create makes a file in the root and leaves it open for reading and writing as fid.
func (p *peer) create(fid uint32, name string) {
	p.t.Helper()
	p.walk(0, fid)
	p.must(msgTlcreate, fid, name, uint32(2), uint32(0o644), uint32(0))
}

func (p *peer) write(fid uint32, off uint64, data string) {
	p.t.Helper()
	if n := p.must(msgTwrite, fid, off, uint32(len(data)), []byte(data)).u32(); int(n) != len(data) {
		p.t.Errorf("wrote %d of %d bytes", n, len(data))
	}
}

func (p *peer) read(fid uint32, off uint64, n int) string {
	p.t.Helper()
	d := p.must(msgTread, fid, off, uint32(n))
	got := string(d.take(int(d.u32())))
	if !d.ok() {
		p.t.Errorf("Rread is malformed")
	}
	return got
}
