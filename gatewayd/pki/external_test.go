package pki_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/command"
)

// TestBelowACompanysCA: the issuing CA of one host is signed by the CA of
// another, and a gateway that trusts the company's root admits its devices.
func TestBelowACompanysCA(t *testing.T) {
	h := newHost(t)
	var made struct {
		RequestFile string `json:"request_file"`
	}
	csr := filepath.Join(filepath.Dir(h.etc), "issuing.csr")
	h.json(t, &made, "ca", "request", "--plain-keys", "--out", csr)
	if made.RequestFile != csr {
		t.Errorf("request in %s", made.RequestFile)
	}
	if _, err := h.run("device", "phone-1", "--out", h.out); err == nil || !strings.Contains(err.Error(), "no CA here") {
		t.Errorf("a device before there is a certificate: %v", err)
	}
	company, files := newCompanyFor(t, read(t, csr), filepath.Dir(h.etc))
	if _, err := h.run("ca", "import", files[0]); err == nil || !strings.Contains(err.Error(), "from the issuing CA to the root") {
		t.Errorf("without the root: %v", err)
	}
	h.must(t, append([]string{"ca", "import"}, files...)...)
	h.must(t, "device", "phone-1", "--out", h.out)
	device := certificates(t, h.out, "phone-1.pem")
	d, err := h.policy(t).Decide(time.Now(), evidence(device))
	if err != nil || d.Device != "phone-1" {
		t.Errorf("the gateway says %+v, %v", d, err)
	}
	if root := certificates(t, h.dir, ca.RootFile); !root[0].Equal(company) {
		t.Errorf("root is %s", root[0].Subject)
	}
	for _, args := range [][]string{{"ca", "import"}, {"ca", "request", "--plain-keys", "--ca-passphrase-file", "x"}, {"ca", "request", "--instance-oid", "x"}, {"ca", "import", csr}} {
		if _, err := h.run(args...); !errors.As(err, new(*command.UsageError)) {
			t.Errorf("pki %v: %v", args, err)
		}
	}
}

func newCompanyFor(t *testing.T, csr []byte, dir string) (*x509.Certificate, []string) {
	t.Helper()
	block, _ := pem.Decode(csr)
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	template.Subject.CommonName = "Example Root"
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(2), r.Subject
	template.MaxPathLenZero = true
	if der, err = x509.CreateCertificate(rand.Reader, template, root, r.PublicKey, key); err != nil {
		t.Fatal(err)
	}
	issuing, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for name, c := range map[string]*x509.Certificate{"issuing.pem": issuing, "root.pem": root} {
		if err := ca.WriteFile(filepath.Join(dir, name), ca.EncodeCertificates(c), 0o644, false); err != nil {
			t.Fatal(err)
		}
	}
	files = []string{filepath.Join(dir, "issuing.pem"), filepath.Join(dir, "root.pem")}
	return root, files
}

// TestRecordIsElsewhere: commands that would write to the record say who keeps
// it.
func TestRecordIsElsewhere(t *testing.T) {
	h := newHost(t)
	h.must(t, "init", "--plain-keys")
	a, err := ca.Open(h.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.HandOver(time.Now(), "the enrollment server", func(ca.Record) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"device", "phone-1", "--out", h.out}, {"gateway", "vpn.example.org", "--out", h.out}, {"revoke", "--serial", "ab"}, {"crl"}} {
		if _, err := h.run(args...); err == nil || !strings.Contains(err.Error(), "kept elsewhere: by the enrollment server") || !strings.Contains(err.Error(), "gatewayd certificate") {
			t.Errorf("pki %v: %v", args, err)
		}
	}
	var issued []json.RawMessage
	h.json(t, &issued, "list")
}

// TestOnlyDevicesAreAdmitted: of all that our CA issues, gateways let in
// devices alone.
func TestOnlyDevicesAreAdmitted(t *testing.T) {
	h := newHost(t)
	h.must(t, "init", "--plain-keys")
	a, err := ca.Open(h.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	policy := h.policy(t)
	for _, p := range ca.Profiles {
		key, err := ca.GenerateKey(map[bool]ca.KeyAlgorithm{true: ca.RSA2048}[p == ca.RA])
		if err != nil {
			t.Fatal(err)
		}
		r := ca.Request{Profile: p, PublicKey: key.Public(), Name: "someone"}
		if p == ca.Gateway || p == ca.Server || p == ca.Peer || p == ca.Agent {
			r.DNSNames = []string{"someone"}
		}
		c, err := a.Issue(time.Now(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Decide(time.Now(), evidence([]*x509.Certificate{c})); (err == nil) != (p == ca.Device) {
			t.Errorf("%s: %v", p, err)
		}
	}
}
