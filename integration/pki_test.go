package integration

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/peer"
)

// instanceOID of the gateways in scenarios: a private enterprise number for
// documentation (RFC 5612).
var instanceOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}

// authority is a CA of the tests' own, because it has to issue what
// `gatewayd pki` refuses to.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	// chain is its own certificate and those above it without the root's; empty
	// for a root.
	chain []*x509.Certificate
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	return newRoot(t, name, keyECDSA(t))
}

func newRoot(t *testing.T, name string, key crypto.Signer) authority {
	t.Helper()
	a := authority{key: key}
	a.cert = a.issue(t, authorityTemplate(name), key.Public())
	return a
}

// below is an authority that this one certifies.
func (a authority) below(t *testing.T, name string, key crypto.Signer) authority {
	t.Helper()
	cert := a.issue(t, authorityTemplate(name), key.Public())
	return authority{cert: cert, key: key, chain: append([]*x509.Certificate{cert}, a.chain...)}
}

func authorityTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// identity is a certificate with its key, and the certificates between it and
// the root.
type identity struct {
	cert  *x509.Certificate
	key   crypto.Signer
	chain []*x509.Certificate
}

// chainPEM is the own certificate first, then the intermediates.
func (i identity) chainPEM() []byte {
	text := certPEM(i.cert)
	for _, c := range i.chain {
		text = append(text, certPEM(c)...)
	}
	return text
}

func (a authority) gateway(t *testing.T, key crypto.Signer, change ...func(*x509.Certificate)) identity {
	t.Helper()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: gatewayID},
		DNSNames:    []string{gatewayID},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, f := range change {
		f(template)
	}
	return identity{key: key, chain: a.chain, cert: a.issue(t, template, key.Public())}
}

// device is a certificate as a device should have it; change may spoil it.
func (a authority) device(t *testing.T, name string, key crypto.Signer, change ...func(*x509.Certificate)) identity {
	t.Helper()
	template := &x509.Certificate{
		Subject:            pkix.Name{CommonName: name},
		DNSNames:           []string{name},
		KeyUsage:           x509.KeyUsageDigitalSignature,
		ExtKeyUsage:        []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{instanceOID},
	}
	for _, f := range change {
		f(template)
	}
	return identity{key: key, chain: a.chain, cert: a.issue(t, template, key.Public())}
}

func (a authority) issue(t *testing.T, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = serial(t)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// revoke is a list of revoked certificates, in PEM, current until next.
func (a authority) revoke(t *testing.T, next time.Time, revoked ...identity) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: serial(t), ThisUpdate: next.Add(-48 * time.Hour), NextUpdate: next}
	for _, i := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: i.cert.SerialNumber, RevocationTime: list.ThisUpdate,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// files are what a client of the gateway's root needs.
func (i identity) files(t *testing.T, root authority) peer.Files {
	t.Helper()
	return peer.Files{CA: certPEM(root.cert), Cert: i.chainPEM(), Key: keyPEM(t, i.key)}
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func keyECDSA(t *testing.T) crypto.Signer { return keyOn(t, elliptic.P256()) }

func keyP384(t *testing.T) crypto.Signer { return keyOn(t, elliptic.P384()) }

func keyOn(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyP521(t *testing.T) crypto.Signer { return keyOn(t, elliptic.P521()) }

func keyEd25519(t *testing.T) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyRSA(t *testing.T) crypto.Signer { return keyRSAOf(t, 2048) }

func keyRSAOf(t *testing.T, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
