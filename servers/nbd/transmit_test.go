package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/fence"
	"zerofs/tiers/disk"
)

const testSize = 64 << 20

// smallSize is the size of devices on which nothing large is done.
const smallSize = 1 << 20

// eachKind runs test with simple and structured replies, and with a device of size bytes that
// answers reads of its first half at once.
func eachKind(t *testing.T, size int, test func(r *rig, d *ram, p *peer, structured bool)) {
	for _, structured := range []bool{false, true} {
		for _, fast := range []bool{false, true} {
			t.Run(fmt.Sprintf("structured=%v,fast=%v", structured, fast), func(t *testing.T) {
				d := newRAM(size)
				s := &shelf{devs: map[string]Device{"d": d}}
				if fast {
					s.devs["d"] = fastRAM{d, int64(size) / 2}
				}
				inBubble(t, &Server{Exports: s}, Options{}, func(r *rig) {
					p := r.dial()
					p.attach("d", structured)
					test(r, d, p, structured)
				})
			})
		}
	}
}

// data returns what an answer to READ carries.
func (a answer) read(t *testing.T, h header, structured bool) []byte {
	t.Helper()
	if !structured || a.typ == replyNone {
		return a.data
	}
	if a.typ != replyOffsetData || binary.BigEndian.Uint64(a.data) != h.off {
		t.Fatalf("%+v: chunk %d, % x", h, a.typ, a.data[:min(16, len(a.data))])
	}
	return a.data[offsetSize:]
}

func TestReadAndWrite(t *testing.T) {
	eachKind(t, testSize, func(r *rig, d *ram, p *peer, structured bool) {
		for i, n := range []int{0, 1, 511, 4096, 65536, 65537, 1<<20 + 3, MaxPayload} {
			for _, off := range []int{0, 5000, testSize/2 - 100, testSize - n} {
				payload := bytes.Repeat([]byte{byte(i + 1), byte(off), 3}, n/3+1)[:n]
				off := min(off, testSize-n)
				if n == MaxPayload && (off != testSize-n || !structured || testing.Short()) {
					continue // one such is enough
				}
				w := header{cmd: cmdWrite, cookie: uint64(off), off: uint64(off), length: uint32(n)}
				if a := p.do(w, payload, structured); a.errno != 0 || len(a.data) > 0 {
					r.t.Fatalf("%+v: %+v", w, a)
				}
				h := header{cmd: cmdRead, cookie: 1 << 63, off: uint64(off), length: uint32(n)}
				if structured {
					h.flags = cmdFlagDF
				}
				if got := p.do(h, nil, structured).read(r.t, h, structured); !bytes.Equal(got, payload) {
					r.t.Fatalf("%+v: other bytes than written", h)
				}
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if slices.ContainsFunc(d.stableAt, func(at uint64) bool { return at != 0 }) {
			r.t.Error("a write without FUA was made durable")
		}
	})
}

// TestChecks has every request that is refused by itself, and the edges of what is not.
func TestChecks(t *testing.T) {
	const size = smallSize
	eachKind(t, smallSize, func(r *rig, d *ram, p *peer, structured bool) {
		df := uint32(errInvalid) // DF needs structured replies, and so does BLOCK_STATUS
		if structured {
			df = 0
		}
		for _, tc := range []struct {
			h    header
			want uint32
		}{
			{header{cmd: cmdRead, off: size - 1, length: 1}, 0},
			{header{cmd: cmdRead, off: size, length: 0}, 0},
			{header{cmd: cmdRead, off: size, length: 1}, errInvalid},
			{header{cmd: cmdRead, off: size + 1, length: 0}, errInvalid},
			{header{cmd: cmdRead, off: size - 1, length: 2}, errInvalid},
			{header{cmd: cmdRead, off: 1<<64 - 1, length: 2}, errInvalid},
			{header{cmd: cmdRead, length: MaxPayload + 1}, errInvalid},
			{header{cmd: cmdRead, length: 1<<32 - 1}, errInvalid},
			{header{cmd: cmdRead, length: 1, flags: cmdFlagDF}, df},
			{header{cmd: cmdRead, length: 1, flags: cmdFlagFUA}, 0},
			{header{cmd: cmdRead, length: 1, flags: cmdFlagNoHole}, errInvalid},
			{header{cmd: cmdWrite, off: size - 1, length: 1}, 0},
			{header{cmd: cmdWrite, off: size - 1, length: 2}, errNoSpace},
			{header{cmd: cmdWrite, off: 1<<64 - 1, length: 2}, errNoSpace},
			{header{cmd: cmdWrite, length: MaxPayload + 1}, errInvalid},
			{header{cmd: cmdWrite, length: 100, flags: 1 << 15}, errInvalid},
			{header{cmd: cmdWrite, length: 100, flags: cmdFlagFastZero}, errInvalid},
			{header{cmd: cmdFlush}, 0},
			{header{cmd: cmdFlush, off: 1}, errInvalid},
			{header{cmd: cmdFlush, length: 1}, errInvalid},
			{header{cmd: cmdFlush, flags: cmdFlagFUA}, 0},
			{header{cmd: cmdTrim, length: size}, 0},
			{header{cmd: cmdTrim, length: size + 1}, errInvalid},
			{header{cmd: cmdTrim, flags: cmdFlagNoHole}, errInvalid},
			{header{cmd: cmdCache, off: 1, length: size - 1}, 0},
			{header{cmd: cmdCache, off: 2, length: size - 1}, errInvalid},
			{header{cmd: cmdCache, flags: cmdFlagReqOne}, errInvalid},
			{header{cmd: cmdWriteZeroes, length: size, flags: cmdFlagFUA | cmdFlagNoHole | cmdFlagFastZero}, 0},
			{header{cmd: cmdWriteZeroes, off: size, length: 1}, errNoSpace},
			{header{cmd: cmdWriteZeroes, flags: cmdFlagDF}, errInvalid},
			{header{cmd: cmdBlockStatus, length: size}, df},
			{header{cmd: cmdBlockStatus, length: 0}, errInvalid},
			{header{cmd: cmdBlockStatus, length: size, flags: cmdFlagReqOne}, df},
			{header{cmd: cmdBlockStatus, off: 1, length: size}, errInvalid},
			{header{cmd: 8}, errInvalid},
			{header{cmd: 1<<16 - 1, length: 99}, errInvalid},
		} {
			h := tc.h
			h.cookie = 0x0102030405060708
			var payload []byte
			if h.cmd == cmdWrite {
				payload = make([]byte, h.length)
			}
			if a := p.do(h, payload, structured); a.errno != tc.want {
				r.t.Errorf("%+v: error %d, want %d", h, a.errno, tc.want)
			}
		}
		if a := p.do(header{cmd: cmdRead, length: 1}, nil, structured); a.errno != 0 {
			r.t.Errorf("read afterwards: error %d", a.errno)
		}
	})
}

// TestCalls says what each command asks of the device.
func TestCalls(t *testing.T) {
	for _, tc := range []struct {
		h    header
		want []string
	}{
		{header{cmd: cmdRead, off: 4096, length: 512}, []string{"read4096 512"}},
		{header{cmd: cmdWrite, off: 512, length: 4096}, []string{"write512 4096 false"}},
		{header{cmd: cmdWrite, off: 512, length: 4096, flags: cmdFlagFUA}, []string{"write512 4096 true"}},
		{header{cmd: cmdFlush}, []string{"flush"}},
		{header{cmd: cmdTrim, off: 1, length: 2}, []string{"zero1 2 false false"}},
		{header{cmd: cmdTrim, off: 1, length: 2, flags: cmdFlagFUA}, []string{"zero1 2 false true"}},
		{header{cmd: cmdWriteZeroes, off: 1, length: 2}, []string{"zero1 2 false false"}},
		{header{cmd: cmdWriteZeroes, off: 1, length: 2, flags: cmdFlagNoHole | cmdFlagFUA}, []string{"zero1 2 true true"}},
		{header{cmd: cmdCache, off: 1, length: 2}, []string{"cache1 2"}},
		{header{cmd: cmdWrite}, nil},
		{header{cmd: cmdTrim, flags: cmdFlagFUA}, nil},
		{header{cmd: cmdRead}, nil},
	} {
		d := newRAM(1 << 20)
		inBubble(t, &Server{Exports: &shelf{devs: map[string]Device{"d": d}}}, Options{}, func(r *rig) {
			p := r.dial()
			p.attach("d", false)
			if a := p.do(tc.h, make([]byte, tc.h.length)[:payloadSize(tc.h)], false); a.errno != 0 {
				r.t.Errorf("%+v: error %d", tc.h, a.errno)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if !slices.Equal(d.calls, tc.want) {
				r.t.Errorf("%+v: called %q, want %q", tc.h, d.calls, tc.want)
			}
		})
	}
}

func payloadSize(h header) int {
	if h.cmd == cmdWrite {
		return int(h.length)
	}
	return 0
}

func TestBlockStatus(t *testing.T) {
	d := newRAM(64 << 10)
	for _, block := range []int{1, 2, 5, 15} {
		d.data[block*4096] = 1
	}
	const hole = stateHole | stateZero
	inBubble(t, &Server{Exports: &shelf{devs: map[string]Device{"d": d}}}, Options{}, func(r *rig) {
		p := r.dial()
		p.attach("d", true)
		for _, tc := range []struct {
			off    uint64
			length uint32
			flags  uint16
			want   []uint32
		}{
			{0, 64 << 10, 0, []uint32{4096, hole, 8192, 0, 8192, hole, 4096, 0, 9 * 4096, hole, 4096, 0}},
			{0, 64 << 10, cmdFlagReqOne, []uint32{4096, hole}},
			{4096, 60 << 10, cmdFlagReqOne, []uint32{8192, 0}},
			{4097, 100, 0, []uint32{100, 0}},
			{4097, 8192, 0, []uint32{8191, 0, 1, hole}},
			{24 << 10, 4096, 0, []uint32{4096, hole}},
		} {
			h := header{cmd: cmdBlockStatus, cookie: 3, off: tc.off, length: tc.length, flags: tc.flags}
			a := p.do(h, nil, true)
			if a.typ != replyBlockStatus || binary.BigEndian.Uint32(a.data) != contextID {
				r.t.Fatalf("%+v: %+v", h, a)
			}
			var got []uint32
			for rest := a.data[4:]; len(rest) > 0; rest = rest[4:] {
				got = append(got, binary.BigEndian.Uint32(rest))
			}
			if !slices.Equal(got, tc.want) {
				r.t.Errorf("%+v: extents %d, want %d", h, got, tc.want)
			}
		}
	})
}

// Many extents are cut off, a device that knows nothing counts as data.
func TestBlockStatusLimits(t *testing.T) {
	for _, tc := range []struct {
		name string
		d    extents
		want int // extents
	}{
		{"alternating", func(_, n int64, fn func(int64, bool) bool) {
			for i := int64(0); i < n && fn(1, i%2 == 0); i++ {
			}
		}, maxDescriptor},
		{"nothing", func(_, n int64, fn func(int64, bool) bool) {}, 1},
		{"empty runs", func(_, n int64, fn func(int64, bool) bool) { fn(0, true); fn(-1, true); fn(n, false) }, 1},
		{"too long", func(_, n int64, fn func(int64, bool) bool) { fn(1<<40, true); fn(1<<40, false) }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, &Server{Exports: &shelf{devs: map[string]Device{"d": withExtents{newRAM(testSize), tc.d}}}}, Options{}, func(r *rig) {
				p := r.dial()
				p.attach("d", true)
				a := p.do(header{cmd: cmdBlockStatus, length: testSize}, nil, true)
				sum := uint64(0)
				for rest := a.data[4:]; len(rest) > 0; rest = rest[8:] {
					sum += uint64(binary.BigEndian.Uint32(rest))
				}
				if got := (len(a.data) - 4) / 8; got != tc.want || sum > testSize || tc.want == 1 && sum != testSize {
					t.Errorf("%d extents, %d bytes, want %d extents", got, sum, tc.want)
				}
			})
		})
	}
}

type extents func(off, n int64, fn func(int64, bool) bool)

// withExtents is a device with other extents.
type withExtents struct {
	*ram
	extents extents
}

func (d withExtents) Extents(_ context.Context, off, n int64, fn func(int64, bool) bool) error {
	d.extents(off, n, fn)
	return nil
}

func TestDeviceErrors(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want uint32
	}{
		{fmt.Errorf("write: %w", disk.ErrFull), errNoSpace},
		{fence.ErrFenced, errIO},
		{fence.ErrClosed, errShutdown},
		{fmt.Errorf("no such chunk"), errIO},
	} {
		d := newRAM(1 << 20)
		d.before = func(context.Context, string) error { return tc.err }
		inBubble(t, &Server{Exports: &shelf{devs: map[string]Device{"d": d}}}, Options{}, func(r *rig) {
			for _, structured := range []bool{false, true} {
				p := r.dial()
				p.attach("d", structured)
				for _, cmd := range []uint16{cmdRead, cmdWrite, cmdTrim, cmdWriteZeroes, cmdCache, cmdBlockStatus} {
					h := header{cmd: cmd, length: 8}
					if cmd == cmdBlockStatus && !structured {
						continue
					}
					if a := p.do(h, make([]byte, payloadSize(h)), structured); a.errno != tc.want {
						r.t.Errorf("%v: %+v: error %d, want %d", tc.err, h, a.errno, tc.want)
					}
				}
			}
		})
	}
}

// A request that takes its time keeps none behind it waiting, and DISC waits for it.
func TestSlowRequestHoldsUpNobody(t *testing.T) {
	eachKind(t, smallSize, func(r *rig, d *ram, p *peer, structured bool) {
		d.before = func(_ context.Context, op string) error {
			if op == "flush" {
				time.Sleep(10 * time.Second)
			}
			return nil
		}
		if got := p.ask(encodeRequest(header{cmd: cmdFlush, cookie: 1})); len(got) > 0 {
			r.t.Fatalf("FLUSH was answered before it was done: % x", got)
		}
		for i := range 10 {
			p.do(header{cmd: cmdRead, cookie: uint64(2 + i), off: uint64(i) * smallSize / 10, length: 4096}, nil, structured)
		}
		p.send(encodeRequest(header{cmd: cmdDisc}))
		if p.gone() {
			r.t.Fatal("DISC did not wait for the FLUSH")
		}
		time.Sleep(11 * time.Second)
		a, rest, ok, err := parseAnswer(p.heard(), nil)
		if a.cookie != 1 || a.errno != 0 || len(rest) > 0 || !ok || err != nil {
			r.t.Errorf("FLUSH: %+v, %d bytes left, %v", a, len(rest), err)
		}
		if !p.gone() {
			r.t.Error("the server did not hang up after DISC")
		}
	})
}

// Nothing is answered while the lease does not hold, and everything when it does again.
func TestAnswersWaitForTheLease(t *testing.T) {
	eachKind(t, smallSize, func(r *rig, d *ram, p *peer, structured bool) {
		lease := make(chan struct{})
		r.srv.Exports.(*shelf).wait = func(ctx context.Context) error {
			select {
			case <-lease:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		go func() { // the server reads on when it has answered, if its reader is the writer at the moment
			for i := range 10 {
				p.send(encodeRequest(header{cmd: cmdCache, cookie: uint64(i), length: 1}))
				p.send(encodeRequest(header{cmd: cmdRead, cookie: 100, length: 0}))
			}
		}()
		time.Sleep(time.Hour)
		if got := p.heard(); len(got) > 0 || p.gone() {
			r.t.Fatalf("%d bytes were answered without a lease", len(got))
		}
		close(lease)
		got := p.heard()
		for n := range 20 {
			_, rest, ok, err := parseAnswer(got, nil)
			if !ok || err != nil {
				r.t.Fatalf("after %d answers: %v", n, err)
			}
			got = rest
		}
	})
}

func TestFencedServerAnswersNothing(t *testing.T) {
	eachKind(t, smallSize, func(r *rig, d *ram, p *peer, structured bool) {
		r.srv.Exports.(*shelf).wait = func(context.Context) error { return fence.ErrFenced }
		p.send(encodeRequest(header{cmd: cmdRead, cookie: 1, length: 4096}))
		p.send(encodeRequest(header{cmd: cmdFlush, cookie: 2}))
		synctest.Wait()
		if got := p.heard(); len(got) > 0 || !p.gone() {
			r.t.Errorf("answered % x", got)
		}
	})
}
