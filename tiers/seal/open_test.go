package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

// cheap makes tests fast.
var cheap = KDF{Passes: 1, MemoryKiB: 8, Threads: 1}

func options(rand io.Reader) VolumeOptions {
	return VolumeOptions{
		Create: true, ChunkSize: 4096, Cipher: AES256GCM, Compression: "minlz", KDF: cheap, Rand: rand,
	}
}

var (
	ctx  = context.Background()
	pass = []byte("correct horse")
)

func newBucket() *objecttest.Faulty { return objecttest.NewFaulty(1, time.Now) }

// mustOpen opens a volume that is there.
func mustOpen(t *testing.T, store object.Store, password []byte) *Volume {
	t.Helper()
	v, err := OpenVolume(ctx, store, password, VolumeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func create(t *testing.T, store object.Store) *Volume {
	t.Helper()
	v, err := OpenVolume(ctx, store, pass, options(rand.Reader))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func same(a, b *Volume) bool {
	return a.ID == b.ID && a.Format == b.Format && a.ChunkSize == b.ChunkSize && a.Cipher == b.Cipher &&
		a.Compression == b.Compression && *a.Key == *b.Key
}

// get returns a whole object.
func get(t *testing.T, store object.Store, key string) []byte {
	t.Helper()
	raw, err := readSmall(ctx, store, key, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// put replaces an object.
func put(t *testing.T, store object.Store, key string, raw []byte) {
	t.Helper()
	if _, err := store.Put(ctx, key, bytes.NewReader(raw), object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, store object.Store) (keys []string) {
	t.Helper()
	page, err := store.List(ctx, "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		keys = append(keys, e.Key)
	}
	return keys
}

func TestOpenVolume(t *testing.T) {
	store := object.NewMemory(time.Now)
	if _, err := OpenVolume(ctx, store, pass, VolumeOptions{}); !errors.Is(err, ErrNoVolume) {
		t.Fatalf("nothing there: %v", err)
	}
	made := create(t, store)
	if made.ID == (VolumeID{}) || made.Key.root == [32]byte{} || made.Key.Cipher() != AES256GCM || made.Format != FormatVersion {
		t.Errorf("made %+v", made)
	}
	if got := mustOpen(t, store, pass); !same(got, made) {
		t.Errorf("made %+v, opened %+v", made, got)
	}
	// Create with other wishes opens what is there.
	opts := options(rand.Reader)
	opts.ChunkSize, opts.Cipher = 65536, ChaCha20Poly1305
	if got, err := OpenVolume(ctx, store, pass, opts); err != nil || !same(got, made) {
		t.Errorf("made %+v, opened %+v: %v", made, got, err)
	}
	for _, wrong := range []string{"", "wrong", "correct horse "} {
		if _, err := OpenVolume(ctx, store, []byte(wrong), opts); !errors.Is(err, ErrPassword) {
			t.Errorf("password %q: %v", wrong, err)
		}
	}
	if got := fmt.Sprint(keys(t, store)); got != "[keyring/0000000000000001 volume]" {
		t.Errorf("objects %s", got)
	}
}

func TestOpenVolumeGolden(t *testing.T) {
	store := object.NewMemory(time.Now)
	if _, err := OpenVolume(ctx, store, pass, options(&counter{})); err != nil {
		t.Fatal(err)
	}
	golden(t, "keyring.golden", get(t, store, entryKey(1)))
	golden(t, "volume.golden", get(t, store, volumeKey))
}

func TestCreateRefusals(t *testing.T) {
	cases := map[string]func(*VolumeOptions){
		"chunk size":          func(o *VolumeOptions) { o.ChunkSize = 5000 },
		"chunk size, small":   func(o *VolumeOptions) { o.ChunkSize = 2048 },
		"chunk size, large":   func(o *VolumeOptions) { o.ChunkSize = 1 << 17 },
		"cipher":              func(o *VolumeOptions) { o.Cipher = 7 },
		"compression":         func(o *VolumeOptions) { o.Compression = "lzma" },
		"Argon2id parameters": func(o *VolumeOptions) { o.KDF.MemoryKiB = 1 << 30 },
		"random bytes":        func(o *VolumeOptions) { o.Rand = strings.NewReader("short") },
	}
	for want, change := range cases {
		store := object.NewMemory(time.Now)
		opts := options(rand.Reader)
		change(&opts)
		_, err := OpenVolume(ctx, store, pass, opts)
		if err == nil || !strings.Contains(err.Error(), strings.Split(want, ",")[0]) {
			t.Errorf("%s: %v", want, err)
		}
		if got := keys(t, store); len(got) > 0 {
			t.Errorf("%s: left %v", want, got)
		}
	}
}

// Key material is never made beside data that it could not open.
func TestCreateBesideData(t *testing.T) {
	for _, left := range []string{"log/0000000000000001", "files/1-2.sst", "volume"} {
		store := object.NewMemory(time.Now)
		put(t, store, left, []byte("x"))
		if _, err := OpenVolume(ctx, store, pass, options(rand.Reader)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), left) {
			t.Errorf("%s is there: %v", left, err)
		}
		if got := keys(t, store); len(got) != 1 {
			t.Errorf("%s is there: left %v", left, got)
		}
	}
	store := object.NewMemory(time.Now)
	create(t, store)
	if err := store.Delete(ctx, volumeKey); err != nil {
		t.Fatal(err)
	}
	put(t, store, "log/0000000000000001", []byte("x"))
	if _, err := OpenVolume(ctx, store, pass, options(rand.Reader)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("volume lost: %v", err)
	}
}

func TestKeyringFlips(t *testing.T) {
	store := object.NewMemory(time.Now)
	made := create(t, store)
	for _, key := range []string{entryKey(1), volumeKey} {
		raw := get(t, store, key)
		for at := range raw {
			bad := bytes.Clone(raw)
			bad[at] ^= 0x04
			put(t, store, key, bad)
			_, err := OpenVolume(ctx, store, pass, options(rand.Reader))
			if key == volumeKey && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), key)) ||
				!errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrPassword) && !errors.Is(err, ErrFormat) {
				t.Fatalf("%s: byte %d: %v", key, at, err)
			}
		}
		for n := range raw {
			put(t, store, key, raw[:n])
			if _, err := OpenVolume(ctx, store, pass, options(rand.Reader)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), key) {
				t.Fatalf("%s: cut at %d: %v", key, n, err)
			}
		}
		put(t, store, key, append(bytes.Clone(raw), 0))
		if _, err := OpenVolume(ctx, store, pass, VolumeOptions{}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: a byte more: %v", key, err)
		}
		put(t, store, key, raw)
	}
	if got := mustOpen(t, store, pass); !same(got, made) {
		t.Error("not what was made")
	}
}

func TestKeyringMoves(t *testing.T) {
	store := object.NewMemory(time.Now)
	create(t, store)
	entry := get(t, store, entryKey(1))
	put(t, store, entryKey(2), entry) // an old entry cannot come back as a new one
	mustOpen(t, store, pass)
	if err := store.Delete(ctx, entryKey(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenVolume(ctx, store, pass, options(rand.Reader)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), entryKey(2)) {
		t.Error(err)
	}
	// A description of another volume is none.
	other := object.NewMemory(time.Now)
	create(t, other)
	put(t, other, volumeKey, get(t, store, volumeKey))
	if _, err := OpenVolume(ctx, other, pass, VolumeOptions{}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func TestTooManyEntries(t *testing.T) {
	store := object.NewMemory(time.Now)
	create(t, store)
	for n := range uint64(entriesMax) {
		put(t, store, entryKey(n+2), []byte("junk"))
	}
	if _, err := OpenVolume(ctx, store, pass, VolumeOptions{}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func TestNewerFormat(t *testing.T) {
	store := object.NewMemory(time.Now)
	made := create(t, store)
	raw := make([]byte, volumeHeader)
	copy(raw, volumeMagic)
	raw[11] = FormatVersion + 1
	aead, err := made.Key.XAEAD("volume")
	if err != nil {
		t.Fatal(err)
	}
	raw = aead.Seal(raw, raw[volumeNonceAt:volumeHeader], []byte("who knows"), raw[:volumeHeader])
	put(t, store, volumeKey, raw)
	_, err = OpenVolume(ctx, store, pass, options(rand.Reader))
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "format 2") || !strings.Contains(err.Error(), "up to 1") {
		t.Error(err)
	}
}

// A creator that dies, or loses an answer, at any request leaves what the next one completes.
func TestCreateCrash(t *testing.T) {
	for _, fault := range []objecttest.Fault{objecttest.Fail, objecttest.Lose} {
		for k := 1; ; k++ {
			first := newBucket()
			first.SetPlan(failFrom(k, fault))
			v, err := OpenVolume(ctx, first, pass, options(rand.Reader))
			if err == nil {
				if again := mustOpen(t, first.Bucket().Connect(2), pass); !same(v, again) {
					t.Fatal("another volume")
				}
				break
			}
			if !errors.Is(err, object.ErrTransient) {
				t.Fatalf("request %d: %v", k, err)
			}
			next := create(t, first.Bucket().Connect(2))
			if again := mustOpen(t, first.Bucket().Connect(3), pass); !same(next, again) {
				t.Fatalf("request %d: another volume", k)
			}
		}
	}
}

// failFrom fails request k and all after it.
func failFrom(k int, fault objecttest.Fault) func(objecttest.Request) objecttest.Fault {
	return func(r objecttest.Request) objecttest.Fault {
		switch {
		case r.N < k:
			return objecttest.Deliver
		case r.N == k:
			return fault
		}
		return objecttest.Fail
	}
}

func TestCreateRace(t *testing.T) {
	for range 50 {
		b := newBucket().Bucket()
		var volumes [4]*Volume
		var wg sync.WaitGroup
		for i := range volumes {
			wg.Go(func() {
				v, err := OpenVolume(ctx, b.Connect(uint64(i)), pass, options(rand.Reader))
				if err != nil {
					t.Error(err)
				}
				volumes[i] = v
			})
		}
		wg.Wait()
		for _, v := range volumes {
			if v == nil || !same(v, volumes[0]) {
				t.Fatal("two volumes")
			}
		}
	}
}

// A creator that is overtaken by one which goes on to write the log ends with the other's volume.
func TestCreateOvertaken(t *testing.T) {
	for k := 1; k < 10; k++ {
		b := newBucket().Bucket()
		slow := b.Connect(1)
		var want *Volume
		slow.SetPlan(func(r objecttest.Request) objecttest.Fault {
			if r.N == k {
				want = create(t, b.Connect(2))
				put(t, b.Connect(2), "log/0000000000000001", []byte("claim"))
			}
			return objecttest.Deliver
		})
		got, err := OpenVolume(ctx, slow, pass, options(rand.Reader))
		if err != nil || want != nil && !same(got, want) {
			t.Errorf("overtaken at request %d: %v", k, err)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	e, err := newEntry(testRoot(), pass, 5, cheap, &counter{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.raw)
	f.Add(e.raw[:40])
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := decodeEntry(5, raw)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if !got.kdf.valid() || len(got.raw) != entrySize {
			t.Fatalf("%+v", got)
		}
		if got.kdf != cheap {
			return // costs too much to try
		}
		if root, err := got.open(pass); err == nil && (root != testRoot() || !bytes.Equal(raw, e.raw)) {
			t.Fatal("opens, but was not sealed here")
		}
	})
}

func FuzzDecodeVolume(f *testing.F) {
	v := &Volume{ID: VolumeID{1}, Format: 1, ChunkSize: 4096, Cipher: AES256GCM, Compression: "none"}
	raw, err := encodeVolume(v, testRoot(), &counter{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, []byte{}, uint32(1))
	f.Add([]byte{}, append(make([]byte, 16), 0, 0, 16, 0, 1, 5, 'm', 'i', 'n', 'l', 'z'), uint32(1))
	aead, err := NewKey(testRoot(), 0).XAEAD("volume")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, outside, inside []byte, format uint32) {
		if _, err := decodeVolume(outside, testRoot()); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		// What is inside comes from this program or a newer one, but must not panic either.
		sealed := bytes.Clone(raw[:volumeHeader])
		sealed[8], sealed[9], sealed[10], sealed[11] = byte(format>>24), byte(format>>16), byte(format>>8), byte(format)
		sealed = aead.Seal(sealed, sealed[volumeNonceAt:volumeHeader], inside, sealed[:volumeHeader])
		got, err := decodeVolume(sealed, testRoot())
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := encodeVolume(got, testRoot(), bytes.NewReader(sealed[volumeNonceAt:volumeHeader]))
		if err != nil || !bytes.Equal(again, sealed) {
			t.Fatalf("encodes differently: %v", err)
		}
	})
}
