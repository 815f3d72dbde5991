package admit_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

// now is the moment of every decision here; certificates live for an hour
// around it unless a test says otherwise.
var now = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

// ours is the instance OID of the gateway under test, from the 2.25 arc with
// more than 64 bits; theirs is another instance's, short enough to be an
// extended key usage.
var (
	ours   = parseOID("2.25.329800735698586629295641978511506172918")
	theirs = parseOID("1.3.6.1.4.1.99999.7")
)

func parseOID(s string) x509.OID {
	oid, err := x509.ParseOID(s)
	if err != nil {
		panic(err)
	}
	return oid
}

// authority is a CA of the test's own.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

var serial int64

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate; a nil issuer signs itself.
func sign(t testing.TB, issuer *authority, template *x509.Certificate, key crypto.Signer) *authority {
	t.Helper()
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{c, key}
}

func template(name string) *x509.Certificate {
	serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Roamgate"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(time.Hour),
	}
}

func newCA(t testing.TB, issuer *authority, name string, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	c := template(name)
	c.IsCA, c.BasicConstraintsValid = true, true
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	for _, f := range change {
		f(c)
	}
	return sign(t, issuer, c, newKey(t))
}

// device makes what a sound device has; each test spoils one thing.
func device(t testing.TB, issuer *authority, name string, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	return deviceWithKey(t, issuer, name, newKey(t), change...)
}

func deviceWithKey(t testing.TB, issuer *authority, name string, key crypto.Signer, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	c := template(name)
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	c.Policies = []x509.OID{ours}
	c.DNSNames = []string{name}
	c.EmailAddresses = []string{"Ann@example.org"}
	c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 7).To4(), net.ParseIP("2001:db8::7")}
	for _, f := range change {
		f(c)
	}
	return sign(t, issuer, c, key)
}

func revocationList(t testing.TB, issuer *authority, number int64, next time.Duration, serials ...*big.Int) *x509.RevocationList {
	t.Helper()
	list := &x509.RevocationList{
		Number:     big.NewInt(number),
		ThisUpdate: now.Add(-time.Hour),
		NextUpdate: now.Add(next),
	}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now.Add(-time.Minute), ReasonCode: 1})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer.certificate, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// world is root -> issuing -> device, the gateway knowing the root only.
type world struct {
	root, issuing, device *authority
	config                admit.Config
	evidence              admit.Evidence
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{root: newCA(t, nil, "root")}
	w.issuing = newCA(t, w.root, "issuing")
	w.config = admit.Config{
		Roots:        []*x509.Certificate{w.root.certificate},
		InstanceOIDs: []x509.OID{ours},
		Group:        "staff",
	}
	w.present(device(t, w.issuing, "phone-1"), w.issuing)
	return w
}

// present makes the device show its certificate and those of the issuers, and
// call itself by its subject.
func (w *world) present(d *authority, issuers ...*authority) {
	w.device = d
	w.evidence = admit.Evidence{IDType: 9, ID: d.certificate.RawSubject, Chain: [][]byte{d.certificate.Raw}}
	for _, issuer := range issuers {
		w.evidence.Chain = append(w.evidence.Chain, issuer.certificate.Raw)
	}
}

func (w *world) decide(t testing.TB) (admit.Admission, error) {
	t.Helper()
	policy, err := admit.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Decide(now, w.evidence)
}
