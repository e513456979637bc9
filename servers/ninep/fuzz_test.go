package ninep

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// msg is a message that can be decoded.
type msg interface{ decode(*decoder) }

// shapes are all messages that are decoded, by their type.
var shapes = map[uint8]func() msg{
	msgTversion: func() msg { return new(tversion) }, msgTattach: func() msg { return new(tattach) },
	msgTwalk: func() msg { return new(twalk) }, msgTlopen: func() msg { return new(tlopen) },
	msgTlcreate: func() msg { return new(tlcreate) }, msgTsymlink: func() msg { return new(tsymlink) },
	msgTmknod: func() msg { return new(tmknod) }, msgTmkdir: func() msg { return new(tmkdir) },
	msgTlink: func() msg { return new(twoFids) }, msgTrename: func() msg { return new(twoFids) },
	msgTrenameat: func() msg { return new(trenameat) }, msgTunlinkat: func() msg { return new(tunlinkat) },
	msgTgetattr: func() msg { return new(tgetattr) }, msgTsetattr: func() msg { return new(tsetattr) },
	msgTxattrwalk: func() msg { return new(txattrwalk) }, msgTxattrcreate: func() msg { return new(txattrcreate) },
	msgTread: func() msg { return new(tio) }, msgTreaddir: func() msg { return new(tio) },
	msgTlock: func() msg { return new(tlock) }, msgTgetlock: func() msg { return new(tgetlock) },
}

// encode writes the fields of a decoded message in their order.
func encode(m msg) []byte {
	v := reflect.ValueOf(m).Elem()
	var out []byte
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Uint8:
			out = append(out, uint8(f.Uint()))
		case reflect.Uint32:
			out = binary.LittleEndian.AppendUint32(out, uint32(f.Uint()))
		case reflect.Uint64:
			out = binary.LittleEndian.AppendUint64(out, f.Uint())
		case reflect.String:
			out = appendString(out, f.String())
		case reflect.Slice:
			out = binary.LittleEndian.AppendUint16(out, uint16(f.Len()))
			for j := range f.Len() {
				out = appendString(out, f.Index(j).String())
			}
		}
	}
	return out
}

// FuzzDecode decodes any bytes as any message: what decodes encodes to the same bytes, and every
// prefix of it is refused.
func FuzzDecode(f *testing.F) {
	for typ, shape := range shapes {
		f.Add(typ, encode(shape()))
	}
	f.Add(uint8(msgTwalk), say(msgTwalk, 0, uint32(1), uint32(2), []string{"a", "bc", ""})[headerSize:])
	f.Add(uint8(msgTattach), say(msgTattach, 0, uint32(1), noFid, "root", "/x", uint32(7))[headerSize:])
	f.Fuzz(func(t *testing.T, typ uint8, b []byte) {
		shape := shapes[typ]
		if shape == nil {
			return
		}
		m, d := shape(), decoder{b: b}
		m.decode(&d)
		if !d.ok() {
			return
		}
		if got := encode(m); !bytes.Equal(got, b) {
			t.Errorf("% x decodes as %+v, which is % x", b, m, got)
		}
		for n := range b {
			d := decoder{b: b[:n]}
			if shape().decode(&d); d.ok() {
				t.Errorf("%d of %d bytes decode: % x", n, len(b), b)
			}
		}
	})
}

// FuzzSession says anything after an attach. The server has to survive it and let go of everything,
// and what it answers has to be answers to what was asked.
func FuzzSession(f *testing.F) {
	walk := say(msgTwalk, 1, uint32(0), uint32(1), []string{"f"})
	open := say(msgTlopen, 2, uint32(1), uint32(2))
	f.Add(append(walk, say(msgTread, 2, uint32(1), uint64(0), uint32(1<<31))...))
	f.Add(append(append(walk, open...), say(msgTwrite, 3, uint32(1), uint64(1<<62), uint32(3), []byte("abc"))...))
	f.Add(say(msgTwalk, 1, uint32(0), uint32(0), []string{"..", "..", "/", "\x00"}))
	f.Add(append(say(msgTlock, 1, uint32(9), uint8(1), uint32(1), uint64(0), ^uint64(0), uint32(1), "c"), say(msgTflush, 2, uint16(1))...))
	f.Add(append(walk, say(msgTxattrcreate, 2, uint32(1), "user.a", uint64(3), uint32(0))...))
	f.Add(say(msgTversion, 0xffff, uint32(1<<31), version))
	f.Add(say(msgTclunk, 1, uint32(0)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 100, 0, 0})
	for typ, shape := range shapes {
		f.Add(say(typ, 1, encode(shape())))
	}
	f.Fuzz(func(t *testing.T, says []byte) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.srv.Logger = nil
			r.fs.fast = len(says)%2 == 0
			r.start(t.Context())
			p := r.dial().attach()
			p.create(5, "f")
			p.write(5, 0, "content")
			go p.send(says)
			heard := p.heard()
			asked := map[uint16]bool{}
			for b := says; len(b) >= headerSize; {
				asked[binary.LittleEndian.Uint16(b[5:])] = true
				n := int64(binary.LittleEndian.Uint32(b))
				b = b[min(int64(len(b)), max(n, headerSize)):]
			}
			for _, m := range split9(t, heard) {
				if !asked[m.tag] {
					t.Errorf("an answer to nothing: %+v", m)
				}
			}
			p.nc.Close()
			time.Sleep(time.Second)
			r.shutdown()
		})
	})
}
