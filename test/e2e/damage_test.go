package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedObjects flips a byte in each object in turn. A host that has nothing but the bucket
// answers with the right data, or with an error that its log names; never with wrong data.
func TestDamagedObjects(t *testing.T) {
	need(t, "cp")
	p, store := fileStore(t)
	h := newHost(t, p, settings{interval: "1s"})
	s := h.start()
	c := h.dial()
	const blocks = 300
	for i := range uint64(blocks) {
		must(t, c.write(stamped(i, i+1), int64(i)*4096))
		if i%100 == 99 {
			must(t, c.flush())
			s.settled()
		}
	}
	s.stop()
	rng := rand.New(rand.NewPCG(7, 7))
	damaged, refused, failed := files(t, store), 0, 0
	for _, path := range damaged {
		name, err := filepath.Rel(store, path)
		must(t, err)
		copied := filepath.Join(tempDir(t), "store")
		sh(t, "cp", "-a", store, copied)
		off := flip(t, filepath.Join(copied, name), rng)
		switch readDamaged(t, newHost(t, place{url: "file://" + copied}, settings{}), name, off, blocks) {
		case "refused":
			refused++
		case "failed":
			failed++
		}
	}
	t.Logf("%d objects, a byte flipped in each: %d refused at the start, %d gave I/O errors", len(damaged), refused, failed)
	if refused == 0 || failed == 0 {
		t.Error("the damage was not met in both ways: the test no longer reaches what it is for")
	}
}

// flip changes one byte of a file, one that is not zero: much of the journal is.
func flip(t *testing.T, path string, rng *rand.Rand) int {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	var used []int
	for i, b := range data {
		if b != 0 {
			used = append(used, i)
		}
	}
	if len(used) == 0 {
		return -1
	}
	off := used[rng.IntN(len(used))]
	data[off] ^= byte(1 + rng.IntN(255))
	must(t, os.WriteFile(path, data, 0o600))
	return off
}

// readDamaged starts a host and reads everything; it tells what came of it.
func readDamaged(t *testing.T, h *host, name string, off, blocks int) string {
	t.Helper()
	s := h.begin()
	within(t, "readiness or end", func() bool { return s.ended() || s.isReady() })
	what := fmt.Sprintf("byte %d of %s flipped", off, name)
	if s.ended() {
		if st := s.wait(); st <= 0 || strings.Contains(s.log.String(), "goroutine ") {
			t.Errorf("%s: %s", what, s.cmd.ProcessState)
		}
		t.Logf("%s: %s", what, lastLine(s.log.String()))
		return "refused"
	}
	defer s.kill()
	outcome := "unharmed"
	c := h.dial()
	got := make([]byte, 4096)
	for i := range uint64(blocks) {
		switch err := c.read(got, int64(i)*4096); {
		case isErrno(err):
			outcome = "failed"
		case err != nil:
			t.Errorf("%s: block %d: %v", what, i, err)
			return "broken"
		case !bytes.Equal(got, stamped(i, i+1)):
			t.Errorf("%s: block %d has wrong data", what, i)
		}
	}
	if outcome == "failed" && !strings.Contains(s.log.String(), filepath.Base(name)) {
		t.Errorf("%s: the log does not name the object", what)
	}
	return outcome
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// TestDamagedFiles flips a byte in each file of a host that was killed: journal, tables, MANIFEST,
// lineage. It never has wrong data: what is damaged is named, or read from the store.
func TestDamagedFiles(t *testing.T) {
	need(t, "cp")
	p, store := fileStore(t)
	s0 := settings{interval: "1s"}
	h := newHost(t, p, s0)
	s := h.start()
	c := h.dial()
	const blocks = 300
	for i := range uint64(blocks) {
		must(t, c.write(stamped(i, i+1), int64(i)*4096))
		if i%100 == 99 {
			must(t, c.flush())
			if i < 200 {
				s.settled() // the last hundred are in the journal alone, or in a Ship
			}
		}
	}
	// The very last record cannot be told from one that the crash tore, so it is one that nobody reads.
	must(t, c.writeThrough(block(1), blocks*4096))
	s.kill()

	rng := rand.New(rand.NewPCG(8, 8))
	damaged, outcomes := files(t, h.nvme), map[string]int{}
	for _, path := range damaged {
		name, err := filepath.Rel(h.nvme, path)
		must(t, err)
		dir := tempDir(t)
		sh(t, "cp", "-a", store, filepath.Join(dir, "store"))
		sh(t, "cp", "-a", h.nvme, filepath.Join(dir, "data"))
		off := flip(t, filepath.Join(dir, "data", name), rng)
		if off < 0 {
			continue
		}
		// A copy is no continuation of the process that died, so it would wait for the lease.
		clone := newHost(t, place{url: "file://" + filepath.Join(dir, "store")}, settings{nvmeDir: filepath.Join(dir, "data"), takeover: "force"})
		outcomes[readDamaged(t, clone, name, off, blocks)]++
		must(t, os.RemoveAll(dir))
	}
	t.Logf("%d files, a byte flipped in each: %v", len(damaged), outcomes)
	if outcomes["refused"] == 0 || outcomes["unharmed"] == 0 {
		t.Error("the damage was not met in both ways: the test no longer reaches what it is for")
	}
}
