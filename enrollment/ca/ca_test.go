package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
)

var now = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

func newCA(t *testing.T) *ca.CA { t.Helper(); return catest.New(t, now) }

func issue(t *testing.T, a *ca.CA, at time.Time, name string) *x509.Certificate {
	t.Helper()
	c, err := a.Issue(at, ca.Request{Profile: ca.Device, PublicKey: catest.NewKey(t).Public(), Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func crl(t *testing.T, a *ca.CA) *x509.RevocationList {
	t.Helper()
	list, err := a.CRL()
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(a.Issuing()); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestNewCA(t *testing.T) {
	a := newCA(t)
	root, issuing := a.Root(), a.Issuing()
	if err := root.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
	if !root.IsCA || root.MaxPathLen != 1 || !issuing.IsCA || !issuing.MaxPathLenZero {
		t.Errorf("path lengths %d and %d", root.MaxPathLen, issuing.MaxPathLen)
	}
	if len(issuing.Policies) != 1 || !issuing.Policies[0].Equal(a.InstanceOID()) {
		t.Errorf("policies %v, instance OID %s", issuing.Policies, a.InstanceOID())
	}
	if !strings.HasPrefix(a.InstanceOID().String(), "2.25.") {
		t.Errorf("instance OID %s", a.InstanceOID())
	}
	other := newCA(t)
	if a.InstanceOID().Equal(other.InstanceOID()) || bytes.Equal(root.RawSubject, other.Root().RawSubject) {
		t.Error("two installations share a name or an OID")
	}
	if list := crl(t, a); list.Number.Int64() != 1 || len(list.RevokedCertificateEntries) != 0 || !list.NextUpdate.Equal(now.Add(ca.CRLLifetime)) {
		t.Errorf("first list: number %s, %d entries, until %s", list.Number, len(list.RevokedCertificateEntries), list.NextUpdate)
	}
}

func TestProfiles(t *testing.T) {
	a := newCA(t)
	device := issue(t, a, now, "Phone-1")
	gateway, err := a.Issue(now, ca.Request{
		Profile: ca.Gateway, PublicKey: catest.NewKey(t).Public(),
		DNSNames: []string{"VPN.example.org"}, Addresses: []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*x509.Certificate{device, gateway} {
		if err := c.CheckSignatureFrom(a.Issuing()); err != nil {
			t.Error(err)
		}
		if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.SubjectKeyId) != 20 || !bytes.Equal(c.AuthorityKeyId, a.Issuing().SubjectKeyId) {
			t.Errorf("%s: CA %t, usage %b, key id %x below %x", c.Subject, c.IsCA, c.KeyUsage, c.SubjectKeyId, c.AuthorityKeyId)
		}
		if len(c.UnknownExtKeyUsage) != 1 || c.UnknownExtKeyUsage[0].String() != "1.3.6.1.5.5.7.3.17" {
			t.Errorf("%s: extended key usages %v", c.Subject, c.UnknownExtKeyUsage)
		}
		if n := c.SerialNumber.BitLen(); n != 127 {
			t.Errorf("%s: serial of %d bits", c.Subject, n)
		}
		if !c.NotBefore.Equal(now.Add(-time.Hour)) {
			t.Errorf("%s: begins %s", c.Subject, c.NotBefore)
		}
	}
	if device.Subject.CommonName != "phone-1" || device.DNSNames[0] != "phone-1" || device.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth ||
		!device.Policies[0].Equal(a.InstanceOID()) || !device.NotAfter.Equal(now.Add(ca.DeviceLifetime)) {
		t.Errorf("device %+v", device.Subject)
	}
	if gateway.Subject.CommonName != "vpn.example.org" || gateway.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || len(gateway.Policies) != 0 ||
		strings.Join(gateway.DNSNames, " ") != "vpn.example.org 192.0.2.1 2001:db8::1" || len(gateway.IPAddresses) != 2 || len(gateway.IPAddresses[0]) != 4 {
		t.Errorf("gateway %s %v %v", gateway.Subject, gateway.DNSNames, gateway.IPAddresses)
	}
}

func TestNoCertificateOutlivesItsIssuer(t *testing.T) {
	a := newCA(t)
	end := a.Issuing().NotAfter
	if c := issue(t, a, end.Add(-time.Hour), "phone-1"); !c.NotAfter.Equal(end) {
		t.Errorf("ends %s, its issuer %s", c.NotAfter, end)
	}
	_, err := a.Issue(end.Add(time.Second), ca.Request{Profile: ca.Device, PublicKey: catest.NewKey(t).Public(), Name: "phone-1"})
	if !errors.Is(err, ca.ErrRequest) {
		t.Errorf("after the end of the issuer: %v", err)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	a := newCA(t)
	key := catest.NewKey(t).Public()
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(a.Dir(), ca.JournalFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]ca.Request{
		"no key":           {Profile: ca.Device, Name: "a"},
		"gateway, Ed25519": {Profile: ca.Gateway, DNSNames: []string{"a"}, PublicKey: ed},
		"RSA-1024":         {Profile: ca.Device, Name: "a", PublicKey: short.Public()},
		"P-224":            {Profile: ca.Device, Name: "a", PublicKey: p224.Public()},
		"no profile":       {Name: "a", PublicKey: key},
		"negative life":    {Profile: ca.Device, Name: "a", PublicKey: key, Lifetime: -time.Hour},
		"gateway, nothing": {Profile: ca.Gateway, PublicKey: key},
		"gateway, zone":    {Profile: ca.Gateway, PublicKey: key, Addresses: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}},
		"gateway, zero":    {Profile: ca.Gateway, PublicKey: key, Addresses: []netip.Addr{{}}},
		"gateway, star":    {Profile: ca.Gateway, PublicKey: key, DNSNames: []string{"*.example.org"}},
	} {
		if c, err := a.Issue(now, r); c != nil || !errors.Is(err, ca.ErrRequest) && !errors.Is(err, ca.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "a b", "../a", "a/b", ".a", "a.", "a..b", "-a", "_a", "@a", "a@", "a@b@c", "ä", "a\n", strings.Repeat("x", 65)} {
		if _, err := a.Issue(now, ca.Request{Profile: ca.Device, PublicKey: key, Name: name}); !errors.Is(err, ca.ErrRequest) {
			t.Errorf("device %q: %v", name, err)
		}
	}
	after, err := os.ReadFile(filepath.Join(a.Dir(), ca.JournalFile))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("a refused request left something in the journal, %v", err)
	}
}

func TestRevocation(t *testing.T) {
	a := newCA(t)
	first, second := issue(t, a, now, "phone-1"), issue(t, a, now, "phone-2")
	if err := a.Revoke(now, first.SerialNumber, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	list := crl(t, a)
	if list.Number.Int64() != 2 || len(list.RevokedCertificateEntries) != 1 ||
		list.RevokedCertificateEntries[0].SerialNumber.Cmp(first.SerialNumber) != 0 || list.RevokedCertificateEntries[0].ReasonCode != 1 {
		t.Errorf("list %s: %+v", list.Number, list.RevokedCertificateEntries)
	}
	if err := a.Revoke(now, first.SerialNumber, ca.Superseded); !errors.Is(err, ca.ErrRevoked) {
		t.Errorf("again: %v", err)
	}
	if err := a.Revoke(now, a.Issuing().SerialNumber, ca.Superseded); !errors.Is(err, ca.ErrUnknownSerial) {
		t.Errorf("a serial of another issuer: %v", err)
	}
	if err := a.Revoke(now, second.SerialNumber, 6); !errors.Is(err, ca.ErrRequest) {
		t.Errorf("certificateHold: %v", err)
	}
	if n := crl(t, a).Number.Int64(); n != 2 {
		t.Errorf("list %d although nothing changed", n)
	}
	// The entry stays for a while after the end of the certificate, then goes.
	for _, test := range []struct {
		at   time.Time
		want int
	}{{first.NotAfter.Add(ca.CRLLifetime), 1}, {first.NotAfter.Add(ca.CRLLifetime + time.Second), 0}} {
		if err := a.PublishCRL(test.at); err != nil {
			t.Fatal(err)
		}
		if got := len(crl(t, a).RevokedCertificateEntries); got != test.want {
			t.Errorf("at %s: %d entries, want %d", test.at, got, test.want)
		}
	}
}

// TestListIsRenewedOnTheWay: an installation that issues never sees its list
// go stale, and one that lost the file gets it back.
func TestListIsRenewedOnTheWay(t *testing.T) {
	a := newCA(t)
	issue(t, a, now.Add(ca.CRLLifetime/2-time.Second), "phone-1")
	if n := crl(t, a).Number.Int64(); n != 1 {
		t.Errorf("renewed too early: %d", n)
	}
	late := now.Add(ca.CRLLifetime / 2)
	issue(t, a, late, "phone-2")
	if list := crl(t, a); list.Number.Int64() != 2 || !list.NextUpdate.Equal(late.Add(ca.CRLLifetime)) {
		t.Errorf("number %s, until %s", list.Number, list.NextUpdate)
	}
	path := filepath.Join(a.Dir(), ca.CRLFile)
	for i, spoil := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.WriteFile(path, []byte("garbage"), 0o644) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		issue(t, a, late, "phone-3")
		if n := crl(t, a).Number.Int64(); n != int64(3+i) {
			t.Errorf("number %d after case %d", n, i)
		}
	}
}

// TestManyAtOnce: goroutines, and two openings of one directory as two
// processes would have them.
func TestManyAtOnce(t *testing.T) {
	a := newCA(t)
	b, err := ca.Open(a.Dir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var wg sync.WaitGroup
	for _, each := range []*ca.CA{a, b, a, b} {
		wg.Go(func() {
			for range 5 {
				c, err := each.Issue(now, ca.Request{Profile: ca.Device, PublicKey: catest.NewKey(t).Public(), Name: "phone-1"})
				if err != nil {
					t.Error(err)
					return
				}
				if err := each.Revoke(now, c.SerialNumber, ca.Unspecified); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, each := range []*ca.CA{a, b} {
		all, err := each.Issued()
		if err != nil || len(all) != 20 {
			t.Fatalf("%d issued, %v", len(all), err)
		}
		for _, i := range all {
			if i.RevokedAt.IsZero() {
				t.Errorf("%s is not revoked", i.Serial)
			}
		}
	}
	if list := crl(t, a); list.Number.Int64() != 21 || len(list.RevokedCertificateEntries) != 20 {
		t.Errorf("list %s with %d entries", list.Number, len(list.RevokedCertificateEntries))
	}
}

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := ca.Open(dir, nil); !errors.Is(err, ca.ErrNoCA) {
		t.Errorf("nothing there: %v", err)
	}
	a, err := ca.Create(now, ca.Options{Dir: dir, Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	answer := func(s string) func() ([]byte, error) {
		return func() ([]byte, error) { return []byte(s), nil }
	}
	if _, err := ca.Open(dir, nil); !errors.Is(err, ca.ErrPassphrase) {
		t.Errorf("no passphrase: %v", err)
	}
	if _, err := ca.Open(dir, answer("battery staple")); !errors.Is(err, ca.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if b, err := ca.Open(dir, answer("correct horse")); err != nil {
		t.Errorf("right passphrase: %v", err)
	} else {
		issue(t, b, now, "phone-1")
		b.Close()
	}
	if _, err := ca.OpenSigner(dir, catest.NewKey(t)); !errors.Is(err, ca.ErrKey) {
		t.Errorf("another key: %v", err)
	}
	reader, err := ca.OpenSigner(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if all, err := reader.Issued(); err != nil || len(all) != 1 {
		t.Errorf("read only: %d issued, %v", len(all), err)
	}
	if _, err := reader.Issue(now, ca.Request{}); !errors.Is(err, ca.ErrKey) {
		t.Errorf("issued without a key: %v", err)
	}
	if err := reader.Revoke(now, reader.Root().SerialNumber, 0); !errors.Is(err, ca.ErrKey) {
		t.Errorf("revoked without a key: %v", err)
	}
	if err := reader.PublishCRL(now); !errors.Is(err, ca.ErrKey) {
		t.Errorf("published without a key: %v", err)
	}
}

func TestCreateKeepsWhatIsThere(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "pki")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a, err := ca.Create(now, ca.Options{Dir: dir})
	if err != nil {
		t.Fatalf("an empty directory is in the way: %v", err)
	}
	a.Close()
	if _, err := ca.Create(now, ca.Options{Dir: dir}); !errors.Is(err, ca.ErrExists) {
		t.Errorf("a CA was there: %v", err)
	}
	if _, err := ca.Create(now, ca.Options{Dir: filepath.Join(base, "other"), Key: "dsa"}); !errors.Is(err, ca.ErrKey) {
		t.Errorf("unknown key: %v", err)
	}
	files, err := os.ReadDir(base)
	if err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestSerialsAndReasonsReadBack(t *testing.T) {
	c := issue(t, newCA(t), now, "phone-1")
	text := ca.SerialString(c.SerialNumber)
	for _, s := range []string{text, strings.ToUpper(text), text[:2] + ":" + text[2:]} {
		if got, err := ca.ParseSerial(s); err != nil || got.Cmp(c.SerialNumber) != 0 {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "xyz", "0x1", strings.Repeat("f", 41)} {
		if got, err := ca.ParseSerial(s); !errors.Is(err, ca.ErrRequest) {
			t.Errorf("%q was read as %v, %v", s, got, err)
		}
	}
	for _, reason := range ca.Reasons {
		if got, err := ca.ParseReason(reason.String()); err != nil || got != reason {
			t.Errorf("%s: %v, %v", reason, got, err)
		}
	}
	if _, err := ca.ParseReason("mood"); !errors.Is(err, ca.ErrRequest) {
		t.Error(err)
	}
}

func TestJournalIsReadable(t *testing.T) {
	a := newCA(t)
	c := issue(t, a, now, "phone-1")
	if err := a.Revoke(now, c.SerialNumber, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(a.Dir(), ca.JournalFile))
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	for line := range bytes.Lines(data) {
		var e struct{ Event, Serial, Name string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e.Event)
		if e.Event == "issue" && (e.Serial != ca.SerialString(c.SerialNumber) || e.Name != "phone-1") {
			t.Errorf("entry %s", line)
		}
	}
	if got := strings.Join(events, " "); got != "init crl issue revoke crl" {
		t.Errorf("events %s", got)
	}
}
