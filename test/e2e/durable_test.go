package e2e

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDurabilityObject: FLUSH, kill -9, the machine is gone; an empty host has all that was flushed.
func TestDurabilityObject(t *testing.T) {
	p, _ := fileStore(t)
	h := newHost(t, p, settings{durability: "object", lease: "3s", interval: "1h"})
	s := h.start()
	c := h.dial()
	const blocks = 500
	for i := range int64(blocks) {
		must(t, c.write(block(byte(1+i%250)), i*8192))
	}
	must(t, c.flush())
	must(t, c.writeThrough(block(251), blocks*8192)) // and a write by itself
	s.kill()
	must(t, os.RemoveAll(h.nvme))

	next := newHost(t, p, settings{lease: "3s"})
	s = next.start()
	if s.status().Volume.Lossy {
		t.Error("a takeover after durability object is told as one that may lose writes")
	}
	c = next.dial()
	got := make([]byte, 4096)
	for i := range int64(blocks + 1) {
		want := block(byte(1 + i%250))
		if i == blocks {
			want = block(251)
		}
		must(t, c.read(got, i*8192))
		if !bytes.Equal(got, want) {
			t.Fatalf("block %d is lost", i)
		}
	}
	s.stop()
}

// TestRefuse: after_loss = "refuse" keeps devices closed after a takeover that may have lost writes.
func TestRefuse(t *testing.T) {
	p, _ := fileStore(t)
	h := newHost(t, p, settings{lease: "3s"})
	s := h.start()
	must(t, h.dial().writeThrough(block(1), 0))
	s.kill()
	must(t, os.RemoveAll(h.nvme))
	next := newHost(t, p, settings{lease: "3s", afterLoss: "refuse"})
	s = next.begin()
	s.poll("opening", func() bool {
		_, err := s.call("GET", "/status")
		return err == nil && s.status().Volume != nil && s.status().Volume.Refused
	})
	if c, err := dialNBD(next.nbd, "disk"); err == nil {
		if c.read(make([]byte, 4096), 0) == nil {
			t.Error("a device that must stay closed was read")
		}
		c.close()
	}
	sh(t, program, "fence", "accept", "-config", next.config)
	s.ready()
	must(t, next.dial().read(make([]byte, 4096), 0))
	s.stop()
}

// stamped is a block that tells where it belongs and which write it is of.
func stamped(index, version uint64) []byte {
	p := make([]byte, 4096)
	for off := 0; off < len(p); off += 16 {
		binary.LittleEndian.PutUint64(p[off:], index)
		binary.LittleEndian.PutUint64(p[off+8:], version)
	}
	return p
}

// ledger is what a client was told: the versions written and, of these, those covered by a FLUSH.
type ledger struct {
	rng     *rand.Rand
	next    uint64
	written []uint64 // newest version sent, by block
	flushed []uint64 // newest version acknowledged and then covered by an answered FLUSH
}

func newLedger(blocks int, seed uint64) *ledger {
	return &ledger{rng: rand.New(rand.NewPCG(seed, 1)), written: make([]uint64, blocks), flushed: make([]uint64, blocks)}
}

// run writes, and flushes now and then, until an error.
func (l *ledger) run(c *client) error {
	acked := map[int]uint64{}
	for {
		i := l.rng.IntN(len(l.written))
		l.next++
		l.written[i] = l.next
		through := l.rng.IntN(20) == 0
		write := c.write
		if through {
			write = c.writeThrough
		}
		if err := write(stamped(uint64(i), l.next), int64(i)*4096); err != nil {
			return err
		}
		acked[i] = l.next
		if through {
			l.flushed[i] = l.next
		}
		if l.rng.IntN(50) == 0 {
			if err := c.flush(); err != nil {
				return err
			}
			for i, v := range acked {
				l.flushed[i] = v
			}
			clear(acked)
		}
	}
}

// check reads every block: none is older than its FLUSH, newer than what was sent, or torn.
func (l *ledger) check(t *testing.T, c *client) {
	t.Helper()
	got := make([]byte, 4096)
	for i := range l.written {
		must(t, c.read(got, int64(i)*4096))
		version := binary.LittleEndian.Uint64(got[8:])
		want := stamped(uint64(i), version)
		if version == 0 {
			want = block(0)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("block %d is torn or of another place: % x", i, got[:32])
		}
		if version < l.flushed[i] || version > l.written[i] {
			t.Errorf("block %d has version %d; flushed %d, written up to %d", i, version, l.flushed[i], l.written[i])
		}
		l.flushed[i] = version // what was read once may not go away
	}
	must(t, c.flush())
}

// TestPowerCut cuts the power of a disk which loses what was not flushed to it, under the journal
// and NVMe directories, and kills the server; nothing is lost that a FLUSH had covered.
func TestPowerCut(t *testing.T) {
	needRoot(t, "nbdkit", "mkfs.ext4", "mkfs.xfs")
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) { testPowerCut(t, kind) })
	}
}

func testPowerCut(t *testing.T, kind string) {
	script, err := filepath.Abs("../lossydisk/lossydisk.sh")
	must(t, err)
	state, mount := filepath.Join(tempDir(t), "s"), filepath.Join(tempDir(t), "m")
	lossy := func(args ...string) string { t.Helper(); return sh(t, script, args...) }
	lossy("start", state, mount, "2G", kind)
	t.Cleanup(func() { _ = exec.Command(script, "stop", state).Run() })

	p, _ := fileStore(t)
	h := newHost(t, p, settings{nvmeDir: filepath.Join(mount, "data"), lease: "3s", interval: "1s"})
	l := newLedger(4000, 20260101)
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("ZEROFS_POWERCUTS")); err == nil {
		rounds = n
	}
	for round := range rounds {
		s := h.start()
		c := h.dial()
		l.check(t, c)
		ended := make(chan error, 1)
		go func() { ended <- l.run(c) }()
		time.Sleep(time.Duration(300+700*round) * time.Millisecond) // the moment of the cut: anywhere
		lossy("cut", state)
		s.signal(os.Kill)
		t.Logf("round %d: the client got %v after %d writes", round, <-ended, l.next)
		s.wait()
		lossy("back", state)
	}
	s := h.start()
	l.check(t, h.dial())
	s.stop()
	s = newHost(t, p, settings{}).start() // and the bucket has it all
	s.stop()
}

// TestSealed: what was written to the device is in no file, neither of the store nor of the host.
func TestSealed(t *testing.T) {
	p, store := fileStore(t)
	h := newHost(t, p, settings{interval: "1s"})
	marker := []byte("MARKER-" + strings.Repeat("5eA1ed", 4))
	page := bytes.Repeat(marker, 4096/len(marker)+1)[:4096]
	s := h.start()
	c := h.dial()
	for i := range int64(64) {
		must(t, c.write(page, i*4096))
	}
	must(t, c.flush())
	s.settled()
	for i := range int64(64) {
		must(t, c.writeThrough(page, (1000+i)*4096))
	}
	s.kill() // so that journal and NVMe tier stay as they are in use
	for _, dir := range []string{store, h.dir} {
		if n := holders(t, dir, marker); n != 0 {
			t.Errorf("%d files below %s hold the marker", n, dir)
		}
	}
	must(t, os.WriteFile(filepath.Join(h.dir, "control"), page, 0o600))
	if n := holders(t, h.dir, marker); n != 1 {
		t.Errorf("the search finds %d files where there is one", n)
	}
	s = h.start()
	got := make([]byte, 4096)
	must(t, h.dial().read(got, 1063*4096))
	if !bytes.Equal(got, page) {
		t.Error("the marker is not there")
	}
	s.stop()
	if n := holders(t, store, marker); n != 0 {
		t.Errorf("%d files of the store hold the marker", n)
	}
}

// files lists the regular files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			all = append(all, path)
		}
		return err
	}))
	return all
}

// holders counts the files below dir that contain b.
func holders(t *testing.T, dir string, b []byte) int {
	t.Helper()
	n := 0
	for _, path := range files(t, dir) {
		data, err := os.ReadFile(path)
		must(t, err)
		if bytes.Contains(data, b) {
			n++
		}
	}
	return n
}
