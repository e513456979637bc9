package volume

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/fence"
	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/object/objecttest"
	"zerofs/tiers/seal"
)

// marker is what a client wrote. Nothing that is stored may show it.
var marker = []byte("this text is known to nobody but the client who wrote it")

// damageWorld is a volume that was written, left cleanly, and holds objects and files of every kind.
type damageWorld struct {
	*world
	host   *host
	bucket *objecttest.Bucket
	want   []byte // what the device holds
}

func newDamageWorld(t *testing.T) *damageWorld {
	w := newWorld(t, 1)
	w.durability = fence.Object // Ships, too
	h := w.newHost("a", objecttest.NewBucket(time.Now))
	ctx := context.Background()
	for range 2 { // the second turn begins with files that have no local copy, and fills the part cache
		v, err := Open(ctx, w.options(h))
		if err != nil {
			w.fatalf("open: %v", err)
		}
		if err := v.EnsureDevice(ctx, deviceName, deviceSize); err != nil {
			w.fatalf("device: %v", err)
		}
		if _, err := content(ctx, v); err != nil {
			w.fatalf("read: %v", err)
		}
		w.writeMarked(ctx, v)
		if err := v.Close(ctx); err != nil {
			w.fatalf("close: %v", err)
		}
		if h.name == "a" {
			h = w.newHost("b", h.bucket)
		}
	}
	d := &damageWorld{world: w, host: h, bucket: h.bucket}
	got, err := d.open(h.bucket.Clone(), h.disk.KillClone())
	if err != nil {
		w.fatalf("undamaged: %v", err)
	}
	d.want = got
	return d
}

// writeMarked fills the device with noise and markers, in pieces, with flushes between.
func (w *world) writeMarked(ctx context.Context, v *Volume) {
	dev, err := v.Device(ctx, deviceName)
	if err != nil {
		w.fatalf("device: %v", err)
	}
	defer dev.Close()
	for i := range 40 {
		p := noise(w.rng, 2*chunk)
		copy(p[w.rng.IntN(chunk):], bytes.Repeat(marker, 9))
		off := int64(w.rng.IntN(deviceSize - len(p)))
		if i%2 == 0 {
			off &^= chunk - 1
		}
		if err := dev.WriteAt(ctx, p, off, i%5 == 0); err != nil {
			w.fatalf("write: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := dev.Flush(ctx); err != nil {
		w.fatalf("flush: %v", err)
	}
}

// open opens the volume on a disk, or on an empty one, and reads the whole device.
func (d *damageWorld) open(bucket *objecttest.Bucket, disk *disktest.FS) ([]byte, error) {
	h := d.newHost("reader", bucket)
	h.boot = d.host.boot
	if disk != nil {
		h.disk = disk
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	v, err := Open(ctx, d.options(h))
	if err != nil {
		return nil, err
	}
	got, err := content(ctx, v)
	// What was read is what counts. A damaged file is never uploaded, however long Close may try.
	cctx, ccancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer ccancel()
	_ = v.Close(cctx)
	return got, err
}

// check judges what came of a damaged byte: the right data, or an error that names the place.
func (d *damageWorld) check(what string, off int, got []byte, err error, names ...string) (noticed bool) {
	d.t.Helper()
	if err == nil {
		if !bytes.Equal(got, d.want) {
			d.fatalf("%s: byte %d flipped: wrong data, and no error", what, off)
		}
		return false
	}
	for _, name := range names {
		if strings.Contains(err.Error(), name) {
			return true
		}
	}
	d.fatalf("%s: byte %d flipped: the error does not name it: %v", what, off, err)
	return false
}

// offsets samples a file of n bytes: its ends, and some between.
func offsets(rng *rand.Rand, n int) []int {
	if n == 0 {
		return nil
	}
	at := []int{0, n - 1}
	for _, fixed := range []int{13, 40, 100, 4096, 4100} {
		if fixed < n {
			at = append(at, fixed)
		}
	}
	for range 3 {
		at = append(at, rng.IntN(n))
	}
	return at
}

// kinds of what is stored, each of which the world must hold.
func kindOfObject(key string) string {
	if dir := path.Dir(key); dir != "." && dir != "files" {
		return dir
	}
	return strings.TrimLeft(path.Ext(key), ".") + "|" + path.Dir(key)
}

// TestMarker looks for what the client wrote in everything that is stored.
func TestMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDamageWorld(t)
		if !bytes.Contains(d.want, marker) {
			t.Fatal("the device does not hold the marker")
		}
		for _, key := range d.bucket.Keys() {
			if data, _ := d.bucket.Object(key); bytes.Contains(data, marker) {
				t.Errorf("object %s shows what was written", key)
			}
		}
		for _, name := range d.host.disk.Files("/") {
			data, err := d.host.disk.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, marker) {
				t.Errorf("file %s shows what was written", name)
			}
		}
	})
}

// TestDamagedObjects flips bytes of each object in turn and reads the volume on an empty host.
func TestDamagedObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDamageWorld(t)
		seen, noticed := map[string]int{}, map[string]int{}
		for _, key := range d.bucket.Keys() {
			data, _ := d.bucket.Object(key)
			kind := kindOfObject(key)
			for _, off := range offsets(d.rng, len(data)) {
				bucket := d.bucket.Clone()
				bucket.Flip(key, off, 1<<d.rng.IntN(8))
				got, err := d.open(bucket, nil)
				seen[kind]++
				if d.check("object "+key, off, got, err, key) {
					noticed[kind]++
					if off < seal.HeaderSize && strings.HasPrefix(key, "files/") {
						noticed["header"]++
					}
				}
			}
		}
		t.Logf("flipped %v, noticed %v", seen, noticed)
		for _, kind := range []string{"log", "sst|files", "blob|files", "header"} {
			if noticed[kind] == 0 {
				t.Errorf("no damage to an object of kind %s was noticed", kind)
			}
		}
	})
}

// TestDamagedFiles flips bytes of each local file in turn and reads the volume where it was.
func TestDamagedFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDamageWorld(t)
		for _, name := range d.host.disk.Files("/") {
			data, err := d.host.disk.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			noticed := 0
			tried := offsets(d.rng, len(data))
			for _, off := range tried {
				disk := d.host.disk.KillClone()
				if err := disk.Damage(name, int64(off), 1<<d.rng.IntN(8)); err != nil {
					t.Fatal(err)
				}
				got, err := d.open(d.bucket.Clone(), disk)
				// A pair file names its directory.
				if d.check("file "+name, off, got, err, name, path.Base(name), path.Dir(name)) {
					noticed++
				}
			}
			t.Logf("%s: %d of %d noticed", name, noticed, len(tried))
		}
	})
}

// TestDamagedDirty flips bytes of what the bucket does not have yet, after a kill: of table files, and
// of the files that say which there are. The journal's own tests damage its ring.
func TestDamagedDirty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDamageWorld(t)
		ctx := context.Background()
		d.host.connect(7)
		d.durability = fence.Local
		v, err := Open(ctx, d.options(d.host))
		if err != nil {
			d.fatalf("open: %v", err)
		}
		d.host.store.SetOutage(true)
		d.writeMarked(ctx, v)
		if _, err := v.loops.flush(ctx); err != nil {
			d.fatalf("flush: %v", err)
		}
		time.Sleep(time.Second) // the map tells how far the MANIFEST reaches
		if d.want, err = content(ctx, v); err != nil {
			d.fatalf("read: %v", err)
		}
		if v.tree.DirtyBytes() == 0 {
			d.fatalf("nothing is dirty")
		}
		killed, bucket := d.host.disk.KillClone(), d.bucket.Clone()
		d.host.store.SetOutage(false)
		if err := v.Close(ctx); err != nil {
			d.fatalf("close: %v", err)
		}
		if got, err := d.open(bucket.Clone(), killed.KillClone()); err != nil || !bytes.Equal(got, d.want) {
			d.fatalf("undamaged: other data, or %v", err)
		}
		noticed := map[string]int{}
		for _, name := range append(killed.Files("/nvme/nvme/tables"), killed.Files("/nvme/tree")...) {
			data, err := killed.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, off := range offsets(d.rng, len(data)) {
				disk := killed.KillClone()
				if err := disk.Damage(name, int64(off), 1<<d.rng.IntN(8)); err != nil {
					t.Fatal(err)
				}
				got, err := d.open(bucket.Clone(), disk)
				if path.Base(name) == "map" && errors.Is(err, seal.ErrCorrupt) {
					continue // its last record cannot be told from a torn one: what does not fit an older map is named
				}
				base := strings.TrimSuffix(path.Base(name), ".table")
				if d.check("file "+name, off, got, err, base, path.Base(name)) {
					noticed[path.Dir(name)]++
				}
			}
		}
		t.Logf("noticed %v", noticed)
		if len(noticed) < 2 {
			t.Error("damage to a table file, or to the map and the MANIFEST, was never noticed")
		}
	})
}
