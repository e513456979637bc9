package seal

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name, or writes it there with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the format changed: %d bytes, want %d", name, len(got), len(want))
	}
}

// counter is a source of "random" bytes 0, 1, 2, …
type counter struct{ next byte }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.next
		c.next++
	}
	return len(p), nil
}

var _ io.Reader = (*counter)(nil)

var ciphers = []Cipher{ChaCha20Poly1305, AES256GCM}

func testRoot() (root [32]byte) {
	for i := range root {
		root[i] = byte(0xa0 + i)
	}
	return root
}

func testKey(c Cipher) *Key { return NewKey(testRoot(), c) }

// pattern returns n bytes of which no two aligned runs are the same.
func pattern(n int, salt byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16) ^ salt
	}
	return b
}
