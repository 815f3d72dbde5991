package ca_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
)

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestProfilesOfServersAndPeople: what each may be used for, and that none of
// them passes for a device.
func TestProfilesOfServersAndPeople(t *testing.T) {
	a := newCA(t)
	rsaPublic := rsaKey(t).Public()
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const sign, encipher = x509.KeyUsageDigitalSignature, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	for _, test := range []struct {
		request  ca.Request
		name     string
		usage    x509.KeyUsage
		known    []x509.ExtKeyUsage
		unknown  string
		lifetime time.Duration
	}{
		{ca.Request{Profile: ca.Server, DNSNames: []string{"enroll.example.org"}}, "enroll.example.org", sign, []x509.ExtKeyUsage{server}, "", ca.GatewayLifetime},
		{ca.Request{Profile: ca.Peer, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, "192.0.2.1", sign, []x509.ExtKeyUsage{server, client}, "", ca.GatewayLifetime},
		{ca.Request{Profile: ca.Admin, Name: "Alice@example.org"}, "alice@example.org", sign, []x509.ExtKeyUsage{client}, "", ca.AdminLifetime},
		{ca.Request{Profile: ca.Manager, Name: "manager-1"}, "manager-1", sign, []x509.ExtKeyUsage{client}, "", ca.AdminLifetime},
		{ca.Request{Profile: ca.Agent, DNSNames: []string{"gateway-1.example.org"}}, "gateway-1.example.org", sign, []x509.ExtKeyUsage{server}, "", ca.GatewayLifetime},
		{ca.Request{Profile: ca.RA, Name: "scep", PublicKey: rsaPublic}, "scep", encipher, nil, "1.3.6.1.5.5.7.3.28", ca.GatewayLifetime},
		{ca.Request{Profile: ca.Device, Name: "pc-1", PublicKey: rsaPublic}, "pc-1", encipher, []x509.ExtKeyUsage{client}, "1.3.6.1.5.5.7.3.17", ca.DeviceLifetime},
		{ca.Request{Profile: ca.Device, Name: "till-1", PublicKey: ed}, "till-1", sign, []x509.ExtKeyUsage{client}, "1.3.6.1.5.5.7.3.17", ca.DeviceLifetime},
	} {
		r := test.request
		if r.PublicKey == nil {
			r.PublicKey = catest.NewKey(t).Public()
		}
		c, err := a.Issue(now, r)
		if err != nil {
			t.Errorf("%s: %v", r.Profile, err)
			continue
		}
		var unknown []string
		for _, oid := range c.UnknownExtKeyUsage {
			unknown = append(unknown, oid.String())
		}
		if c.Subject.CommonName != test.name || c.KeyUsage != test.usage || !slices.Equal(c.ExtKeyUsage, test.known) ||
			strings.Join(unknown, " ") != test.unknown || !c.NotAfter.Equal(now.Add(test.lifetime)) {
			t.Errorf("%s: %s, usage %b, %v %v, until %s", r.Profile, c.Subject, c.KeyUsage, c.ExtKeyUsage, unknown, c.NotAfter)
		}
		for _, p := range ca.Profiles {
			carries := p == r.Profile && p != ca.Server && p != ca.RA
			if ca.Has(c, a.InstanceOID(), p) != carries {
				t.Errorf("%s carries the policy of %s: %t", r.Profile, p, !carries)
			}
		}
		other := newCA(t)
		if ca.Has(c, other.InstanceOID(), r.Profile) {
			t.Errorf("%s passes for one of another instance", r.Profile)
		}
	}
	for name, r := range map[string]ca.Request{
		"RA with ECDSA":   {Profile: ca.RA, Name: "scep", PublicKey: catest.NewKey(t).Public()},
		"Ed25519 server":  {Profile: ca.Server, DNSNames: []string{"a"}, PublicKey: ed},
		"nameless admin":  {Profile: ca.Admin, PublicKey: catest.NewKey(t).Public()},
		"nameless server": {Profile: ca.Server, PublicKey: catest.NewKey(t).Public()},
	} {
		if _, err := a.Issue(now, r); !errors.Is(err, ca.ErrRequest) && !errors.Is(err, ca.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDeltaList: openssl agrees on what is revoked by a complete list and by
// its delta.
func TestDeltaList(t *testing.T) {
	a := newCA(t)
	base := ca.List{Number: 7, ThisUpdate: now, NextUpdate: now.Add(time.Hour), Revoked: []ca.Revocation{{big.NewInt(0xaa), now, ca.KeyCompromise}}}
	delta := ca.List{Number: 9, Base: 7, ThisUpdate: now, NextUpdate: now.Add(time.Hour), Revoked: []ca.Revocation{{big.NewInt(0xbb), now, ca.Superseded}}}
	for _, l := range []ca.List{base, delta} {
		der, err := a.Issuer().SignList(l)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := parsed.CheckSignatureFrom(a.Issuing()); err != nil {
			t.Error(err)
		}
		if got, err := ca.BaseOf(parsed); err != nil || got != l.Base || parsed.Number.Int64() != l.Number || len(parsed.RevokedCertificateEntries) != 1 {
			t.Errorf("list %s to %d, %v", parsed.Number, got, err)
		}
		for _, e := range parsed.Extensions {
			if l.Base > 0 && e.Id.String() == "2.5.29.27" && !e.Critical {
				t.Error("the delta CRL indicator isn't critical (RFC 5280 section 5.2.4)")
			}
		}
		text := openssl(t, ca.EncodeList(der), "crl", "-noout", "-text")
		if l.Base > 0 && !strings.Contains(text, "X509v3 Delta CRL Indicator: critical") || !strings.Contains(text, "X509v3 CRL Number") {
			t.Errorf("openssl reads\n%s", text)
		}
	}
	for _, l := range []ca.List{{}, {Number: -1}, {Number: 1, Base: 2}, {Number: 2, Base: -1}} {
		if _, err := a.Issuer().SignList(l); !errors.Is(err, ca.ErrRequest) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// openssl with input; a laptop may lack it, `make test` may not.
func openssl(t *testing.T, input []byte, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("ROAMGATE_INTEGRATION") == "1" {
			t.Fatal(err)
		}
		t.Skip("openssl is not installed")
	}
	c := exec.Command(path, args...)
	c.Stdin = bytes.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// company is a CA that isn't ours: a root and an intermediate.
type company struct {
	t                 *testing.T
	root, between     *x509.Certificate
	rootKey, interKey any
}

func newCompany(t *testing.T) *company {
	t.Helper()
	rootKey, interKey := catest.NewKey(t), catest.NewKey(t)
	c := &company{t: t, rootKey: rootKey, interKey: interKey}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example Root"}, NotBefore: now, NotAfter: now.Add(30 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	c.root = c.sign(template, template, rootKey.Public(), rootKey)
	template = &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Example Intermediate"}, NotBefore: now, NotAfter: now.Add(20 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	c.between = c.sign(template, c.root, interKey.Public(), rootKey)
	return c
}

func (c *company) sign(template, parent *x509.Certificate, public, key any) *x509.Certificate {
	c.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// issuing certificate for a request, as a careful CA makes it: from the
// extensions that were asked for.
func (c *company) issuing(csr []byte, change func(*x509.Certificate)) *x509.Certificate {
	c.t.Helper()
	block, _ := pem.Decode(csr)
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := r.CheckSignature(); err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: r.Subject, NotBefore: now, NotAfter: now.Add(5 * 365 * 24 * time.Hour), ExtraExtensions: r.Extensions, SubjectKeyId: []byte{1, 2, 3, 4}}
	if change != nil {
		template.ExtraExtensions = nil
		template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		change(template)
	}
	return c.sign(template, c.between, r.PublicKey, c.interKey)
}

// TestExternallySignedCA: a request goes out, a certificate comes in, devices
// are issued that lead to the company's root; later the certificate is renewed.
func TestExternallySignedCA(t *testing.T) {
	for _, passphrase := range []string{"", "correct horse"} {
		dir := filepath.Join(t.TempDir(), "pki")
		csr, err := ca.CreateRequest(now, ca.Options{Dir: dir, Name: "Example VPN", Passphrase: []byte(passphrase)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if text := openssl(t, csr, "req", "-noout", "-text", "-verify"); !strings.Contains(text, "CA:TRUE, pathlen:0") || !strings.Contains(text, "Certificate Sign, CRL Sign") || !strings.Contains(text, "Policy: 2.25.") {
			t.Errorf("openssl reads the request as\n%s", text)
		}
		if _, err := ca.Open(dir, nil); !errors.Is(err, ca.ErrNoCA) {
			t.Errorf("a CA before it has a certificate: %v", err)
		}
		answer := func() ([]byte, error) { return []byte(passphrase), nil }
		c := newCompany(t)
		issuing := c.issuing(csr, nil)
		a, err := ca.Import(now, dir, []*x509.Certificate{issuing, c.between, c.root}, nil, answer)
		if err != nil {
			t.Fatal(err)
		}
		device := issue(t, a, now, "phone-1")
		a.Close()
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(c.root)
		between.AddCert(c.between)
		between.AddCert(issuing)
		if _, err := device.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: now.Add(time.Minute), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			t.Error(err)
		}
		if list := crl(t, a); list.Number.Int64() != 1 {
			t.Errorf("first list is number %s", list.Number)
		}
		// The company renews the certificate and forgets the policy.
		renewed := c.issuing(csr, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(4) })
		if a, err = ca.Import(now, dir, []*x509.Certificate{renewed, c.between, c.root}, nil, answer); err != nil {
			t.Fatal(err)
		}
		a.Close()
		if a, err = ca.Open(dir, answer); err != nil {
			t.Fatal(err)
		}
		next := issue(t, a, now, "phone-2")
		if !slices.ContainsFunc(next.Policies, a.InstanceOID().Equal) || !slices.ContainsFunc(device.Policies, a.InstanceOID().Equal) {
			t.Errorf("policies %v and %v", device.Policies, next.Policies)
		}
		if all, err := a.Issued(); err != nil || len(all) != 2 {
			t.Errorf("%d issued, %v", len(all), err)
		}
		a.Close()
	}
}

// TestCertificatesThatCantBeImported change nothing.
func TestCertificatesThatCantBeImported(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	csr, err := ca.CreateRequest(now, ca.Options{Dir: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ca.CreateRequest(now, ca.Options{Dir: filepath.Join(t.TempDir(), "pki")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, stranger := newCompany(t), newCompany(t)
	good := c.issuing(csr, nil)
	with := func(change func(*x509.Certificate)) []*x509.Certificate {
		return []*x509.Certificate{c.issuing(csr, change), c.between, c.root}
	}
	// crypto/x509 gives a CA a key ID, unless it doesn't see that it is one.
	basic := []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
	for name, chain := range map[string][]*x509.Certificate{
		"nothing":         {},
		"no root":         {good, c.between},
		"no intermediate": {good, c.root},
		"wrong order":     {c.between, good, c.root},
		"another's root":  {good, c.between, stranger.root},
		"another key":     {c.issuing(other, nil), c.between, c.root},
		"no CA":           with(func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }),
		"no CRL sign":     with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }),
		"another policy":  with(func(c *x509.Certificate) { c.Policies = []x509.OID{ca.NewInstanceOID()} }),
		"expired":         with(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second); c.NotBefore = now.Add(-time.Hour) }),
		"no key ID": with(func(c *x509.Certificate) {
			c.SubjectKeyId, c.IsCA, c.BasicConstraintsValid = nil, false, false
			c.ExtraExtensions = basic
		}),
		"critical, unknown": with(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}),
	} {
		if _, err := ca.Import(now, dir, chain, nil, nil); !errors.Is(err, ca.ErrChain) && !errors.Is(err, ca.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ca.Open(dir, nil); !errors.Is(err, ca.ErrNoCA) {
			t.Fatalf("%s left a CA: %v", name, err)
		}
	}
	if _, err := ca.Import(now, filepath.Join(dir, "nowhere"), with(nil), nil, nil); !errors.Is(err, ca.ErrNoCA) {
		t.Errorf("no directory: %v", err)
	}
	a, err := ca.Import(now, dir, []*x509.Certificate{good, c.between, c.root}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
}

func TestHandOver(t *testing.T) {
	a := newCA(t)
	c := issue(t, a, now, "phone-1")
	broken := errors.New("disk is full")
	if err := a.HandOver(now, "database", func(ca.Record) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	issue(t, a, now, "phone-2") // still ours
	calls := 0
	take := func(r ca.Record) error {
		if calls++; r.Number != 1 || len(r.Issued) != 2 || r.Issued[0].Serial != ca.SerialString(c.SerialNumber) {
			t.Errorf("record %+v", r)
		}
		return nil
	}
	for range 2 {
		if err := a.HandOver(now, "database", take); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 1 {
		t.Errorf("handed over %d times", calls)
	}
	// Also for who opens it anew.
	b, err := ca.Open(a.Dir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, each := range []*ca.CA{a, b} {
		_, err := each.Issue(now, ca.Request{Profile: ca.Device, Name: "phone-3", PublicKey: catest.NewKey(t).Public()})
		for what, err := range map[string]error{
			"issue": err, "revoke": each.Revoke(now, c.SerialNumber, ca.Unspecified), "publish": each.PublishCRL(now),
			"hand over": each.HandOver(now, "another", take),
		} {
			if !errors.Is(err, ca.ErrHandedOver) || !strings.Contains(err.Error(), "by database") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if all, err := each.Issued(); err != nil || len(all) != 2 {
			t.Errorf("%d issued, %v", len(all), err)
		}
	}
	// Signing goes on: the record is elsewhere.
	if _, err := b.Issuer().Sign(now, ca.Request{Profile: ca.Device, Name: "phone-3", PublicKey: catest.NewKey(t).Public()}); err != nil {
		t.Error(err)
	}
	appendJournal(t, a.Dir(), `{"event":"crl","number":9}`+"\n")
	if _, err := b.Issued(); !errors.Is(err, ca.ErrJournal) {
		t.Errorf("an entry after the hand-over: %v", err)
	}
}
