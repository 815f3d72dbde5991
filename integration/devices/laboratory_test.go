package devices

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/identity"
)

// laboratory is a folder with a CA, which issues to servers and devices, and the
// servers' certificate.
type laboratory string

func (l laboratory) file(name string) string { return filepath.Join(string(l), name) }

func newLaboratory(t *testing.T) laboratory {
	t.Helper()
	l := laboratory(t.TempDir())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "laboratory"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l.issue(t, "root", ca, ca, key, key)
	l.issue(t, "server", server, ca, serverKey, key)
	return l
}

// issue NAME.pem and NAME.key.
func (l laboratory) issue(t *testing.T, name string, template, parent *x509.Certificate, key, sign *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), sign)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(l.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// server lets in who has a certificate of the laboratory.
func (l laboratory) server() (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(l.file("server.pem"), l.file("server.key"))
	if err != nil {
		return nil, err
	}
	clients, _, err := identity.Roots(l.file("root.pem"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}, nil
}

func (l laboratory) issuer(t *testing.T, name func(uint64) string) *identity.Issuer {
	t.Helper()
	i, err := identity.NewIssuer(l.file("root.pem"), l.file("root.key"), name)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (l laboratory) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	pool, _, err := identity.Roots(l.file("root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// client of one device, with its own certificate, tickets and connection.
func client(t *testing.T, roots *x509.CertPool, devices identity.Source, number uint64) *http.Client {
	t.Helper()
	id, err := devices.Identity(number)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{
			RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(4),
			Certificates: []tls.Certificate{{Certificate: id.Credential.Chain, PrivateKey: id.Credential.Signer}},
		},
		MaxIdleConnsPerHost: 1,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Jar: jar, Timeout: 20 * time.Second}
}
