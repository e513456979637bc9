package nbd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zerofs/servers"
)

// need skips the test if a program is missing, or fails it where ZEROFS_REQUIRE_TOOLS is set.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("ZEROFS_REQUIRE_TOOLS") != "" {
				t.Fatalf("%s is missing and ZEROFS_REQUIRE_TOOLS is set", p)
			}
			t.Skipf("%s is missing (Debian: libnbd-bin, python3-libnbd, qemu-utils, fio)", p)
		}
	}
}

// serveUnix serves dev as "d" and as the default export on a Unix socket whose path it returns.
func serveUnix(t *testing.T, srv *Server, dev Device) string {
	t.Helper()
	s := &shelf{devs: map[string]Device{"d": dev, "other": newRAM(1 << 20)}}
	srv.Exports = s
	socket := filepath.Join(t.TempDir(), "s")
	lns, err := servers.Listen(context.Background(), nil, socket)
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- srv.Serve(context.Background(), lns[0], Options{DefaultExport: "d"}) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-end; !errors.Is(err, ErrServerClosed) {
			t.Error(err)
		}
		s.open.Wait()
	})
	return socket
}

// sh runs a command and returns what it prints.
func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	// nbdsh needs the system's Python, whose packages the distribution installs.
	cmd.Env = append(os.Environ(), "PATH=/usr/bin:/bin:"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// clientSize is the size of the device that real clients see.
const clientSize = 8 << 20

// image fills a file with noise and holes.
func image(t *testing.T) string {
	t.Helper()
	rng := mrand.New(mrand.NewChaCha8([32]byte{1}))
	data := make([]byte, clientSize)
	for off := 0; off < clientSize; off += 64 << 10 {
		if rng.IntN(3) > 0 {
			for i := range 64 << 10 {
				data[off+i] = byte(rng.Uint32())
			}
		}
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bothKinds runs a test against a device with and without fast reads.
func bothKinds(t *testing.T, test func(t *testing.T, d *ram, uri string)) {
	for name, wrap := range map[string]func(*ram) Device{
		"slow": func(d *ram) Device { return d },
		"fast": func(d *ram) Device { return fastRAM{d, clientSize} },
	} {
		t.Run(name, func(t *testing.T) {
			d := newRAM(clientSize)
			test(t, d, "nbd+unix:///d?socket="+serveUnix(t, &Server{}, wrap(d)))
		})
	}
}

func TestNbdinfo(t *testing.T) {
	need(t, "nbdinfo")
	socket := serveUnix(t, &Server{}, newRAM(clientSize))
	out := sh(t, "nbdinfo", "nbd+unix:///?socket="+socket)
	for _, want := range []string{
		"newstyle-fixed without TLS", "using structured packets", "export-size: 8388608",
		"base:allocation", `export="d"`, "description: " + description,
		"is_rotational: false", "is_read_only: false", "can_cache: true", "can_df: true", "can_fast_zero: true",
		"can_flush: true", "can_fua: true", "can_multi_conn: true", "can_trim: true", "can_zero: true",
		"block_size_minimum: 1\n", "block_size_preferred: 4096", "block_size_maximum: 33554432",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nbdinfo does not say %q:\n%s", want, out)
		}
	}
	list := sh(t, "nbdinfo", "--list", "nbd+unix:///?socket="+socket)
	for _, want := range []string{`export="d"`, `export="other"`} {
		if !strings.Contains(list, want) {
			t.Errorf("nbdinfo --list does not say %q:\n%s", want, list)
		}
	}
	if out, err := exec.Command("nbdinfo", "nbd+unix:///none?socket="+socket).CombinedOutput(); err == nil {
		t.Errorf("nbdinfo of an export that is not there: %s", out)
	}
}

func TestNbdcopy(t *testing.T) {
	need(t, "nbdcopy", "nbdinfo", "cmp")
	bothKinds(t, func(t *testing.T, d *ram, uri string) {
		src := image(t)
		sh(t, "nbdcopy", "--flush", src, uri)
		want, err := os.ReadFile(src)
		if err != nil {
			t.Fatal(err)
		}
		d.mu.Lock()
		if string(d.stable) != string(want) {
			t.Error("what was copied and flushed is not durable")
		}
		d.mu.Unlock()
		back := filepath.Join(t.TempDir(), "back")
		sh(t, "nbdcopy", uri, back)
		sh(t, "cmp", src, back)
		if out := sh(t, "nbdinfo", "--map", "--totals", uri); !strings.Contains(out, "hole,zero") || !strings.Contains(out, "data") {
			t.Errorf("map: %s", out)
		}
	})
}

func TestQemu(t *testing.T) {
	need(t, "qemu-img", "qemu-io")
	bothKinds(t, func(t *testing.T, d *ram, uri string) {
		src := image(t)
		sh(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", src, uri)
		sh(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", src, uri)
		out := sh(t, "qemu-io", "-f", "raw", uri,
			"-c", "write -P 1 0 1M", "-c", "aio_write -P 2 1M 1M", "-c", "aio_write -P 3 2M 4k", "-c", "aio_flush",
			"-c", "write -z 512k 64k", "-c", "write -f -P 4 3M 512", "-c", "discard 4M 1M", "-c", "flush",
			"-c", "read -P 1 0 512k", "-c", "read -P 0 512k 64k", "-c", "read -P 2 1M 1M", "-c", "read -P 3 2M 4k",
			"-c", "read -P 4 3M 512", "-c", "read -P 0 4M 1M", "-c", "map")
		if strings.Contains(out, "verification failed") || strings.Contains(out, "rror") {
			t.Errorf("qemu-io:\n%s", out)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if string(d.stable) != string(d.data) {
			t.Error("after qemu closed the device not everything is durable")
		}
	})
}

// nbdshScript asks for each command with each flag, and for errors.
const nbdshScript = `
import nbd, errno
def fails(want, f, *args):
    try:
        f(*args)
    except nbd.Error as e:
        assert e.errnum == want, (e.errnum, want, args)
        return
    raise AssertionError("no error", args)

size = h.get_size()
h.set_strict_mode(0)
h.pwrite(b"x" * 100, 5)
h.pwrite(b"y" * 4096, 8192, nbd.CMD_FLAG_FUA)
h.flush()
assert h.pread(100, 5, nbd.CMD_FLAG_DF) == b"x" * 100
h.zero(50, 5, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.zero(4096, 8192, nbd.CMD_FLAG_FAST_ZERO)
h.trim(4096, 8192)
h.cache(4096, 8192)
assert h.pread(105, 0) == bytes(55) + b"x" * 50
fails(errno.ENOSPC, h.pwrite, b"z", size)
fails(errno.ENOSPC, h.zero, 2, size - 1)
fails(errno.EINVAL, h.pread, 2, size - 1)
fails(errno.EINVAL, h.trim, 2, size - 1)
fails(errno.EINVAL, h.cache, 2, size - 1)
got = []
h.block_status(size, 0, lambda name, off, entries, err: got.append((name, off, entries)) or 0)
assert got == [("base:allocation", 0, [4096, 0, size - 4096, 3])], got
got.clear()
h.block_status(size, 0, lambda name, off, entries, err: got.append(entries) or 0, nbd.CMD_FLAG_REQ_ONE)
assert got == [[4096, 0]], got
bufs = []
for i in range(500):
    while h.aio_in_flight() >= 100:
        h.poll(-1)
    b = nbd.Buffer(4096)
    bufs.append((i, b))
    h.aio_pread(b, 4096 * (i % 1000))
while h.aio_in_flight() > 0:
    h.poll(-1)
for i, b in bufs:
    assert b.to_bytearray() == h.pread(4096, 4096 * (i % 1000)), i
h.shutdown()
`

func TestNbdsh(t *testing.T) {
	need(t, "nbdsh")
	bothKinds(t, func(t *testing.T, d *ram, uri string) {
		sh(t, "nbdsh", "--base-allocation", "-u", uri, "-c", nbdshScript)
	})
}

// Without structured replies, as older kernels and clients are.
func TestNbdshSimple(t *testing.T) {
	need(t, "nbdsh")
	bothKinds(t, func(t *testing.T, d *ram, uri string) {
		sh(t, "nbdsh", "-c", "h.set_request_structured_replies(False)", "-c", "h.connect_uri('"+uri+"')", "-c", `
assert not h.get_structured_replies_negotiated()
h.pwrite(b"x" * 100000, 5)
assert h.pread(100000, 5) == b"x" * 100000
h.flush()
h.shutdown()`)
	})
}

// TestFio runs mixed jobs on several connections with verification.
func TestFio(t *testing.T) {
	need(t, "fio")
	if out := sh(t, "fio", "--enghelp"); !strings.Contains(out, "nbd") {
		t.Skip("this fio has no nbd engine")
	}
	bothKinds(t, func(t *testing.T, d *ram, uri string) {
		out := sh(t, "fio", "--name=verify", "--ioengine=nbd", "--uri="+uri, "--rw=randrw", "--bs=4k",
			"--size=1M", "--offset_increment=1M", "--numjobs=4", "--iodepth=16", "--fsync=20", "--verify=crc32c",
			"--do_verify=1", "--verify_fatal=1", "--randseed=7", "--group_reporting")
		if !strings.Contains(out, "err= 0") {
			t.Errorf("fio:\n%s", out)
		}
	})
}

// certificate makes a key pair signed by the parent, or by itself without one, and writes it to
// dir as libnbd looks for it.
func certificate(t *testing.T, serial int64, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
		tmpl.DNSNames, tmpl.IPAddresses, tmpl.ExtKeyUsage = nil, nil, nil
		tmpl.Subject.CommonName = "authority"
		parent, parentKey = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func TestTLSClients(t *testing.T) {
	need(t, "nbdinfo", "nbdcopy", "cmp")
	ca, caKey, caPEM, _ := certificate(t, 1, nil, nil)
	_, _, certPEM, keyPEM := certificate(t, 2, ca, caKey)
	_, _, clientPEM, clientKeyPEM := certificate(t, 3, ca, caKey)
	cfg, err := servers.TLSConfig(certPEM, keyPEM, caPEM)
	if err != nil {
		t.Fatal(err)
	}
	pki := func(files map[string][]byte) string {
		dir := t.TempDir()
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	full := pki(map[string][]byte{"ca-cert.pem": caPEM, "client-cert.pem": clientPEM, "client-key.pem": clientKeyPEM})
	anonymous := pki(map[string][]byte{"ca-cert.pem": caPEM})
	d := newRAM(clientSize)
	socket := serveUnix(t, &Server{TLS: cfg, TLSRequired: true}, d)
	uri := func(scheme, dir string) string {
		return scheme + "+unix://localhost/d?socket=" + socket + "&tls-certificates=" + dir
	}
	if out := sh(t, "nbdinfo", uri("nbds", full)); !strings.Contains(out, "with TLS") {
		t.Errorf("nbdinfo:\n%s", out)
	}
	src, back := image(t), filepath.Join(t.TempDir(), "back")
	sh(t, "nbdcopy", "--flush", src, uri("nbds", full))
	sh(t, "nbdcopy", uri("nbds", full), back)
	sh(t, "cmp", src, back)
	for name, bad := range map[string]string{
		"without TLS":           "nbd+unix:///d?socket=" + socket,
		"without a certificate": uri("nbds", anonymous),
	} {
		if out, err := exec.Command("nbdinfo", bad).CombinedOutput(); err == nil {
			t.Errorf("a client %s was let in:\n%s", name, out)
		}
	}
}
