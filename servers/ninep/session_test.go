package ninep

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestVersion(t *testing.T) {
	for _, tc := range []struct {
		msize     uint32
		says      string
		wantSize  uint32
		wantSays  string
		wantErrno errno
	}{
		{8192, "9P2000.L", 8192, "9P2000.L", 0},
		{1 << 20, "9P2000.L", 1 << 20, "9P2000.L", 0},
		{^uint32(0), "9P2000.L", MaxMsize, "9P2000.L", 0},
		{8192, "9P2000.L.Google.7", 8192, "9P2000.L", 0},
		{8192, "9P2000", 8192, "unknown", 0},
		{8192, "9P2000.u", 8192, "unknown", 0},
		{8192, "9P2000.Linux", 8192, "unknown", 0},
		{8192, "", 8192, "unknown", 0},
		{4095, "9P2000.L", 0, "", errInvalid},
	} {
		inBubble(t, func(r *rig) {
			p := r.dial()
			m := p.ask(msgTversion, tc.msize, tc.says)
			if m.errno() != tc.wantErrno {
				t.Errorf("%q: errno %d", tc.says, m.errno())
			}
			if tc.wantErrno != 0 {
				return
			}
			d := m.d()
			if size, says := d.u32(), d.str(); size != tc.wantSize || says != tc.wantSays || !d.ok() {
				t.Errorf("%d %q: %d %q", tc.msize, tc.says, size, says)
			}
		})
	}
}

// A second Tversion ends all that the client had: fids, locks, and requests, which get no answer.
func TestVersionResets(t *testing.T) {
	inBubble(t, func(r *rig) {
		p, q := r.dial().attach(), r.dial().attach()
		p.create(1, "a")
		q.walk(0, 1, "a")
		q.must(msgTlopen, uint32(1), uint32(2))
		p.must(msgTlock, uint32(1), uint8(lockExclusive), uint32(0), uint64(0), uint64(0), uint32(9), "host")
		r.fs.before = func(ctx context.Context, op string) error {
			if op == "read" {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		}
		p.send(say(msgTread, 5, uint32(1), uint64(0), uint32(10)))
		if got := p.heard(); len(got) > 0 {
			t.Fatalf("answers % x", got)
		}
		p.must(msgTversion, uint32(8192), version)
		p.fails(errBadFid, msgTgetattr, uint32(1), uint64(getAll))
		if got := q.must(msgTlock, uint32(1), uint8(lockExclusive), uint32(0), uint64(0), uint64(0), uint32(9), "host").u8(); got != lockSuccess {
			t.Errorf("lock: %d", got)
		}
		p.attach()
	})
}

func TestTalkBeforeVersion(t *testing.T) {
	for name, says := range map[string][]byte{
		"attach":    say(msgTattach, 1, uint32(0), noFid, "root", "", uint32(0)),
		"too long":  say(msgTversion, 1, uint32(8192), strings.Repeat("x", maxFirst)),
		"too short": {6, 0, 0, 0, msgTversion, 0, 0},
		"cut":       say(msgTversion, 1, uint32(8192), []byte{200, 0, 'x'}),
		"longer":    say(msgTversion, 1, uint32(8192), version, uint8(0)),
		"TLS":       {0x16, 0x03, 0x01, 0, 200, 1, 0, 0, 0},
	} {
		inBubble(t, func(r *rig) {
			p := r.dial()
			p.send(says)
			if got := p.heard(); len(got) > 0 || !p.gone() {
				t.Errorf("%s: heard % x, gone: %v", name, got, p.gone())
			}
		})
	}
}

func TestNonsense(t *testing.T) {
	for name, tc := range map[string]struct {
		says []byte
		want errno // of the one answer; 0: the connection is cut
	}{
		"larger than msize":  {append(binary.LittleEndian.AppendUint32(nil, 1<<20+1), msgTclunk, 0, 0), 0},
		"shorter than any":   {[]byte{3, 0, 0, 0, msgTclunk, 0, 0}, 0},
		"unknown":            {say(99, 1), errNotSupported},
		"unknown, long":      {say(200, 1, make([]byte, 500000)), errNotSupported},
		"an answer":          {say(msgTread+1, 1), errNotSupported},
		"long, without data": {say(msgTwalk, 1, make([]byte, 500000)), errMessageSize},
		"auth":               {say(msgTauth, 1, uint32(1), "root", "", uint32(0)), errNotSupported},
		"walk of 17 names":   {say(msgTwalk, 1, uint32(0), uint32(1), make([]string, 17)), errInvalid},
		"string beyond end":  {say(msgTunlinkat, 1, uint32(0), []byte{255, 255, 'a'}), errInvalid},
		"bytes behind":       {say(msgTclunk, 1, uint32(0), uint8(1)), errInvalid},
		"read, short":        {say(msgTread, 1, uint32(0)), 0},
		"write, no fields":   {say(msgTwrite, 1, uint32(0)), 0},
		"write, other count": {say(msgTwrite, 1, uint32(0), uint64(0), uint32(9), []byte("12345678")), 0},
		"flush, short":       {say(msgTflush, 1), 0},
		"flag of unlinkat":   {say(msgTunlinkat, 1, uint32(0), "a", uint32(1)), errInvalid},
		"bit of setattr":     {say(msgTsetattr, 1, uint32(0), uint32(1<<20), make([]byte, 52)), errInvalid},
		"attach with auth":   {say(msgTattach, 1, uint32(9), uint32(0), "root", "", uint32(0)), errNotSupported},
		"attach of a fid":    {say(msgTattach, 1, uint32(0), noFid, "root", "", uint32(0)), errBusy},
	} {
		inBubble(t, func(r *rig) {
			p := r.dial().attach()
			p.send(tc.says)
			got := split9(t, p.heard())
			if tc.want == 0 {
				if !p.gone() || len(got) > 0 {
					t.Errorf("%s: %+v", name, got)
				}
				return
			}
			if len(got) != 1 || got[0].errno() != tc.want || p.gone() {
				t.Errorf("%s: %+v, want errno %d", name, got, tc.want)
			}
			p.must(msgTgetattr, uint32(0), uint64(getAll)) // it lives
		})
	}
}

// holdUp makes an operation wait until its context ends, or the channel is closed.
func holdUp(r *rig, what string) chan struct{} {
	gate := make(chan struct{})
	r.fs.before = func(ctx context.Context, op string) error {
		if op != what {
			return nil
		}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return gate
}

func TestRequestsRunConcurrently(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		p.write(1, 0, "content")
		gate := holdUp(r, "read")
		p.send(say(msgTread, 1, uint32(1), uint64(0), uint32(100)))
		p.write(1, 7, "!") // is not held up
		close(gate)
		if got := split9(t, p.heard()); len(got) != 1 || got[0].tag != 1 || got[0].typ != msgTread+1 {
			t.Errorf("answers %+v", got)
		}
	})
}

// A request that is flushed is answered before the flush is, and so is the flush of a flush.
func TestFlush(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		defer close(holdUp(r, "read"))
		p.send(say(msgTread, 1, uint32(1), uint64(0), uint32(100)))
		p.send(say(msgTread, 2, uint32(1), uint64(0), uint32(100)))
		p.heard()
		p.send(say(msgTflush, 3, uint16(1)))
		got := split9(t, p.heard())
		if len(got) != 2 || got[0].tag != 1 || got[0].errno() != errInterrupted || got[1].tag != 3 || got[1].typ != msgTflush+1 {
			t.Errorf("answers %+v", got)
		}
		p.must(msgTflush, uint16(99))     // nobody has that tag
		p.must(msgTflush, uint16(0x7777)) // its own
	})
}

// A request that does not listen to its flush keeps the flush waiting: its tag is in use.
func TestFlushWaits(t *testing.T) {
	inBubble(t, func(r *rig) {
		gate := make(chan struct{})
		p := r.dial().attach()
		r.fs.before = func(_ context.Context, op string) error {
			if op == "getattr" {
				<-gate
			}
			return nil
		}
		p.send(say(msgTgetattr, 1, uint32(0), uint64(getAll)))
		p.send(say(msgTflush, 2, uint16(1)))
		p.send(say(msgTflush, 3, uint16(2)))
		p.send(say(msgTflush, 4, uint16(1)))
		if got := p.heard(); len(got) > 0 {
			t.Errorf("answers % x", got)
		}
		close(gate)
		var tags []uint16
		for _, m := range split9(t, p.heard()) {
			tags = append(tags, m.tag)
			if m.tag == 1 && m.typ != msgTgetattr+1 {
				t.Errorf("the request failed: %+v", m)
			}
		}
		if len(tags) != 4 || tags[0] != 1 || tags[1] != 2 || tags[2] != 3 || tags[3] != 4 {
			t.Errorf("answers in order %v", tags)
		}
	})
}

// A tag that is used twice ends the connection, for the answers could not be told apart.
func TestTagInUse(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		defer close(holdUp(r, "getattr"))
		p.send(say(msgTgetattr, 1, uint32(0), uint64(getAll)))
		p.send(say(msgTgetattr, 1, uint32(0), uint64(getAll)))
		if !p.gone() {
			t.Error("the connection stays")
		}
	})
}

func TestNothingIsAnsweredWithoutTheLease(t *testing.T) {
	lapsed := errors.New("fenced")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		gate, valid := make(chan error), true
		r.srv.Wait = func(ctx context.Context) error {
			if valid {
				return nil
			}
			return <-gate
		}
		r.start(context.Background())
		p, q := r.dial().attach(), r.dial().attach()
		valid = false
		p.send(say(msgTgetattr, 1, uint32(0), uint64(getAll)))
		q.send(say(msgTgetattr, 1, uint32(0), uint64(getAll)))
		if len(p.heard())+len(q.heard()) > 0 {
			t.Error("answered without the lease")
		}
		gate <- nil
		gate <- lapsed
		if a, b := len(p.heard()), len(q.heard()); (a > 0) == (b > 0) {
			t.Errorf("heard %d and %d bytes", a, b)
		}
		if p.gone() == q.gone() {
			t.Error("want one of two connections cut")
		}
		valid = true
		r.shutdown()
	})
}

func TestClientGoesInTheMiddle(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.dial().attach()
		p.create(1, "a")
		p.walk(0, 2, "a")
		p.must(msgTxattrcreate, uint32(2), "user.a", uint64(100), uint32(0))
		p.must(msgTlock, uint32(1), uint8(lockExclusive), uint32(0), uint64(0), uint64(0), uint32(9), "host")
		holdUp(r, "read")
		p.send(say(msgTread, 1, uint32(1), uint64(0), uint32(100)))
		p.send(say(msgTwrite, 2, uint32(1), uint64(0), uint32(100), make([]byte, 100))[:50])
		synctest.Wait()
		p.nc.Close()
		synctest.Wait()
		r.nothingLeft()
		q := r.dial().attach()
		q.walk(0, 1, "a")
		q.must(msgTlopen, uint32(1), uint32(2))
		if got := q.must(msgTlock, uint32(1), uint8(lockExclusive), uint32(0), uint64(0), uint64(0), uint32(9), "host").u8(); got != lockSuccess {
			t.Errorf("the lock of a client that is gone: %d", got)
		}
	})
}

func TestSlowClients(t *testing.T) {
	inBubble(t, func(r *rig) {
		quiet, half, good := r.dial(), r.dial().attach(), r.dial().attach()
		half.send(say(msgTgetattr, 1, uint32(0), uint64(getAll))[:9])
		time.Sleep(3 * time.Minute)
		if !quiet.gone() || !half.gone() || good.gone() {
			t.Errorf("gone: silent %v, half a message %v, idle %v", quiet.gone(), half.gone(), good.gone())
		}
	})
}

func TestShutdownAnswersWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start(context.Background())
		p, q := r.dial().attach(), r.dial().attach()
		p.create(1, "a")
		q.walk(0, 1, "a")
		q.must(msgTlopen, uint32(1), uint32(2))
		p.must(msgTlock, uint32(1), uint8(lockExclusive), uint32(0), uint64(0), uint64(0), uint32(9), "host")
		q.send(say(msgTlock, 8, uint32(1), uint8(lockExclusive), uint32(lockFlagBlock), uint64(0), uint64(0), uint32(9), "host"))
		r.fs.before = func(_ context.Context, op string) error {
			if op == "sync" {
				time.Sleep(5 * time.Second)
			}
			return nil
		}
		p.send(say(msgTfsync, 1, uint32(1), uint32(0)))
		synctest.Wait()
		start := time.Now()
		r.shutdown()
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("took %v", took)
		}
		if got := split9(t, p.heard()); len(got) != 1 || got[0].typ != msgTfsync+1 {
			t.Errorf("answers %+v", got)
		}
	})
}

func TestServeEndsWithItsContext(t *testing.T) {
	fenced := errors.New("fenced")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancelCause(context.Background())
		r.start(ctx)
		p := r.dial().attach()
		holdUp(r, "getattr")
		p.send(say(msgTgetattr, 1, uint32(0), uint64(getAll)))
		synctest.Wait()
		cancel(fenced)
		if err := <-r.end; !errors.Is(err, fenced) {
			t.Errorf("Serve: %v", err)
		}
		if got := p.heard(); len(got) > 0 || !p.gone() {
			t.Errorf("heard % x", got)
		}
		r.nothingLeft()
	})
}
