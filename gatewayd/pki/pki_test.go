package pki_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

// host is a machine with empty directories.
type host struct {
	dir, etc, out string
}

func newHost(t *testing.T) host {
	t.Helper()
	base := t.TempDir()
	return host{filepath.Join(base, "lib", "pki"), filepath.Join(base, "etc"), filepath.Join(base, "out")}
}

// run a command line as main would, and return what it printed.
func (h host) run(args ...string) (string, error) {
	c := pki.Command(pki.Defaults{Dir: h.dir, ConfigDir: h.etc})
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err := c.Execute()
	return out.String(), err
}

func (h host) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.run(args...)
	if err != nil {
		t.Fatalf("pki %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (h host) json(t *testing.T, v any, args ...string) {
	t.Helper()
	out := h.must(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("pki %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (h host) policy(t *testing.T) *admit.Policy {
	t.Helper()
	oid, err := x509.ParseOID(h.show(t).InstanceOID)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := admit.ParseRevocationLists(read(t, h.dir, ca.CRLFile))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := admit.New(admit.Config{
		Roots:           certificates(t, h.dir, ca.RootFile),
		Intermediates:   certificates(t, h.dir, ca.IssuingFile),
		InstanceOIDs:    []x509.OID{oid},
		RevocationLists: lists,
	})
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

type shown struct {
	InstanceOID string `json:"instance_oid"`
	CRLNumber   string `json:"crl_number"`
	Revoked     int    `json:"revoked"`
}

func (h host) show(t *testing.T) (s shown) {
	t.Helper()
	h.json(t, &s, "show")
	return s
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func certificates(t *testing.T, path ...string) []*x509.Certificate {
	t.Helper()
	cs, err := admit.ParseCertificates(read(t, path...))
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func evidence(cs []*x509.Certificate) admit.Evidence {
	e := admit.Evidence{IDType: 9, ID: cs[0].RawSubject}
	for _, c := range cs {
		e.Chain = append(e.Chain, c.Raw)
	}
	return e
}

// TestLifeOfADevice: a CA is made, a device gets its certificate and gets in;
// it is revoked and does not any more. The gateway's own certificate never
// was a device's.
func TestLifeOfADevice(t *testing.T) {
	h := newHost(t)
	h.must(t, "init", "--plain-keys")
	h.must(t, "gateway", "vpn.example.org", "203.0.113.7")
	for _, key := range ca.KeyAlgorithms {
		h.must(t, "device", "Phone-"+string(key), "--key", string(key), "--out", h.out)
		chain := certificates(t, h.out, "phone-"+string(key)+".pem")
		admission, err := h.policy(t).Decide(time.Now(), evidence(chain))
		if err != nil || admission.Device != "phone-"+string(key) {
			t.Errorf("%s: %+v, %v", key, admission, err)
		}
	}
	h.must(t, "device", "ann@example.org", "--out", h.out)
	chain := certificates(t, h.out, "ann@example.org.pem")
	if _, err := h.policy(t).Decide(time.Now(), admit.Evidence{IDType: 3, ID: []byte("ann@example.org"), Chain: evidence(chain).Chain}); err != nil {
		t.Error(err)
	}
	_, err := h.policy(t).Decide(time.Now(), evidence(certificates(t, h.etc, "gateway.pem")))
	if refusal, ok := errors.AsType[*admit.Refusal](err); !ok || refusal.Reason != admit.ReasonWrongInstance {
		t.Errorf("the gateway's certificate: %v", err)
	}

	before := h.show(t)
	h.must(t, "revoke", "ann@example.org", "--reason", "key-compromise")
	h.must(t, "revoke", "ann@example.org") // again does no harm
	after := h.show(t)
	if after.Revoked != 1 || before.CRLNumber != "1" || after.CRLNumber != "2" {
		t.Errorf("before %+v, after %+v", before, after)
	}
	_, err = h.policy(t).Decide(time.Now(), evidence(chain))
	if refusal, ok := errors.AsType[*admit.Refusal](err); !ok || refusal.Reason != admit.ReasonRevoked {
		t.Errorf("after its revocation: %v", err)
	}

	list := h.must(t, "list")
	if !strings.Contains(list, "key-compromise") || strings.Count(list, "\n") != 1+1+len(ca.KeyAlgorithms)+1 {
		t.Errorf("list:\n%s", list)
	}
	var issued []ca.Issued
	h.json(t, &issued, "list")
	h.must(t, "revoke", "--serial", issued[1].Serial)
	if s := h.show(t); s.Revoked != 2 {
		t.Errorf("after a revocation by serial number: %+v", s)
	}
	if yaml := h.must(t, "show", "-o", "yaml"); !strings.Contains(yaml, "revoked: 2") {
		t.Errorf("yaml:\n%s", yaml)
	}
}

func TestFileModes(t *testing.T) {
	h := newHost(t)
	h.must(t, "init", "--plain-keys")
	h.must(t, "gateway", "vpn.example.org")
	h.must(t, "device", "phone-1", "--out", h.out)
	t.Setenv("P12_PASSWORD", "correct horse")
	h.must(t, "device", "phone-2", "--out", h.out, "--format", "p12", "--password-env", "P12_PASSWORD")
	for path, want := range map[string]fs.FileMode{
		filepath.Join(h.dir, "root.key"):     0o600,
		filepath.Join(h.dir, "issuing.key"):  0o600,
		filepath.Join(h.dir, ca.JournalFile): 0o600,
		filepath.Join(h.dir, ca.RootFile):    0o644,
		filepath.Join(h.dir, ca.CRLFile):     0o644,
		filepath.Join(h.etc, "gateway.key"):  0o600,
		filepath.Join(h.etc, "gateway.pem"):  0o644,
		filepath.Join(h.out, "phone-1.key"):  0o600,
		filepath.Join(h.out, "phone-2.p12"):  0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
		} else if info.Mode() != want {
			t.Errorf("%s has mode %s, want %s", path, info.Mode(), want)
		}
	}
	for _, dir := range []string{h.dir, h.etc, h.out} {
		left, err := filepath.Glob(filepath.Join(dir, ".*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	}
}

func TestNothingIsOverwrittenWithoutForce(t *testing.T) {
	h := newHost(t)
	h.must(t, "init", "--plain-keys")
	h.must(t, "gateway", "vpn.example.org")
	h.must(t, "device", "phone-1", "--out", h.out)
	journal := read(t, h.dir, ca.JournalFile)
	for _, args := range [][]string{
		{"init", "--plain-keys"},
		{"gateway", "vpn.example.org"},
		{"device", "phone-1", "--out", h.out},
		{"device", "PHONE-1", "--out", h.out},
	} {
		if out, err := h.run(args...); !errors.Is(err, ca.ErrExists) {
			t.Errorf("pki %v: %v\n%s", args, err, out)
		}
	}
	if !bytes.Equal(journal, read(t, h.dir, ca.JournalFile)) {
		t.Error("something was issued for files that could not be written")
	}
	key := read(t, h.out, "phone-1.key")
	h.must(t, "device", "phone-1", "--out", h.out, "--force")
	if bytes.Equal(key, read(t, h.out, "phone-1.key")) {
		t.Error("--force kept the old key")
	}
	root := read(t, h.dir, ca.RootFile)
	h.must(t, "init", "--plain-keys", "--force")
	aside, err := filepath.Glob(h.dir + ".replaced-*")
	if err != nil || len(aside) != 1 || !bytes.Equal(root, read(t, aside[0], ca.RootFile)) {
		t.Errorf("the old CA is in %v, %v", aside, err)
	}
}

func TestWrongCommandLines(t *testing.T) {
	h := newHost(t)
	h.must(t, "init", "--plain-keys")
	t.Setenv("EMPTY", "")
	for _, args := range [][]string{
		{"nonsense"},
		{"--nonsense"},
		{"list", "extra"},
		{"list", "-o", "xml"},
		{"gateway"},
		{"gateway", "no good"},
		{"device"},
		{"device", "a", "b"},
		{"device", "../etc/passwd"},
		{"device", "phone-1", "--key", "rsa-512"},
		{"device", "phone-1", "--days", "0"},
		{"device", "phone-1", "--days", "999999"},
		{"device", "phone-1", "--format", "jks"},
		{"device", "phone-1", "--format", "p12", "--password-env", "EMPTY", "--out", h.out},
		{"device", "phone-1", "--format", "p12", "--csr", "x.csr"},
		{"revoke"},
		{"revoke", "phone-1", "--serial", "ab"},
		{"revoke", "--serial", "xyz"},
		{"revoke", "phone-1", "--reason", "mood"},
		{"init", "--plain-keys", "--ca-passphrase-env", "HOME"},
		{"init", "--plain-keys", "--instance-oid", "dog"},
	} {
		out, err := h.run(args...)
		var code interface{ ExitCode() int }
		if !errors.As(err, &code) || code.ExitCode() != 2 {
			t.Errorf("pki %v: %v, want exit code 2\n%s", args, err, out)
		}
	}
	for _, args := range [][]string{
		{"revoke", "nobody"},
		{"revoke", "--serial", "abcd"},
		{"show", "--dir", filepath.Join(h.out, "nowhere")},
		{"device", "phone-1", "--csr", filepath.Join(h.out, "nowhere.csr")},
	} {
		out, err := h.run(args...)
		var code interface{ ExitCode() int }
		if err == nil || errors.As(err, &code) {
			t.Errorf("pki %v: %v, want a plain error\n%s", args, err, out)
		}
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	c := pki.Command(pki.Defaults{})
	for _, sub := range append(c.Commands(), c) {
		if sub.Name() != "help" && sub.Name() != "completion" && !strings.Contains(sub.Example, "gatewayd pki") {
			t.Errorf("%s has no example", sub.Name())
		}
	}
}

func TestPassphrase(t *testing.T) {
	h := newHost(t)
	file := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(file, []byte("correct horse\r\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RIGHT", "correct horse")
	t.Setenv("WRONG", "battery staple")
	h.must(t, "init", "--ca-passphrase-file", file)
	if _, err := os.Stat(filepath.Join(h.dir, "issuing.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a plain key beside the encrypted one: %v", err)
	}
	h.must(t, "device", "phone-1", "--out", h.out, "--ca-passphrase-env", "RIGHT")
	if _, err := h.run("device", "phone-2", "--out", h.out, "--ca-passphrase-env", "WRONG"); !errors.Is(err, ca.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	h.must(t, "list") // needs none
	openssl := tool(t, "openssl")
	for _, name := range []string{"root.p12", "issuing.p12"} {
		info := openssl("pkcs12", "-info", "-noout", "-in", filepath.Join(h.dir, name), "-passin", "env:RIGHT")
		if !strings.Contains(info, "AES-256-CBC, Iteration 600000") {
			t.Errorf("%s:\n%s", name, info)
		}
	}
}

// TestRequestOfADevice: with a PKCS#10 request the key stays where it is, and
// only the key is believed.
func TestRequestOfADevice(t *testing.T) {
	h := newHost(t)
	h.must(t, "init", "--plain-keys")
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "boss"}, DNSNames: []string{"boss"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := filepath.Join(t.TempDir(), "till.csr")
	write := func(der []byte) {
		if err := os.WriteFile(csr, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(der)
	h.must(t, "device", "till-2", "--csr", csr, "--out", h.out)
	c := certificates(t, h.out, "till-2.pem")[0]
	if !key.PublicKey.Equal(c.PublicKey) || c.Subject.CommonName != "till-2" || len(c.DNSNames) != 1 || c.DNSNames[0] != "till-2" {
		t.Errorf("issued %s %v", c.Subject, c.DNSNames)
	}
	if _, err := os.Stat(filepath.Join(h.out, "till-2.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a private key appeared: %v", err)
	}
	der[len(der)-1] ^= 1
	write(der)
	if out, err := h.run("device", "till-3", "--csr", csr, "--out", h.out); err == nil {
		t.Errorf("a request with a wrong signature was taken\n%s", out)
	}
}

func TestSetup(t *testing.T) {
	h := newHost(t)
	o := pki.SetupOptions{
		Dir: h.dir, ConfigDir: h.etc,
		DNSNames: []string{"VPN.example.org"}, Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.7")},
	}
	bad := o
	bad.DNSNames = []string{"no good"}
	if _, err := pki.Setup(time.Now(), bad); !errors.Is(err, ca.ErrRequest) {
		t.Fatalf("a bad name: %v", err)
	}
	if _, err := os.Stat(h.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a refused setup left a CA: %v", err)
	}
	r, err := pki.Setup(time.Now(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{r.Root, r.Issuing, r.CRL, r.Certificate, r.Key} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	c := certificates(t, r.Certificate)[0]
	// Windows wants an address as a name too.
	for _, name := range []string{"vpn.example.org", "203.0.113.7"} {
		if err := c.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if len(c.DNSNames) != 2 || c.DNSNames[1] != "203.0.113.7" {
		t.Errorf("names %v", c.DNSNames)
	}
	if _, err := pki.Setup(time.Now(), o); !errors.Is(err, ca.ErrExists) {
		t.Errorf("again: %v", err)
	}
	h.policy(t)
}

// tool returns a runner for a program that we did not write. A developer's
// laptop may lack it; where ROAMGATE_INTEGRATION is 1 it may not.
func tool(t *testing.T, name string) func(args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("ROAMGATE_INTEGRATION") == "1" {
		t.Fatalf("%s is not installed", name)
	}
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}

func TestOpenSSLAgrees(t *testing.T) {
	openssl := tool(t, "openssl")
	h := newHost(t)
	t.Setenv("P12_PASSWORD", "battery staple")
	h.must(t, "init", "--plain-keys")
	h.must(t, "gateway", "vpn.example.org", "2001:db8::1", "--out", h.out)
	root, issuing := filepath.Join(h.dir, ca.RootFile), filepath.Join(h.dir, ca.IssuingFile)
	crl := filepath.Join(h.dir, ca.CRLFile)
	for _, key := range ca.KeyAlgorithms {
		name := "phone-" + string(key)
		h.must(t, "device", name, "--key", string(key), "--out", h.out)
		leaf := filepath.Join(h.out, name+".pem")
		openssl("verify", "-x509_strict", "-purpose", "sslclient", "-crl_check", "-CRLfile", crl,
			"-policy", h.show(t).InstanceOID, "-explicit_policy", "-CAfile", root, "-untrusted", issuing, leaf)
		openssl("pkey", "-check", "-noout", "-in", filepath.Join(h.out, name+".key"))
	}
	openssl("verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "vpn.example.org",
		"-CAfile", root, "-untrusted", issuing, filepath.Join(h.out, "gateway.pem"))
	openssl("verify", "-x509_strict", "-verify_ip", "2001:db8::1",
		"-CAfile", root, "-untrusted", issuing, filepath.Join(h.out, "gateway.pem"))
	if text := openssl("x509", "-noout", "-text", "-in", filepath.Join(h.out, "gateway.pem")); !strings.Contains(text, "ipsec Internet Key Exchange") ||
		!strings.Contains(text, "TLS Web Server Authentication") || !strings.Contains(text, "DNS:2001:db8::1") {
		t.Errorf("the gateway's certificate:\n%s", text)
	}

	h.must(t, "revoke", "phone-ecdsa-p256", "--reason", "superseded")
	if text := openssl("crl", "-noout", "-text", "-CAfile", issuing, "-in", crl); !strings.Contains(text, "verify OK") || !strings.Contains(text, "Superseded") {
		t.Errorf("the revocation list:\n%s", text)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "verify", "-crl_check", "-CRLfile", crl, "-CAfile", root,
		"-untrusted", issuing, filepath.Join(h.out, "phone-ecdsa-p256.pem")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "certificate revoked") {
		t.Errorf("a revoked certificate: %v\n%s", err, out)
	}

	h.must(t, "device", "tablet", "--format", "p12", "--password-env", "P12_PASSWORD", "--out", h.out)
	info := openssl("pkcs12", "-info", "-nodes", "-in", filepath.Join(h.out, "tablet.p12"), "-passin", "env:P12_PASSWORD")
	if strings.Count(info, "BEGIN CERTIFICATE") != 3 || strings.Count(info, "BEGIN PRIVATE KEY") != 1 || !strings.Contains(info, "AES-256-CBC") {
		t.Errorf("the PKCS#12 file:\n%s", info)
	}
	h.must(t, "device", "old-tablet", "--key", "rsa-2048", "--format", "p12-legacy", "--password-env", "P12_PASSWORD", "--out", h.out)
	info = openssl("pkcs12", "-info", "-nodes", "-legacy", "-in", filepath.Join(h.out, "old-tablet.p12"), "-passin", "env:P12_PASSWORD")
	if strings.Count(info, "BEGIN CERTIFICATE") != 3 || !strings.Contains(info, "TripleDES") {
		t.Errorf("the old PKCS#12 file:\n%s", info)
	}
}

func TestStrongSwanAgrees(t *testing.T) {
	swan := tool(t, "pki")
	if !strings.Contains(swan("--help"), "strongSwan") {
		t.Skip("the program pki is not strongSwan's")
	}
	h := newHost(t)
	h.must(t, "init", "--plain-keys")
	h.must(t, "device", "phone-1", "--out", h.out)
	verify := []string{"--verify", "--in", filepath.Join(h.out, "phone-1.pem"), "--cacert", filepath.Join(h.dir, ca.RootFile),
		"--cacert", filepath.Join(h.dir, ca.IssuingFile), "--crl", filepath.Join(h.dir, ca.CRLFile)}
	if out := swan(verify...); !strings.Contains(out, "certificate trusted") {
		t.Errorf("strongSwan says:\n%s", out)
	}
	if out := swan("--print", "--type", "crl", "--in", filepath.Join(h.dir, ca.CRLFile)); !strings.Contains(out, "serial:") {
		t.Errorf("strongSwan reads the list as:\n%s", out)
	}
}
