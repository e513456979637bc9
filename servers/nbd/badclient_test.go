package nbd

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func oneDevice() (*ram, *Server) {
	d := newRAM(64 << 10)
	return d, &Server{Exports: &shelf{devs: map[string]Device{"d": d}}}
}

// TestStalledClients has clients that stop in the middle of something. Each loses its connection
// when its time is up and not before, and a client beside it notices nothing.
func TestStalledClients(t *testing.T) {
	write := func(n uint32) []byte { return encodeRequest(header{cmd: cmdWrite, length: n}) }
	for _, tc := range []struct {
		name  string
		stall func(p *peer)
		after time.Duration // after which it is cut; 0: never
	}{
		{"silent from the start", func(p *peer) {}, DefaultHandshakeTimeout},
		{"silent after the flags", func(p *peer) { p.greet(flagFixedNewstyle) }, DefaultHandshakeTimeout},
		{"half an option", func(p *peer) { p.greet(flagFixedNewstyle); p.send(encodeOption(optList, nil)[:9]) }, DefaultHandshakeTimeout},
		{"an option every second", func(p *peer) {
			p.greet(flagFixedNewstyle)
			go func() {
				for !p.gone1() {
					p.send(encodeOption(optList, nil))
					time.Sleep(time.Second)
				}
			}()
		}, DefaultHandshakeTimeout},
		{"half a payload", func(p *peer) { p.attach("d", false); p.send(write(4096)); p.send(make([]byte, 100)) }, DefaultIOTimeout},
		{"a payload in drops", func(p *peer) {
			p.attach("d", false)
			p.send(write(64 << 10))
			go func() {
				for !p.gone1() {
					p.send(make([]byte, 10))
					time.Sleep(time.Second)
				}
			}()
		}, DefaultIOTimeout},
		{"a refused payload", func(p *peer) { p.attach("d", false); p.send(write(MaxPayload + 1)) }, DefaultIOTimeout + 256*time.Second},
		{"idle", func(p *peer) { p.attach("d", false) }, 0},
		{"half a request", func(p *peer) { p.attach("d", false); p.send(write(1)[:20]) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, srv := oneDevice()
			inBubble(t, srv, Options{}, func(r *rig) {
				good := r.dial()
				good.attach("d", true)
				start := time.Now()
				p := r.dial()
				tc.stall(p)
				for limit := time.Hour; !p.gone() && time.Since(start) < limit; {
					time.Sleep(time.Second)
				}
				took := time.Since(start)
				time.Sleep(2 * time.Second) // the stalling goroutine, if there is one, has noticed
				switch {
				case tc.after == 0 && p.gone():
					t.Errorf("cut after %v", took)
				case tc.after > 0 && (took < tc.after || took > tc.after+3*time.Second):
					t.Errorf("cut after %v, want %v", took, tc.after)
				}
				if a := good.do(header{cmd: cmdFlush}, nil, true); a.errno != 0 {
					t.Errorf("FLUSH on another connection: error %d", a.errno)
				}
			})
		})
	}
}

// gone1 is gone for goroutines beside the test's own.
func (p *peer) gone1() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// A client that does not read has its requests done up to the bounds, and is then cut, while
// another client with large requests goes on.
func TestClientThatDoesNotRead(t *testing.T) {
	d := newRAM(testSize)
	srv := &Server{Exports: &shelf{devs: map[string]Device{"d": d}}, MaxBytes: MaxPayload}
	inBubble(t, srv, Options{}, func(r *rig) {
		good := r.dial()
		good.attach("d", false)
		bad := r.dialDeaf()
		sent := make(chan int)
		go func() {
			n := 0
			for {
				if _, err := bad.Write(encodeRequest(header{cmd: cmdRead, length: 4 << 20})); err != nil {
					break
				}
				n++
			}
			sent <- n
		}()
		for range 30 {
			time.Sleep(time.Second)
			if a := good.do(header{cmd: cmdRead, length: 128 << 10}, nil, false); a.errno != 0 {
				t.Fatalf("read beside it: error %d", a.errno)
			}
		}
		d.mu.Lock()
		calls := len(d.calls)
		d.mu.Unlock()
		if limit := 30 + MaxPayload/(4<<20) + 1; calls > limit {
			t.Errorf("%d reads were done, more than %d", calls, limit)
		}
		if n := <-sent; n == 0 || n > 30 {
			t.Errorf("%d requests were taken from a client that does not read", n)
		}
		if a := good.do(header{cmd: cmdRead, length: 1 << 20}, nil, false); a.errno != 0 {
			t.Errorf("large read afterwards: error %d", a.errno)
		}
		if free := srv.shared.free; free != MaxPayload {
			t.Errorf("%d shared bytes are free, want all", free)
		}
	})
}

// dialDeaf connects and goes into the transmission phase; nobody reads what comes then.
func (r *rig) dialDeaf() net.Conn {
	r.t.Helper()
	a, b := net.Pipe()
	r.ln.conns <- b
	talk := func(hear int, say []byte) {
		if _, err := io.ReadFull(a, make([]byte, hear)); err != nil {
			r.t.Fatal(err)
		}
		if _, err := a.Write(say); err != nil {
			r.t.Fatal(err)
		}
	}
	talk(18, []byte{0, 0, 0, flagFixedNewstyle})
	talk(0, encodeOption(optGo, encodeInfo("d")))
	talk(20+12+20, nil)
	return a
}

// TestRudeClients hang up or talk nonsense; nothing of them stays, and the server goes on.
func TestRudeClients(t *testing.T) {
	for _, tc := range []struct {
		name string
		rude func(p *peer)
	}{
		{"hangs up at once", func(p *peer) {}},
		{"hangs up in a header", func(p *peer) { p.attach("d", true); p.send(make([]byte, 10)) }},
		{"wrong magic", func(p *peer) { p.attach("d", true); p.send(make([]byte, 28)) }},
		{"hangs up in a payload", func(p *peer) {
			p.attach("d", true)
			p.send(encodeRequest(header{cmd: cmdWrite, length: 64 << 10}))
			p.send(make([]byte, 1<<15))
		}},
		{"hangs up with requests in flight", func(p *peer) {
			p.attach("d", true)
			for i := range 50 {
				p.send(encodeRequest(header{cmd: cmdFlush, cookie: uint64(i)}))
			}
		}},
		{"payload too large to read past", func(p *peer) {
			p.attach("d", true)
			if got := p.ask(encodeRequest(header{cmd: cmdWrite, length: maxDrain + 1})); len(got) != simpleSize || !p.gone() {
				p.t.Errorf("answer of %d bytes, gone: %v", len(got), p.gone())
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, srv := oneDevice()
			d.before = func(ctx context.Context, op string) error {
				if op != "flush" {
					return nil
				}
				select { // in flight until it is cancelled, or for a long time
				case <-ctx.Done():
					return context.Cause(ctx)
				case <-time.After(time.Hour):
					return nil
				}
			}
			inBubble(t, srv, Options{}, func(r *rig) {
				start := time.Now()
				for range 20 {
					p := r.dial()
					tc.rude(p)
					p.nc.Close()
					synctest.Wait()
				}
				if st := srv.Stats(); st.Conns != 0 || st.Accepted != 20 {
					t.Errorf("%+v after all have hung up", st)
				}
				if took := time.Since(start); took > time.Minute {
					t.Errorf("took %v", took)
				}
				good := r.dial()
				good.attach("d", false)
				if a := good.do(header{cmd: cmdRead, length: 512}, nil, false); a.errno != 0 {
					t.Errorf("read afterwards: error %d", a.errno)
				}
				if free := srv.shared.free; free != DefaultMaxBytes {
					t.Errorf("%d shared bytes are free, want all", free)
				}
			})
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	_, srv := oneDevice()
	srv.MaxConns = 3
	inBubble(t, srv, Options{}, func(r *rig) {
		var peers []*peer
		for range 3 {
			p := r.dial()
			p.attach("d", false)
			peers = append(peers, p)
		}
		for range 100 {
			if p := r.dial(); !p.gone() {
				t.Fatal("one connection too many stays")
			}
		}
		peers[0].nc.Close()
		synctest.Wait()
		p := r.dial()
		p.attach("d", false)
		if st := srv.Stats(); st.Conns != 3 || st.Refused != 100 {
			t.Errorf("%+v", st)
		}
	})
}
