// Package catest is a CA for tests, and what they let it sign.
package catest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// New CA in a folder of the test's, until that ends.
func New(t testing.TB, now time.Time) *ca.CA {
	t.Helper()
	a, err := ca.Create(now, ca.Options{Dir: filepath.Join(t.TempDir(), "pki")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// NewKey on P-256.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Roots has the issuer's.
func Roots(i *ca.Issuer) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(i.Root())
	return roots
}

// Policy that a profile's certificates have.
func Policy(t testing.TB, i *ca.Issuer, p ca.Profile) x509.OID {
	t.Helper()
	oid, ok := ca.PolicyOID(i.InstanceOID(), p)
	if !ok {
		t.Fatalf("no policy of %s", p)
	}
	return oid
}

// Chain that begins with a certificate of today, in PEM.
func Chain(i *ca.Issuer, r ca.Request) ([]byte, error) {
	c, err := i.Sign(time.Now(), r)
	if err != nil {
		return nil, err
	}
	return ca.EncodeCertificates(append([]*x509.Certificate{c}, i.Chain()...)...), nil
}

// Certificate of today with its chain and a new key.
func Certificate(t testing.TB, i *ca.Issuer, r ca.Request) *tls.Certificate {
	t.Helper()
	key := NewKey(t)
	r.PublicKey = key.Public()
	c, err := i.Sign(time.Now(), r)
	if err != nil {
		t.Fatal(err)
	}
	own := &tls.Certificate{PrivateKey: key, Certificate: [][]byte{c.Raw}}
	for _, above := range i.Chain() {
		own.Certificate = append(own.Certificate, above.Raw)
	}
	return own
}
