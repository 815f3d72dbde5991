package join

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func newCSR(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCSRShowsItsKey(t *testing.T) {
	key := ecKey(t)
	csr, err := ParseCSR(newCSR(t, key))
	if err != nil || !key.PublicKey.Equal(csr.PublicKey) {
		t.Errorf("%v, %v", csr, err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCSR(newCSR(t, edwards)); err != nil {
		t.Errorf("Ed25519, which the policy may refuse: %v", err)
	}
}

// A request for somebody else's key has a signature of the wrong one.
func TestCSRWithoutTheKey(t *testing.T) {
	mine, other := newCSR(t, ecKey(t)), ecKey(t)
	spki, err := x509.MarshalPKIXPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificateRequest(mine)
	if err != nil {
		t.Fatal(err)
	}
	stolen := bytes.Replace(mine, own.RawSubjectPublicKeyInfo, spki, 1)
	for name, der := range map[string][]byte{
		"another's key": stolen, "nothing": nil, "cut off": mine[:len(mine)-1],
		"something behind": append(slices.Clone(mine), 0), "too long": make([]byte, maxCSR+1),
	} {
		if _, err := ParseCSR(der); !errors.Is(err, ErrCSR) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key that would take long to verify is refused for its size.
func TestCSRWithAHugeKey(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), 16000)
	n.Add(n, big.NewInt(1))
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificateRequest(newCSR(t, ecKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	// CertificationRequest ::= SEQUENCE { info, algorithm, signature }; info is
	// version, subject, key, attributes (RFC 2986 section 4).
	var whole struct {
		Info struct {
			Version                  int
			Subject, Key, Attributes asn1.RawValue
		}
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(own.Raw, &whole); err != nil {
		t.Fatal(err)
	}
	whole.Info.Key = asn1.RawValue{FullBytes: spki}
	der, err := asn1.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCSR(der); !errors.Is(err, ErrCSR) || !strings.Contains(err.Error(), "16001 bits") {
		t.Errorf("%v", err)
	}
}

func FuzzCSR(f *testing.F) {
	key := ecKey(f)
	f.Add(newCSR(f, key))
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := ParseCSR(der)
		if err == nil && csr.CheckSignature() != nil {
			t.Fatal("accepted without its signature")
		}
		if err != nil && !errors.Is(err, ErrCSR) {
			t.Fatal(err)
		}
	})
}
