package e2e

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"zerofs/test/s3proxy"
	"zerofs/test/versitygw"
)

// fair and outage are settings of the proxy between program and store.
var (
	fair   = s3proxy.Settings{}
	outage = s3proxy.Settings{Outage: true}
)

// s3WithProxy is an S3 server that can be taken away.
func s3WithProxy(t *testing.T) (*versitygw.Server, *s3proxy.Proxy, string) {
	t.Helper()
	gw := versitygw.Start(t)
	proxy, endpoint := s3proxy.Start(t, gw.Endpoint)
	return gw, proxy, endpoint
}

func block(v byte) []byte { return bytes.Repeat([]byte{v}, 4096) }

// TestExitUsage is status 2, with every problem told at once.
func TestExitUsage(t *testing.T) {
	p, _ := fileStore(t)
	h := newHost(t, p, settings{extra: "colour = \"red\"\n[log]\nlevel = \"loud\"\n", takeover: "perhaps"})
	h.begin().wants(2, "colour", "log.level", "fence.takeover", "line ")
	launch(t, "", program, "fly").wants(2)
	launch(t, "", program).wants(2)
	h.configure(p, settings{})
	h.start().stop()
	h.configure(p, settings{extra: "[volumes]\n"})
	h.begin().wants(2, "volumes")
	other := strings.Replace(readFile(t, h.config), "[volumes]\n", "", 1)
	other = strings.Replace(other, "[volume]\n", "[volume]\nchunk_size = \"16KiB\"\n", 1)
	must(t, os.WriteFile(h.config, []byte(other), 0o600))
	h.begin().wants(2, "16KiB", "4KiB")
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// TestExitPassword is status 3.
func TestExitPassword(t *testing.T) {
	p, _ := fileStore(t)
	h := newHost(t, p, settings{})
	h.start().stop()
	h.configure(p, settings{password: "another"})
	h.begin().wants(3, "password")
}

// TestExitOwned is status 4, and what another owner sees otherwise: it waits and says so.
func TestExitOwned(t *testing.T) {
	p, _ := fileStore(t)
	first := newHost(t, p, settings{lease: "20s"})
	s := first.start()
	newHost(t, p, settings{takeover: "never"}).begin().wants(4, filepath.Base(first.dir))
	waiting := newHost(t, p, settings{}).begin()
	waiting.poll("a line about the wait", func() bool { return strings.Contains(waiting.log.String(), "the lease of owner") })
	if waiting.isReady() {
		t.Error("two hosts own the volume")
	}
	s.stop() // with a Release, so the other need not wait for the lease's end
	waiting.ready()
	waiting.stop()
}

// TestExitInUse is status 5.
func TestExitInUse(t *testing.T) {
	p, _ := fileStore(t)
	h := newHost(t, p, settings{})
	s := h.start()
	must(t, h.dial().writeThrough(block(5), 0))
	h.begin().wants(5, h.nvme)
	got := make([]byte, 4096)
	must(t, h.dial().read(got, 0))
	if !bytes.Equal(got, block(5)) {
		t.Error("the first process lost its data")
	}
	s.stop()
}

// TestExitFenced is status 6: a process that was stopped past its lease, while another took over,
// acknowledges nothing when it goes on.
func TestExitFenced(t *testing.T) {
	p, _ := fileStore(t)
	old := newHost(t, p, settings{lease: "3s", interval: "1h"})
	s := old.start()
	writer, reader, late := old.dial(), old.dial(), old.dial()
	must(t, writer.writeThrough(block(1), 0))
	got := make([]byte, 4096)
	must(t, reader.read(got, 0))

	s.signal(syscall.SIGSTOP)
	next := newHost(t, p, settings{lease: "3s"})
	s2 := next.start()
	if !s2.status().Volume.Lossy {
		t.Error("the takeover after durability local is not told as one that may lose writes")
	}
	c := next.dial()
	must(t, c.writeThrough(block(2), 0))

	// These wait in the sockets of the process that is stopped.
	must(t, writer.send(nbdWrite, nbdFlagFUA, 4096, 4096, block(3)))
	must(t, reader.send(nbdRead, 0, 0, 4096, nil))
	must(t, late.send(nbdFlush, 0, 0, 0, nil))
	s.signal(syscall.SIGCONT)
	for name, c := range map[string]*client{"write": writer, "read": reader, "flush": late} {
		into := []byte{}
		if name == "read" {
			into = got
		}
		must(t, c.conn.SetReadDeadline(time.Now().Add(hang)))
		if err := c.receive(into); err == nil {
			t.Errorf("a %s was answered by a process that had lost the volume", name)
		}
	}
	s.wants(6)
	must(t, c.read(got, 0))
	if !bytes.Equal(got, block(2)) {
		t.Error("the new owner's data changed")
	}
	must(t, c.read(got, 4096))
	if !bytes.Equal(got, block(0)) {
		t.Error("the old owner wrote")
	}
	s2.stop()

	// The directory that lost is set aside, never mixed in.
	s = old.start()
	must(t, old.dial().read(got, 0))
	if !bytes.Equal(got, block(2)) {
		t.Error("a host that lost the volume came back with data of its own")
	}
	if !strings.Contains(s.log.String(), "set aside") {
		t.Error("the log does not say where the old state is")
	}
	s.stop()
}

// TestExitStore is status 7, after the time that a store has at start.
func TestExitStore(t *testing.T) {
	t.Parallel() // it waits for a minute
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := ln.Addr().String()
	must(t, ln.Close())
	h := newHost(t, place{url: "s3://none/volume", endpoint: "http://" + addr, key: "k", secret: "s"}, settings{})
	begun := time.Now()
	s := h.begin()
	s.wants(7, "s3://none/volume", "for=store")
	if d := time.Since(begun); d < 55*time.Second {
		t.Errorf("gave up after %s", d)
	}
}

// TestExitNotUploaded is status 8: the store is away at the stop. Nothing is lost.
func TestExitNotUploaded(t *testing.T) {
	gw, proxy, endpoint := s3WithProxy(t)
	p := s3Store(gw, endpoint, "not-uploaded")
	h := newHost(t, p, settings{stop: "3s", interval: "1h"})
	s := h.start()
	must(t, h.dial().writeThrough(block(8), 4096))
	proxy.Set(outage)
	s.signal(syscall.SIGTERM)
	s.wants(8, "not uploaded")
	proxy.Set(fair)
	s = h.start()
	got := make([]byte, 4096)
	must(t, h.dial().read(got, 4096))
	if !bytes.Equal(got, block(8)) {
		t.Error("an acknowledged write is lost")
	}
	s.stop()
}

// TestExitRolledBack is status 9: the store was replaced by an older copy of itself.
func TestExitRolledBack(t *testing.T) {
	need(t, "cp")
	p, dir := fileStore(t)
	h := newHost(t, p, settings{})
	h.start().stop()
	sh(t, "cp", "-a", dir, dir+".old")
	s := h.start()
	must(t, h.dial().writeThrough(block(9), 0))
	s.stop()
	must(t, os.Rename(dir, dir+".new"))
	must(t, os.Rename(dir+".old", dir))
	h.begin().wants(9)
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Rename(dir+".new", dir))
	s = h.start()
	got := make([]byte, 4096)
	must(t, h.dial().read(got, 0))
	if !bytes.Equal(got, block(9)) {
		t.Error("the volume is not as it was")
	}
	s.stop()
}

// TestExitMixed is status 9: a journal beside another host's NVMe directory, or none.
func TestExitMixed(t *testing.T) {
	p, _ := fileStore(t)
	journals := tempDir(t)
	a, b := filepath.Join(journals, "a"), filepath.Join(journals, "b")
	h1 := newHost(t, p, settings{journalDir: a})
	h1.start().stop()
	h2 := newHost(t, p, settings{journalDir: b})
	h2.start().stop()
	h1.configure(p, settings{journalDir: b})
	h1.begin().wants(9)
	h1.configure(p, settings{journalDir: filepath.Join(journals, "c")})
	h1.begin().wants(9)
	h1.configure(p, settings{journalDir: a})
	h1.start().stop()
}
