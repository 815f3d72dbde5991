package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/enrollment/ca"
)

// lab is a folder with a PKI and the sample configuration on it.
type lab struct {
	dir string
	ca  *ca.CA
}

func newLab(t *testing.T, names ...string) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir()}
	a, err := ca.Create(time.Now(), ca.Options{Dir: filepath.Join(l.dir, "ca")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	l.ca = a
	l.credential(t, "gateway", names...)
	return l
}

// credential issues NAME.crt and NAME.key.
func (l *lab) credential(t *testing.T, name string, dnsNames ...string) {
	t.Helper()
	key, err := ca.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.ca.Issue(time.Now(), ca.Request{Profile: ca.Gateway, DNSNames: dnsNames, PublicKey: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	text, err := ca.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "pki/"+name+".crt", ca.EncodeCertificates(c, l.ca.Issuing(), l.ca.Root()), 0o644)
	l.write(t, "pki/"+name+".key", text, 0o600)
	l.write(t, "pki/root.crt", ca.EncodeCertificates(l.ca.Root()), 0o644)
}

func (l *lab) write(t *testing.T, name string, data []byte, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}

// build the sample, edited by pairs of old and new.
func (l *lab) build(t *testing.T, edits ...string) (*Built, error) {
	t.Helper()
	c, err := Parse(filepath.Join(l.dir, "gatewayd.yaml"), []byte(strings.NewReplacer(edits...).Replace(sample())))
	if err != nil {
		t.Fatal(err)
	}
	return c.Build(time.Now())
}

// The sample on a real PKI becomes what the packages behind it want.
func TestBuild(t *testing.T) {
	l := newLab(t, "vpn.example.com")
	b, err := l.build(t, "key_log: \"\"", "key_log: keys", "crls: []", "crls: [ca/crl.pem]", "intermediates: []", "intermediates: [ca/issuing.pem]")
	if err != nil {
		t.Fatal(err)
	}
	if len(b.IKE.Suites) != 60 || len(b.IKE.ESP) != 9 || !b.IKE.ForceUDP || !b.IKE.ExportKeys {
		t.Errorf("%d suites, %d ESP algorithms, %+v", len(b.IKE.Suites), len(b.IKE.ESP), b.IKE.ForceUDP)
	}
	if len(b.IKE.Credentials) != 1 || len(b.IKE.Credentials[0].Chain) != 2 {
		t.Errorf("want one chain of two without the root: %+v", b.IKE.Credentials)
	}
	if len(b.IKE.TrustAnchors) != 2 {
		t.Errorf("%d trust anchors, want root and issuing CA", len(b.IKE.TrustAnchors))
	}
	if err := b.Gate.Validate(); err != nil {
		t.Error(err)
	}
	if err := b.Leases.Validate(); err != nil {
		t.Error(err)
	}
	if b.Inform.Server.IsValid() || b.Assign.Services != nil || len(b.Leases.Exclude) != 0 {
		t.Errorf("DHCP by default: %+v", b.Inform)
	}
	if b.Idle != 5*time.Minute || b.Parked != 24*time.Hour || len(b.Warnings) != 0 {
		t.Errorf("idle %v, parked %v, warnings %v", b.Idle, b.Parked, b.Warnings)
	}
}

// No device gets the address of a DNS or WINS server in the pools.
func TestBuildExcludesServers(t *testing.T) {
	l := newLab(t, "vpn.example.com")
	b, err := l.build(t, "exclude: []", "exclude: [10.9.0.1]", "dns: []", "dns: [10.2.0.53, 10.9.0.53]", "wins: []", "wins: [10.9.0.54]")
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.53"), netip.MustParseAddr("10.9.0.54")}
	if !slices.Equal(b.Leases.Exclude, want) {
		t.Errorf("excluded %v, want %v", b.Leases.Exclude, want)
	}
}

// Each key reaches what it is for.
func TestBuildIKE(t *testing.T) {
	l := newLab(t, "vpn.example.com")
	b, err := l.build(t,
		"      rekey: 8h\n      jitter: 1h\n      hard: 25h", "      rekey: 2h\n      jitter: 3m\n      hard: 4h",
		"      rekey: 4h\n      jitter: 30m\n      hard: 25h", "      rekey: 5h\n      jitter: 6m\n      hard: 7h",
		"max_children: 8", "max_children: 3", "fragment_size: 1228", "fragment_size: 600",
		"mobike: true", "mobike: false", "childless: false", "childless: true", "esn: true", "esn: false",
		"to: \"\"", "to: vpn2.example.com", "idle: 24h", "idle: 48h",
		"dns: []", "dns: [10.2.0.53]", "domains: []\n    # Networks behind", "domains: [corp.example.com]\n    # Networks behind",
		"sha1_signatures: false", "sha1_signatures: true", "modp_1024: false", "modp_1024: true",
		"address: \"\"", "address: 10.9.255.254",
		"    file: \"\"", "    file: sessions.jsonl", "interim: 0s", "interim: 5m")
	if err != nil {
		t.Fatal(err)
	}
	c := b.IKE
	if want := (ike.Lifetime{Rekey: 2 * time.Hour, Jitter: 3 * time.Minute, Hard: 4 * time.Hour}); c.IKELife != want {
		t.Errorf("IKE SA: %+v", c.IKELife)
	}
	if want := (ike.Lifetime{Rekey: 5 * time.Hour, Jitter: 6 * time.Minute, Hard: 7 * time.Hour}); c.ChildLife != want {
		t.Errorf("Child SA: %+v", c.ChildLife)
	}
	if c.MaxChildren != 3 || c.FragmentSize != 600 || c.MOBIKE || !c.Childless || c.ESN || c.RedirectTo != "vpn2.example.com" {
		t.Errorf("%+v", *c)
	}
	legacy := ikecrypto.Legacy{SHA1Signatures: true, MODP1024: true}
	if c.Legacy != legacy || c.Suites[0].Allow != legacy {
		t.Errorf("legacy: %+v, %+v", c.Legacy, c.Suites[0].Allow)
	}
	if b.Parked != 48*time.Hour || b.Interim != 5*time.Minute || b.Records != filepath.Join(l.dir, "sessions.jsonl") {
		t.Errorf("parked %v, records %s each %v", b.Parked, b.Records, b.Interim)
	}
	if len(b.Assign.DNS) != 1 || len(b.Assign.Domains) != 1 {
		t.Errorf("%+v", b.Assign)
	}
	inside := netip.MustParseAddr("10.9.255.254")
	if len(b.Assign.Services) != 2 || b.Assign.Services[0] != inside || !slices.Contains(b.Leases.Exclude, inside) {
		t.Errorf("services %v, excluded %v", b.Assign.Services, b.Leases.Exclude)
	}
	if b.Inform.Server != inside || b.Inform.Domain != "corp.example.com" || len(b.Inform.DNS) != 1 || b.Inform.Validate() != nil {
		t.Errorf("%+v", b.Inform)
	}
	all := strings.Join(b.Warnings, "\n")
	for _, want := range []string{"gateway.legacy.sha1_signatures: on", "gateway.legacy.modp_1024: on"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among %q", want, all)
		}
	}
	if strings.Contains(all, "hmac_sha1") || strings.Contains(all, "triple_des") {
		t.Errorf("warns about what is off: %q", all)
	}
}

// What the files hold is refused by the key that names them.
func TestBuildErrors(t *testing.T) {
	l := newLab(t, "vpn.example.com")
	l.credential(t, "other", "vpn.example.com")
	l.write(t, "pki/open.key", readAll(t, filepath.Join(l.dir, "pki/gateway.key")), 0o644)
	l.write(t, "pki/locked.key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), 0o600)
	l.write(t, "pki/text", []byte("not PEM"), 0o600)
	strange, _ := ocspResponse(t, time.Now().Add(time.Hour))
	l.write(t, "pki/strange.ocsp", strange, 0o644)
	tests := []struct {
		name, old, new, key, want string
	}{
		{"no such file", "pki/gateway.crt", "pki/missing.crt", "gateway.identity.credentials[0].certificate", "which does not exist, expected a file"},
		{"key that all may read", "pki/gateway.key", "pki/open.key", "gateway.identity.credentials[0].key", "with mode 0644, expected 0600"},
		{"key of another certificate", "pki/gateway.key", "pki/other.key", "gateway.identity.credentials[0].key", "a key that is not of the certificate"},
		{"encrypted key", "pki/gateway.key", "pki/locked.key", "gateway.identity.credentials[0].key", "encrypted with a password"},
		{"no key", "pki/gateway.key", "pki/text", "gateway.identity.credentials[0].key", "without a private key"},
		{"identity not in the certificate", "id: vpn.example.com", "id: vpn.example.net", "gateway.identity.credentials[0].certificate", "got a certificate for vpn.example.com, expected gateway.identity.id (vpn.example.net)"},
		{"certificate for a list", "crls: []", "crls: [pki/root.crt]", "gateway.trust.crls[0]", `is "CERTIFICATE", want "X509 CRL"`},
		{"root that is none", "- pki/root.crt", "- pki/text", "gateway.trust.roots[0]", `no "CERTIFICATE" block`},
		{"leaf for a root", "- pki/root.crt", "- pki/gateway.crt", "gateway.trust", "is not a CA"},
		{"text for an OCSP response", "ocsp_responses: []", "ocsp_responses: [pki/text]", "gateway.trust.ocsp_responses[0]", "invalid OCSP response"},
		{"PEM for an OCSP response", "ocsp_responses: []", "ocsp_responses: [pki/root.crt]", "gateway.trust.ocsp_responses[0]", "it is PEM, want DER"},
		{"OCSP response that is gone", "ocsp_responses: []", "ocsp_responses: [pki/gone]", "gateway.trust.ocsp_responses[0]", "which does not exist"},
		{"OCSP response of a stranger", "ocsp_responses: []", "ocsp_responses: [pki/strange.ocsp]", "gateway.trust", "OCSP response 1"},
		{"list of a stranger", "crls: []", "crls: [ca/crl.pem]", "gateway.trust", "revocation list 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := l.build(t, tt.old, tt.new)
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want Problems", err)
			}
			for _, p := range problems {
				if p.Key == tt.key && strings.Contains(p.Message, tt.want) && p.Line > 0 {
					return
				}
			}
			t.Errorf("got\n%v\nwant %s: ... %s", err, tt.key, tt.want)
		})
	}
}

// What works and won't forever is a warning, not an error.
func TestBuildWarnings(t *testing.T) {
	l := newLab(t, "vpn.example.com")
	c, err := Parse(filepath.Join(l.dir, "gatewayd.yaml"), Sample)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Build(time.Now().Add(50 * 365 * 24 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(b.Warnings, "\n")
	for _, want := range []string{"gateway.identity.credentials[0].certificate: expired on", "gateway.trust.crls: none"} {
		if !strings.Contains(all, want) {
			t.Errorf("got %q, want %q among them", all, want)
		}
	}
}

// Responses replace lists, and one past its next update is worth a warning.
func TestBuildOCSP(t *testing.T) {
	l := newLab(t, "vpn.example.com")
	der, root := ocspResponse(t, time.Now().Add(-time.Minute))
	l.write(t, "pki/phone.ocsp", der, 0o644)
	l.write(t, "pki/other.crt", ca.EncodeCertificates(root), 0o644)
	b, err := l.build(t, "- pki/root.crt", "- pki/root.crt\n      - pki/other.crt", "ocsp_responses: []", "ocsp_responses: [pki/phone.ocsp]")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(b.Warnings, "\n")
	for _, want := range []string{
		"gateway.trust.crls: none: devices without a response in gateway.trust.ocsp_responses are refused",
		"gateway.trust.stale_crl: a revocation list or an OCSP response was due for renewal",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("got %q, want %q among them", all, want)
		}
	}
	if _, ok := b.Admit.RevocationExpires(); !ok {
		t.Error("the policy has no response")
	}
}

// ocspResponse of a CA of its own, which it returns too.
func ocspResponse(t *testing.T, next time.Time) ([]byte, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	der, err = ocsp.CreateResponse(root, root, ocsp.Response{
		Status: ocsp.Good, SerialNumber: big.NewInt(7), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: next,
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der, root
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestIdentification(t *testing.T) {
	for id, want := range map[string]ikewire.IDType{
		"vpn.example.com": ikewire.IDFQDN, "192.0.2.1": ikewire.IDIPv4Addr,
		"2001:db8::1": ikewire.IDIPv6Addr, "gw@example.com": ikewire.IDRFC822Addr,
	} {
		if got := identification(id); got.IDType != want {
			t.Errorf("%s: got %v, want %v", id, got.IDType, want)
		}
	}
}

// The two names for a stale list mean what package admit means.
func TestStaleCRLDefault(t *testing.T) {
	if Default().Gateway.Trust.StaleCRL != StaleCRLRefuse || admit.StaleRefuse != 0 {
		t.Error("the default has to be to refuse")
	}
}
