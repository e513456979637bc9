package ninep

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/hugelgupf/p9/p9"
)

// selfSigned makes a certificate for localhost.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestTLS has clients with and without TLS at servers that speak it, ask for it, or do not know it.
func TestTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, tc := range []struct {
		name          string
		srv           *Server
		secure, works bool
	}{
		{"none", &Server{}, false, true},
		{"none, client wants it", &Server{}, true, false},
		{"offered", &Server{TLS: server}, true, true},
		{"offered and not taken", &Server{TLS: server}, false, true},
		{"required", &Server{TLS: server, TLSRequired: true}, true, true},
		{"required and not taken", &Server{TLS: server, TLSRequired: true}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr, _ := serveEngine(t, tc.srv)
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if tc.secure {
				nc = tls.Client(nc, &tls.Config{RootCAs: pool, ServerName: "localhost"})
			}
			c, err := p9.NewClient(nc)
			if works := err == nil; works != tc.works {
				t.Fatalf("works: %v, %v", works, err)
			}
			if err != nil {
				return
			}
			root, err := c.Attach("")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := root.Mkdir("d", 0o755, p9.NoUID, p9.NoGID); err != nil {
				t.Error(err)
			}
		})
	}
}
