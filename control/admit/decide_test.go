package admit_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

func TestSoundDeviceIsAdmitted(t *testing.T) {
	w := newWorld(t)
	shorter := now.Add(30 * time.Minute)
	issuing := newCA(t, w.root, "issuing", func(c *x509.Certificate) { c.NotAfter = shorter })
	w.present(device(t, issuing, "Phone-1.Example.org"), issuing)
	admission, err := w.decide(t)
	if err != nil {
		t.Fatal(err)
	}
	if admission.Device != "phone-1.example.org" || admission.Group != "staff" {
		t.Errorf("admitted as %+v", admission)
	}
	if !admission.Certificate.Equal(w.device.certificate) {
		t.Error("not the certificate of the device")
	}
	if !admission.Until.Equal(shorter) {
		t.Errorf("until %s, but its issuer ends at %s", admission.Until, shorter)
	}
}

func TestIntermediateFromEitherSide(t *testing.T) {
	w := newWorld(t)
	w.present(w.device)
	_, err := w.decide(t)
	wantReason(t, err, admit.ReasonUntrustedChain)

	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	if _, err := w.decide(t); err != nil {
		t.Errorf("with a configured intermediate: %v", err)
	}
	w.config.Intermediates = nil
	w.present(w.device, newCA(t, nil, "stray"), w.root, w.issuing)
	if _, err := w.decide(t); err != nil {
		t.Errorf("root and a stray CA sent along, out of order: %v", err)
	}
}

func TestAcceptedKeys(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	for _, d := range []*authority{
		deviceWithKey(t, w.issuing, "ed25519", ed),
		deviceWithKey(t, w.issuing, "p521", p521),
		deviceWithKey(t, w.issuing, "rsa2048", rsa2048),
	} {
		w.present(d, w.issuing)
		if _, err := w.decide(t); err != nil {
			t.Errorf("%s: %v", d.certificate.Subject, err)
		}
	}
}

// TestForgedChains: every way we know to get in without the root's consent.
func TestForgedChains(t *testing.T) {
	w := newWorld(t)
	evilRoot := newCA(t, nil, "root")
	evilIssuing := newCA(t, evilRoot, "issuing")
	other := device(t, w.issuing, "phone-2")
	notCA := sign(t, w.root, func() *x509.Certificate {
		c := template("issuing")
		c.KeyUsage = x509.KeyUsageCertSign
		return c
	}(), newKey(t))
	noSign := newCA(t, w.root, "issuing", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	short := newCA(t, w.root, "short", func(c *x509.Certificate) { c.MaxPathLenZero = true })
	below := newCA(t, short, "below")
	named := newCA(t, w.root, "branch", func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains = []string{"branch.example"}
	})
	spoilt := *other.certificate
	spoilt.Raw = append([]byte(nil), spoilt.Raw...)
	spoilt.Raw[len(spoilt.Raw)-1] ^= 1

	for name, chain := range map[string][]*authority{
		"root of the same name":             {device(t, evilRoot, "phone-1"), evilRoot},
		"whole chain of the same names":     {device(t, evilIssuing, "phone-1"), evilIssuing, evilRoot},
		"signed by another device":          {device(t, other, "phone-1"), other, w.issuing},
		"signed by itself":                  {device(t, nil, "phone-1"), w.issuing},
		"issuer without basic constraints":  {device(t, notCA, "phone-1"), notCA},
		"issuer that may not sign":          {device(t, noSign, "phone-1"), noSign},
		"below the path length":             {device(t, below, "phone-1"), below, short},
		"outside the name constraints":      {device(t, named, "phone-1"), named},
		"one bit of the signature":          {{&spoilt, nil}, w.issuing},
		"certificates in the wrong order":   {w.issuing, w.device},
		"the root itself as the device":     {w.root},
		"an intermediate CA as the device":  {w.issuing, w.root},
		"an extra CA above the depth limit": deep(t, w.root, 5),
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			if name == "an extra CA above the depth limit" {
				for _, ca := range chain[1:] {
					w.config.Intermediates = append(w.config.Intermediates, ca.certificate)
				}
				chain = chain[:1]
			}
			w.present(chain[0], chain[1:]...)
			_, err := w.decide(t)
			if chain[0].certificate.IsCA {
				wantReason(t, err, admit.ReasonWrongUsage)
				return
			}
			wantReason(t, err, admit.ReasonUntrustedChain)
		})
	}
}

// deep puts n CAs between a device and the root; the device comes first.
func deep(t *testing.T, root *authority, n int) []*authority {
	chain := []*authority{}
	issuer := root
	for range n {
		issuer = newCA(t, issuer, "deep")
		chain = append(chain, issuer)
	}
	return append([]*authority{device(t, issuer, "phone-1")}, chain...)
}

func TestIssuerOutOfItsTime(t *testing.T) {
	past := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Minute) }
	future := func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }
	w := newWorld(t)
	for reason, issuing := range map[admit.Reason]*authority{
		admit.ReasonExpired:     newCA(t, w.root, "issuing", past),
		admit.ReasonNotYetValid: newCA(t, w.root, "issuing", future),
	} {
		w.present(device(t, issuing, "phone-1"), issuing)
		_, err := w.decide(t)
		wantReason(t, err, reason)
	}

	root := newCA(t, nil, "old root", past)
	w.config.Roots = []*x509.Certificate{root.certificate}
	w.present(device(t, root, "phone-1"))
	_, err := w.decide(t)
	wantReason(t, err, admit.ReasonExpired)

	// An expired CA that nobody trusts does not make it a matter of time.
	stranger := newCA(t, nil, "stranger", past)
	w.present(device(t, stranger, "phone-1"), stranger)
	_, err = w.decide(t)
	wantReason(t, err, admit.ReasonUntrustedChain)
}

func TestUsage(t *testing.T) {
	ipsecIKE := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17}
	w := newWorld(t)
	mailOnly := newCA(t, w.root, "mail", func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	})
	clientOnly := newCA(t, w.root, "clients", func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	usages := func(known []x509.ExtKeyUsage, unknown ...asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage, c.UnknownExtKeyUsage = known, unknown }
	}
	for _, test := range []struct {
		name   string
		issuer *authority
		change func(*x509.Certificate)
		admit  bool
	}{
		{"ipsecIKE only", w.issuing, usages(nil, ipsecIKE), true},
		{"ipsecTunnel of old", w.issuing, usages([]x509.ExtKeyUsage{x509.ExtKeyUsageIPSECTunnel}), true},
		{"any", w.issuing, usages([]x509.ExtKeyUsage{x509.ExtKeyUsageAny}), true},
		{"no extension", w.issuing, usages(nil), true},
		{"contentCommitment", w.issuing, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }, true},
		{"clientAuth below a CA for clients", clientOnly, usages([]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}), true},
		{"a CA with all that a device has", w.issuing, func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid = true, true
			c.KeyUsage |= x509.KeyUsageCertSign
		}, false},
		{"an unknown one only", w.issuing, usages(nil, asn1.ObjectIdentifier{1, 2, 3}), false},
		{"key encipherment only", w.issuing, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, false},
		{"clientAuth below a CA for mail", mailOnly, usages([]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}), false},
		{"ipsecIKE below a CA for clients", clientOnly, usages(nil, ipsecIKE), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := *w
			w.present(device(t, test.issuer, "phone-1", test.change), test.issuer)
			_, err := w.decide(t)
			if test.admit {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantReason(t, err, admit.ReasonWrongUsage)
		})
	}
}

func TestInstanceOID(t *testing.T) {
	theirsASN1 := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 7}
	w := newWorld(t)
	policies := func(oids ...x509.OID) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Policies = oids }
	}
	asUsage := func(c *x509.Certificate) {
		c.Policies, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{theirsASN1}
	}
	branch := newCA(t, w.root, "branch", policies(ours))
	foreign := newCA(t, w.root, "foreign", policies(theirs))
	any := newCA(t, w.root, "any", policies(parseOID("2.5.29.32.0")))
	clientOnly := newCA(t, w.root, "clients", func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	for _, test := range []struct {
		name     string
		approved []x509.OID
		issuer   *authority
		change   func(*x509.Certificate)
		admit    bool
	}{
		{"policy of the leaf", []x509.OID{ours}, w.issuing, policies(ours), true},
		{"one of two", []x509.OID{theirs, ours}, w.issuing, policies(parseOID("1.2.3.4"), ours), true},
		{"extended key usage of the leaf", []x509.OID{theirs}, w.issuing, asUsage, true},
		{"granted to the CA", []x509.OID{ours}, branch, policies(ours), true},
		{"any policy granted to the CA", []x509.OID{ours}, any, policies(ours), true},
		{"nothing asked for", nil, w.issuing, policies(), true},
		{"none in the leaf", []x509.OID{ours}, w.issuing, policies(), false},
		{"the other instance's", []x509.OID{ours}, w.issuing, policies(theirs), false},
		{"any policy in the leaf", []x509.OID{ours}, w.issuing, policies(parseOID("2.5.29.32.0")), false},
		{"in the CA only", []x509.OID{ours}, branch, policies(), false},
		{"a CA of another instance", []x509.OID{ours}, foreign, policies(ours), false},
		{"usage not granted to the CA", []x509.OID{theirs}, clientOnly, asUsage, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := *w
			w.config.InstanceOIDs = test.approved
			w.present(device(t, test.issuer, "phone-1", test.change), test.issuer)
			_, err := w.decide(t)
			if test.admit {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantReason(t, err, admit.ReasonWrongInstance)
		})
	}
}

// TestNameConstraintsReachTheDeviceName: a branch CA may name its own devices
// only. crypto/x509 checks that of alternative names; the name that counts for
// us is the common name.
func TestNameConstraintsReachTheDeviceName(t *testing.T) {
	w := newWorld(t)
	branch := newCA(t, w.root, "branch", func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains = []string{"branch.example"}
	})
	without := func(c *x509.Certificate) { c.DNSNames = nil }
	w.present(device(t, branch, "boss.head.example", without), branch)
	_, err := w.decide(t)
	wantReason(t, err, admit.ReasonDeviceName)

	w.present(device(t, branch, "till-1.branch.example"), branch)
	if _, err := w.decide(t); err != nil {
		t.Error(err)
	}
}

func TestCrossCertifiedIssuer(t *testing.T) {
	// The same issuing key below an old root that revoked it, and below a new
	// one that did not.
	w := newWorld(t)
	newRoot := newCA(t, nil, "new root")
	crossed := template("issuing")
	crossed.IsCA, crossed.BasicConstraintsValid, crossed.KeyUsage = true, true, x509.KeyUsageCertSign
	cross := sign(t, newRoot, crossed, w.issuing.key)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	w.config.RevocationLists = []*x509.RevocationList{
		revocationList(t, w.issuing, 1, time.Hour),
		revocationList(t, w.root, 1, time.Hour, w.issuing.certificate.SerialNumber),
	}
	w.present(w.device, cross)
	_, err := w.decide(t)
	wantReason(t, err, admit.ReasonRevoked)

	w.config.Roots = append(w.config.Roots, newRoot.certificate)
	if _, err := w.decide(t); err != nil {
		t.Errorf("the other path is sound: %v", err)
	}
}

func TestAuthorities(t *testing.T) {
	w := newWorld(t)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	policy, err := admit.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	got := policy.Authorities()
	if len(got) != 2 ||
		got[0] != sha1.Sum(w.root.certificate.RawSubjectPublicKeyInfo) ||
		got[1] != sha1.Sum(w.issuing.certificate.RawSubjectPublicKeyInfo) {
		t.Errorf("authorities %x", got)
	}
}

// TestEvidenceIsNotKept: the chain lies in a packet buffer that is used again.
func TestEvidenceIsNotKept(t *testing.T) {
	w := newWorld(t)
	admission, err := w.decide(t)
	if err != nil {
		t.Fatal(err)
	}
	want := w.device.certificate.SerialNumber
	for _, der := range w.evidence.Chain {
		clear(der)
	}
	again, err := x509.ParseCertificate(admission.Certificate.Raw)
	if err != nil || again.SerialNumber.Cmp(want) != 0 {
		t.Errorf("the admitted certificate changed with the buffer: %v", err)
	}
}
