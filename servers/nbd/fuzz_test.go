package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzOptionData decodes the data of options: no panic, and what decodes encodes to the same bytes.
func FuzzOptionData(f *testing.F) {
	f.Add(encodeInfo("a", 1, 2, 3))
	f.Add(encodeMeta("a", contextAllocation, "base:"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, ok := parseInfo(data); ok && !bytes.Equal(encodeInfo(r.name, r.kinds...), data) {
			t.Errorf("info % x decodes as %+v", data, r)
		}
		if r, ok := parseMeta(data); ok && !bytes.Equal(encodeMeta(r.name, r.queries...), data) {
			t.Errorf("meta % x decodes as %+v", data, r)
		}
	})
}

// FuzzHeader decodes a request: it encodes to the same bytes, and what passes the checks is within
// the device and asks for no more memory than the largest payload.
func FuzzHeader(f *testing.F) {
	f.Add(encodeRequest(header{cmd: cmdWrite, off: 1 << 20, length: 4096}), uint64(1<<30), true, true)
	f.Add(encodeRequest(header{cmd: cmdRead, off: 1<<64 - 1, length: 1<<32 - 1}), uint64(512), false, false)
	f.Fuzz(func(t *testing.T, p []byte, size uint64, structured, status bool) {
		if len(p) < requestSize {
			return
		}
		size &= 1<<63 - 1
		h, ok := parseHeader(p)
		if ok && !bytes.Equal(encodeRequest(h), p[:requestSize]) {
			t.Errorf("% x decodes as %+v", p, h)
		}
		if h.check(size, structured, status) != 0 {
			return
		}
		if h.off > size || size-h.off < uint64(h.length) || h.memory() > MaxPayload {
			t.Errorf("%+v passes for %d bytes", h, size)
		}
	})
}

// FuzzHandshake says anything from the first byte on.
func FuzzHandshake(f *testing.F) {
	flags := []byte{0, 0, 0, 3}
	f.Add(append(bytes.Clone(flags), encodeOption(optList, nil)...))
	f.Add(append(bytes.Clone(flags), encodeOption(optGo, encodeInfo("d", 3))...))
	f.Add(append(bytes.Clone(flags), encodeOption(optSetMetaContext, encodeMeta("d", "base:allocation"))...))
	f.Add(append(bytes.Clone(flags), encodeOption(optExportName, nil)...))
	f.Add(append(bytes.Clone(flags), encodeOption(optStartTLS, nil)...))
	f.Fuzz(func(t *testing.T, say []byte) { converse(t, say) })
}

// FuzzRequests says anything in the transmission phase. The server has to survive it and let go of
// everything, and what it answers has to be answers.
func FuzzRequests(f *testing.F) {
	f.Add(false, encodeRequest(header{cmd: cmdRead, length: 4096}))
	f.Add(true, append(encodeRequest(header{cmd: cmdWrite, length: 3, flags: cmdFlagFUA}), 1, 2, 3))
	f.Add(true, append(encodeRequest(header{cmd: cmdBlockStatus, length: 4096}), encodeRequest(header{cmd: cmdFlush})...))
	f.Add(false, append(encodeRequest(header{cmd: cmdTrim, length: 9}), encodeRequest(header{cmd: cmdDisc})...))
	f.Add(true, encodeRequest(header{cmd: cmdWrite, length: 1<<32 - 1}))
	f.Fuzz(func(t *testing.T, structured bool, say []byte) {
		prefix := []byte{0, 0, 0, 3}
		if structured {
			prefix = append(prefix, encodeOption(optStructuredReply, nil)...)
			prefix = append(prefix, encodeOption(optSetMetaContext, encodeMeta("d", contextAllocation))...)
		}
		prefix = append(prefix, encodeOption(optGo, encodeInfo("d"))...)
		heard := converse(t, append(prefix, say...))
		at := bytes.LastIndex(heard, optionReply(nil, optGo, repAck))
		if at < 0 {
			t.Fatalf("no way into the transmission phase: % x", heard)
		}
		checkAnswers(t, heard[at+20:], say)
	})
}

// checkAnswers parses what the server answered to say. The last answer may be cut short, since
// the client has hung up.
func checkAnswers(t *testing.T, heard, say []byte) {
	reads := map[uint64]int{}
	for rest := say; len(rest) >= requestSize; {
		h, ok := parseHeader(rest)
		rest = rest[requestSize:]
		if !ok {
			break
		}
		if h.cmd == cmdRead {
			if n, twice := reads[h.cookie]; twice && n != int(h.length) {
				return // simple replies to those cannot be told apart
			}
			reads[h.cookie] = int(h.length)
		} else if _, twice := reads[h.cookie]; twice {
			return
		}
		rest = rest[min(len(rest), payloadSize(h)):]
	}
	for len(heard) > 0 {
		_, rest, ok, err := parseAnswer(heard, reads)
		if err != nil {
			t.Fatalf("%v in % x", err, heard)
		}
		if !ok {
			return
		}
		heard = rest
	}
}

// converse serves one connection on which the client says everything at once and listens until the
// server has nothing more to say. Then the server is shut down.
func converse(t *testing.T, say []byte) (heard []byte) {
	synctest.Test(t, func(t *testing.T) { heard = converseInBubble(t, say) })
	return heard
}

func converseInBubble(t *testing.T, say []byte) []byte {
	d := fastRAM{newRAM(64 << 10), 32 << 10}
	s := &shelf{devs: map[string]Device{"d": d}}
	srv := &Server{Exports: s}
	ln := newPipes()
	end := make(chan error, 1)
	go func() { end <- srv.Serve(context.Background(), ln, Options{DefaultExport: "d"}) }()
	a, b := net.Pipe()
	ln.conns <- b
	var heard bytes.Buffer
	listened := make(chan struct{})
	go func() {
		_, _ = io.Copy(&heard, a) // ends when the server hangs up
		close(listened)
	}()
	_, _ = a.Write(say) // fails when the server hangs up
	synctest.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	<-listened
	if err := <-end; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	s.open.Wait()
	if st := srv.Stats(); st.Conns != 0 || srv.shared.free != DefaultMaxBytes {
		t.Errorf("left over: %+v, %d bytes free", st, srv.shared.free)
	}
	return heard.Bytes()
}

func TestWireReader(t *testing.T) {
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for _, buffer := range []int{28, 100, 4096, 1 << 20} {
		b := newWireReader(bytes.NewReader(data), buffer)
		rest := data
		for _, n := range []int{28, 1, 20_000, 15_000, 28, 100_000} {
			if n <= 28 {
				p, err := b.take(n)
				if err != nil || !bytes.Equal(p, rest[:n]) {
					t.Fatalf("buffer %d: take %d: %v", buffer, n, err)
				}
			} else {
				p := make([]byte, n)
				if err := b.readFull(p); err != nil || !bytes.Equal(p, rest[:n]) {
					t.Fatalf("buffer %d: readFull %d: %v", buffer, n, err)
				}
			}
			rest = rest[n:]
		}
		b.resize(64 << 10)
		if err := b.discard(50_000); err != nil {
			t.Fatal(err)
		}
		rest = rest[50_000:]
		p := make([]byte, len(rest))
		if err := b.readFull(p); err != nil || !reflect.DeepEqual(p, rest) {
			t.Fatalf("buffer %d: the rest: %v", buffer, err)
		}
		for want, f := range map[error]func() error{
			io.EOF:              func() error { _, err := b.take(1); return err },
			io.ErrUnexpectedEOF: func() error { return b.readFull(make([]byte, 1)) },
		} {
			if err := f(); !errors.Is(err, want) {
				t.Errorf("at the end: %v, want %v", err, want)
			}
		}
		if err := b.discard(1); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("discard at the end: %v", err)
		}
	}
}

func TestBuffers(t *testing.T) {
	for n := 1; n <= MaxPayload; n = n*2 + 1 {
		for _, n := range []int{n, min(n+1, MaxPayload)} {
			b := getBuffer(n)
			p := b.payload(n)
			if addr := reflect.ValueOf(p).Pointer(); addr%bufferAlign != 0 {
				t.Errorf("%d bytes at %x", n, addr)
			}
			if len(p) != n || b.size() < int64(n) || b.size() != classSize(n) || n > bufferMin && b.size() >= 2*int64(n) {
				t.Errorf("%d bytes: %d in a buffer of %d", n, len(p), b.size())
			}
			if len(b.from(headroom, n)) != headroom+n || len(b.payload(int(b.size()))) != int(b.size()) {
				t.Errorf("%d bytes: too short a buffer", n)
			}
			putBuffer(b)
		}
	}
}
