package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func write(t *testing.T, kind string, der ...[]byte) string {
	t.Helper()
	var text []byte
	for _, d := range der {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: d})...)
	}
	file := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func newCA(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "CERTIFICATE", der), write(t, "PRIVATE KEY", pkcs8)
}

// Devices of an issuer have their own names and certificates that its root
// vouches for; the same number is the same device.
func TestIssuer(t *testing.T) {
	certFile, keyFile := newCA(t)
	roots, anchors, err := Roots(certFile)
	if err != nil || len(anchors) != 1 {
		t.Fatalf("%d roots, %v", len(anchors), err)
	}
	i, err := NewIssuer(certFile, keyFile, func(n uint64) string { return fmt.Sprintf("bench-%d", n) })
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(3) {
		id, err := i.Identity(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(id.Credential.Chain) != 1 {
			t.Errorf("chain of %d: the root need not be sent", len(id.Credential.Chain))
		}
		c, err := x509.ParseCertificate(id.Credential.Chain[0])
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("bench-%d", n)
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil || string(id.ID.Data) != name {
			t.Errorf("%s: %v", id.ID.Data, err)
		}
		again, err := i.Identity(n)
		if err != nil || string(again.Credential.Chain[0]) != string(id.Credential.Chain[0]) {
			t.Errorf("%s got another certificate, %v", name, err)
		}
	}
}

func TestLoad(t *testing.T) {
	certFile, keyFile := newCA(t)
	s, err := Load(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := s.Identity(99); err != nil || string(id.ID.Data) != "lab" {
		t.Errorf("%s, %v", id.ID.Data, err)
	}
	_, other := newCA(t)
	missing := filepath.Join(t.TempDir(), "none")
	for _, c := range [][2]string{{certFile, other}, {keyFile, keyFile}, {certFile, certFile}, {missing, keyFile}, {certFile, missing}, {write(t, "CERTIFICATE", []byte("x")), keyFile}} {
		if _, err := Load(c[0], c[1]); err == nil {
			t.Errorf("%v was loaded", c)
		}
	}
	leaf, err := NewIssuer(certFile, keyFile, func(uint64) string { return "leaf" })
	if err != nil {
		t.Fatal(err)
	}
	id, err := leaf.Identity(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewIssuer(write(t, "CERTIFICATE", id.Credential.Chain[0]), keyFile, func(uint64) string { return "" }); err == nil {
		t.Error("a device issues")
	}
}
