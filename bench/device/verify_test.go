package device

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"testing/synctest"
	"time"
)

// TestVerifyAgain: what was found good is good again, for that chain alone and while
// it is valid.
func TestVerifyAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issue := func(life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
			key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			c := &x509.Certificate{
				SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gw"}, DNSNames: []string{"gw.example"},
				NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
				IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			}
			return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)))), key
		}
		trusted, key := issue(time.Hour)
		stranger, _ := issue(time.Hour)
		roots := x509.NewCertPool()
		roots.AddCert(trusted)
		verify := VerifyGateway(roots, "gw.example")
		for range 2 {
			got, err := verify(nil, [][]byte{trusted.Raw})
			if err != nil || !key.PublicKey.Equal(got) {
				t.Fatal(got, err)
			}
			if _, err := verify(nil, [][]byte{stranger.Raw}); err == nil {
				t.Fatal("a stranger is trusted")
			}
			if _, err := verify(nil, nil); err == nil {
				t.Fatal("nobody is trusted")
			}
		}
		time.Sleep(2 * time.Hour)
		if _, err := verify(nil, [][]byte{trusted.Raw}); err == nil {
			t.Error("an expired certificate is trusted")
		}
	})
}
