package seal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func testFile(t testing.TB, c Cipher, id FileID) *File {
	t.Helper()
	f, err := testKey(c).File(id)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// sealFile returns the whole sealed file.
func sealFile(f *File, plain []byte) []byte {
	out := f.Header()
	frames := Frames(int64(len(plain)))
	for i := range frames {
		part := plain[i*FrameData : min((i+1)*FrameData, uint64(len(plain)))]
		out = f.Seal(out, part, i, i == frames-1)
	}
	return out
}

// openFile opens a whole sealed file of which only the bytes are known.
func openFile(f *File, stored []byte) ([]byte, error) {
	n, err := PlainSize(int64(len(stored)))
	if err != nil {
		return nil, err
	}
	if err := f.CheckHeader(stored[:HeaderSize]); err != nil {
		return nil, err
	}
	var plain []byte
	for i := range Frames(n) {
		at := HeaderSize + i*FrameSize
		frame := stored[at:min(at+FrameSize, uint64(len(stored)))]
		if plain, err = f.Open(plain, frame, i, i == Frames(n)-1); err != nil {
			return nil, err
		}
	}
	return plain, nil
}

func TestFileRoundTrip(t *testing.T) {
	for _, c := range ciphers {
		f := testFile(t, c, FileID{1, 2, 3})
		for _, n := range []int{0, 1, 4096, FrameData - 1, FrameData, FrameData + 1, 3 * FrameData, 3*FrameData + 77} {
			plain := pattern(n, byte(c))
			stored := sealFile(f, plain)
			if got := StoredSize(int64(n)); got != int64(len(stored)) {
				t.Errorf("%v, %d bytes: StoredSize %d, are %d", c, n, got, len(stored))
			}
			got, err := openFile(f, stored)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%v, %d bytes: %d bytes back, %v", c, n, len(got), err)
			}
			if n >= 16 && bytes.Contains(stored, plain[:16]) {
				t.Errorf("%v, %d bytes: plaintext in the sealed file", c, n)
			}
		}
	}
}

func TestFileGolden(t *testing.T) {
	for _, c := range ciphers {
		f := testFile(t, c, FileID{0xf1, 0x1e})
		golden(t, fmt.Sprintf("file-%v.golden", c), sealFile(f, []byte("a table file\n")))
		two := sealFile(f, pattern(FrameData+100, 0))
		golden(t, fmt.Sprintf("file-%v-tail.golden", c), two[len(two)-300:])
	}
}

func TestFileDamage(t *testing.T) {
	for _, c := range ciphers {
		f := testFile(t, c, FileID{9})
		plain := pattern(FrameData+200, 1)
		stored := sealFile(f, plain)
		for at := 0; at < len(stored); at += step(at) {
			stored[at] ^= 0x10
			_, err := openFile(f, stored)
			place := fmt.Sprintf("file %v", f.ID())
			if at >= HeaderSize {
				place += fmt.Sprintf(": frame %d", (at-HeaderSize)/FrameSize)
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), place) {
				t.Fatalf("%v: byte %d flipped: %v", c, at, err)
			}
			stored[at] ^= 0x10
		}
		for n := 0; n < len(stored); n += step(n) {
			if _, err := openFile(f, stored[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: cut at %d: %v", c, n, err)
			}
		}
	}
}

// step goes through a file byte by byte near its seams, and faster in its long runs.
func step(at int) int {
	if at > 60 && at < HeaderSize-70 || at > HeaderSize+40 && at < HeaderSize+FrameSize-140 {
		return 67
	}
	return 1
}

// A cut or growth at a frame boundary, frames of other places and of other files must show.
func TestFileMoves(t *testing.T) {
	for _, c := range ciphers {
		f, other := testFile(t, c, FileID{1}), testFile(t, c, FileID{2})
		stored := sealFile(f, pattern(3*FrameData, 2))
		frame := func(i int) []byte { return bytes.Clone(stored[HeaderSize+i*FrameSize:][:FrameSize]) }
		cases := []struct {
			name  string
			f     *File
			bytes []byte
			index uint64
			last  bool
		}{
			{"a middle frame as the last", f, frame(1), 1, true},
			{"the last frame as a middle one", f, frame(2), 2, false},
			{"another index", f, frame(0), 1, false},
			{"another index, far", f, frame(0), 1 << 63, false},
			{"another file", other, frame(0), 0, false},
			{"too long", f, append(frame(0), 0), 0, true},
			{"empty", f, nil, 0, true},
			{"shorter than a tag", f, frame(2)[:Overhead-1], 2, true},
			{"short in the middle", f, frame(0)[:FrameSize-1], 0, false},
		}
		for _, tc := range cases {
			if got, err := tc.f.Open(nil, tc.bytes, tc.index, tc.last); !errors.Is(err, ErrCorrupt) || len(got) > 0 {
				t.Errorf("%v: %s: %d bytes, %v", c, tc.name, len(got), err)
			}
		}
		// The same id under the other cipher or another root is another file.
		for _, k := range []*Key{NewKey(testRoot(), 3-c), NewKey([32]byte{}, c)} {
			g, err := k.File(FileID{1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := g.Open(nil, frame(0), 0, false); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v: another key: %v", c, err)
			}
		}
	}
}

func TestFileInPlace(t *testing.T) {
	f := testFile(t, ChaCha20Poly1305, FileID{7})
	want := pattern(FrameData, 3)
	buf := make([]byte, FrameSize)
	copy(buf, want)
	sealed := f.Seal(buf[:0], buf[:FrameData], 4, false)
	if &sealed[0] != &buf[0] || len(sealed) != FrameSize {
		t.Fatal("sealing moved")
	}
	plain, err := f.Open(sealed[:0], sealed, 4, false)
	if err != nil || &plain[0] != &buf[0] || !bytes.Equal(plain, want) {
		t.Fatalf("opening moved, or %v", err)
	}
}

func TestFileDoesNotAllocate(t *testing.T) {
	for _, c := range ciphers {
		f := testFile(t, c, FileID{8})
		plain, sealed, got := pattern(FrameData, 0), make([]byte, 0, FrameSize), make([]byte, 0, FrameData)
		n := testing.AllocsPerRun(200, func() {
			sealed = f.Seal(sealed[:0], plain, 5, false)
			var err error
			if got, err = f.Open(got[:0], sealed, 5, false); err != nil {
				t.Fatal(err)
			}
		})
		if n >= 1 {
			t.Errorf("%v: %v allocations per frame", c, n)
		}
	}
}

func TestPlainSize(t *testing.T) {
	for n := range int64(3*FrameData + 50) {
		if got, err := PlainSize(StoredSize(n)); err != nil || got != n {
			t.Fatalf("%d bytes: %d, %v", n, got, err)
		}
	}
	for _, stored := range []int64{-1, 0, HeaderSize, HeaderSize + Overhead - 1, HeaderSize + FrameSize + 1, HeaderSize + FrameSize + Overhead} {
		if n, err := PlainSize(stored); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes stored: %d, %v", stored, n, err)
		}
	}
}

func TestUnknownCipher(t *testing.T) {
	k := NewKey(testRoot(), 3)
	if _, err := k.File(FileID{}); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	if _, err := k.NewLog(FileID{}); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

func FuzzFileOpen(f *testing.F) {
	file := testFile(f, ChaCha20Poly1305, FileID{1})
	f.Add(file.Seal(nil, []byte("abc"), 2, true), uint64(2), true)
	f.Add(file.Seal(nil, make([]byte, FrameData), 0, false), uint64(0), false)
	f.Fuzz(func(t *testing.T, sealed []byte, frame uint64, last bool) {
		plain, err := file.Open(nil, sealed, frame, last)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || len(plain) > 0 {
				t.Fatalf("%d bytes, %v", len(plain), err)
			}
			return
		}
		if again := file.Seal(nil, plain, frame, last); !bytes.Equal(again, sealed) {
			t.Fatal("opens, but was not sealed here")
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	for _, c := range ciphers {
		f := testFile(b, c, FileID{8})
		plain, sealed, got := pattern(FrameData, 0), make([]byte, 0, FrameSize), make([]byte, 0, FrameData)
		b.Run("seal/"+c.String(), func(b *testing.B) {
			b.SetBytes(FrameData)
			b.ReportAllocs()
			for b.Loop() {
				sealed = f.Seal(sealed[:0], plain, 5, false)
			}
		})
		sealed = f.Seal(sealed[:0], plain, 5, false)
		b.Run("open/"+c.String(), func(b *testing.B) {
			b.SetBytes(FrameData)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if got, err = f.Open(got[:0], sealed, 5, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
