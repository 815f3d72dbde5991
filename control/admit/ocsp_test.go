package admit_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/roamgate/roamgate/control/admit"
)

// responder makes the certificate of a delegated responder.
func responder(t testing.TB, issuer *authority, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	c := template("responder")
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	for _, f := range change {
		f(c)
	}
	return sign(t, issuer, c, newKey(t))
}

// ocspResponse of signer about a certificate of issuer: made an hour ago, good
// for another one, unless changed.
func ocspResponse(t testing.TB, issuer, signer *authority, c *x509.Certificate, status int, change ...func(*ocsp.Response)) []byte {
	t.Helper()
	r := ocsp.Response{
		Status:       status,
		SerialNumber: c.SerialNumber,
		ThisUpdate:   now.Add(-time.Hour),
		NextUpdate:   now.Add(time.Hour),
	}
	if status == ocsp.Revoked {
		r.RevokedAt, r.RevocationReason = now.Add(-time.Hour), ocsp.KeyCompromise
	}
	// Without it the signature alone has to show the CA's hand.
	if signer != issuer {
		r.Certificate = signer.certificate
	}
	for _, f := range change {
		f(&r)
	}
	der, err := ocsp.CreateResponse(issuer.certificate, signer.certificate, r, signer.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOCSP(t *testing.T) {
	w := newWorld(t)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	leaf, issuing := w.device.certificate, w.issuing.certificate
	other := device(t, w.issuing, "phone-2").certificate
	delegate := responder(t, w.issuing)
	say := func(status int, change ...func(*ocsp.Response)) []byte {
		return ocspResponse(t, w.issuing, w.issuing, leaf, status, change...)
	}
	between := func(begin, end time.Duration) func(*ocsp.Response) {
		return func(r *ocsp.Response) { r.ThisUpdate, r.NextUpdate = now.Add(begin), now.Add(end) }
	}
	since := func(begin time.Duration) func(*ocsp.Response) {
		return func(r *ocsp.Response) { r.ThisUpdate, r.NextUpdate = now.Add(begin), time.Time{} }
	}
	embedded := func(r *ocsp.Response) { r.Certificate = issuing }
	sha256 := func(r *ocsp.Response) { r.IssuerHash = crypto.SHA256 }
	stale := between(-2*time.Hour, -time.Second)
	root := func(status int, change ...func(*ocsp.Response)) []byte {
		return ocspResponse(t, w.root, w.root, issuing, status, change...)
	}
	brief := responder(t, w.issuing, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })
	unborn := responder(t, w.issuing, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) })
	// The same serial number, issued by the root.
	twin := device(t, w.root, "twin", func(c *x509.Certificate) { c.SerialNumber = leaf.SerialNumber }).certificate

	// A CA of another name that has the same key.
	c := template("alias")
	c.IsCA, c.BasicConstraintsValid = true, true
	alias := sign(t, w.root, c, w.issuing.key)
	w.config.Intermediates = append(w.config.Intermediates, alias.certificate)

	fresh := []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour)}
	listed := []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour, leaf.SerialNumber)}
	old := []*x509.RevocationList{revocationList(t, w.issuing, 1, -time.Second)}
	oldListed := []*x509.RevocationList{revocationList(t, w.issuing, 1, -time.Second, leaf.SerialNumber)}
	oldRoot := []*x509.RevocationList{fresh[0], revocationList(t, w.root, 1, -time.Second)}
	compromised := []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour, delegate.certificate.SerialNumber)}
	compromisedOld := []*x509.RevocationList{revocationList(t, w.issuing, 1, -time.Second, delegate.certificate.SerialNumber)}
	const admitted = admit.Reason(255)
	for _, test := range []struct {
		name      string
		lists     []*x509.RevocationList
		responses [][]byte
		// What to expect of StaleRefuse and of StaleAdmit.
		refuse, admit admit.Reason
	}{
		{"good", nil, [][]byte{say(ocsp.Good)}, admitted, admitted},
		{"good, with the CA's certificate", nil, [][]byte{say(ocsp.Good, embedded)}, admitted, admitted},
		{"good, hashed with SHA-256", nil, [][]byte{say(ocsp.Good, sha256)}, admitted, admitted},
		{"good, of a delegate", nil, [][]byte{ocspResponse(t, w.issuing, delegate, leaf, ocsp.Good)}, admitted, admitted},
		{"revoked", nil, [][]byte{say(ocsp.Revoked)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"revoked, of a delegate", nil, [][]byte{ocspResponse(t, w.issuing, delegate, leaf, ocsp.Revoked)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"unknown", nil, [][]byte{say(ocsp.Unknown)}, admit.ReasonRevocationUnknown, admit.ReasonRevocationUnknown},
		{"about another device", nil, [][]byte{ocspResponse(t, w.issuing, w.issuing, other, ocsp.Good)}, admit.ReasonRevocationUnknown, admit.ReasonRevocationUnknown},
		{"same serial, other issuer, good", nil, [][]byte{ocspResponse(t, w.root, w.root, twin, ocsp.Good)}, admit.ReasonRevocationUnknown, admit.ReasonRevocationUnknown},
		{"same serial, other issuer, revoked", nil, [][]byte{ocspResponse(t, w.root, w.root, twin, ocsp.Revoked), say(ocsp.Good)}, admitted, admitted},
		{"same serial, other name, revoked", nil, [][]byte{ocspResponse(t, alias, alias, leaf, ocsp.Revoked), say(ocsp.Good)}, admitted, admitted},

		{"stale", nil, [][]byte{say(ocsp.Good, stale)}, admit.ReasonStaleList, admitted},
		{"stale, revoked", nil, [][]byte{say(ocsp.Revoked, stale)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"stale, unknown", nil, [][]byte{say(ocsp.Unknown, stale)}, admit.ReasonRevocationUnknown, admit.ReasonRevocationUnknown},
		{"open end, of yesterday", nil, [][]byte{say(ocsp.Good, since(-24*time.Hour))}, admitted, admitted},
		{"open end, older", nil, [][]byte{say(ocsp.Good, since(-24*time.Hour-time.Minute))}, admit.ReasonStaleList, admitted},
		{"of a clock that is ahead", nil, [][]byte{say(ocsp.Good, between(5*time.Minute, time.Hour))}, admitted, admitted},
		{"of the future", nil, [][]byte{say(ocsp.Good, between(6*time.Minute, time.Hour))}, admit.ReasonStaleList, admitted},
		{"delegate has expired", nil, [][]byte{ocspResponse(t, w.issuing, brief, leaf, ocsp.Good)}, admit.ReasonStaleList, admitted},
		{"delegate is of the future", nil, [][]byte{ocspResponse(t, w.issuing, unborn, leaf, ocsp.Good)}, admit.ReasonStaleList, admitted},
		{"newer good first", nil, [][]byte{say(ocsp.Good), say(ocsp.Revoked, stale)}, admitted, admitted},
		{"newer revoked first", nil, [][]byte{say(ocsp.Revoked), say(ocsp.Good, stale)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"revoked and good at once", nil, [][]byte{say(ocsp.Revoked), say(ocsp.Good)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"good and revoked at once", nil, [][]byte{say(ocsp.Good), say(ocsp.Revoked)}, admit.ReasonRevoked, admit.ReasonRevoked},

		{"list and good", fresh, [][]byte{say(ocsp.Good)}, admitted, admitted},
		{"list and revoked", fresh, [][]byte{say(ocsp.Revoked)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"list and unknown", fresh, [][]byte{say(ocsp.Unknown)}, admitted, admitted},
		{"list and stale", fresh, [][]byte{say(ocsp.Good, stale)}, admitted, admitted},
		{"listed, but good", listed, [][]byte{say(ocsp.Good)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"stale list and good", old, [][]byte{say(ocsp.Good)}, admitted, admitted},
		{"stale list and unknown", old, [][]byte{say(ocsp.Unknown)}, admit.ReasonStaleList, admitted},
		{"both stale", old, [][]byte{say(ocsp.Good, stale)}, admit.ReasonStaleList, admitted},
		{"listed in a stale list, but good", oldListed, [][]byte{say(ocsp.Good)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"delegate is revoked, good", compromisedOld, [][]byte{ocspResponse(t, w.issuing, delegate, leaf, ocsp.Good)}, admit.ReasonStaleList, admitted},
		{"delegate is revoked, revoked", compromised, [][]byte{ocspResponse(t, w.issuing, delegate, leaf, ocsp.Revoked)}, admit.ReasonRevoked, admit.ReasonRevoked},

		{"intermediate revoked", fresh, [][]byte{root(ocsp.Revoked)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"intermediate revoked, leaf stale", old, [][]byte{root(ocsp.Revoked)}, admit.ReasonRevoked, admit.ReasonRevoked},
		{"intermediate good, stale list of the root", oldRoot, [][]byte{root(ocsp.Good)}, admitted, admitted},
		{"intermediate stale", fresh, [][]byte{root(ocsp.Good, stale)}, admit.ReasonStaleList, admitted},
		{"intermediate unknown", fresh, [][]byte{root(ocsp.Unknown)}, admit.ReasonRevocationUnknown, admit.ReasonRevocationUnknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := *w
			w.config.RevocationLists, w.config.OCSPResponses = test.lists, test.responses
			for stale, want := range map[admit.StaleList]admit.Reason{admit.StaleRefuse: test.refuse, admit.StaleAdmit: test.admit} {
				w.config.StaleList = stale
				_, err := w.decide(t)
				if want != admitted {
					wantReason(t, err, want)
				} else if err != nil {
					t.Errorf("stale %d: %v", stale, err)
				}
			}
		})
	}
}

func TestOCSPResponsesThatAreNotTaken(t *testing.T) {
	w := newWorld(t)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	leaf := w.device.certificate
	good := ocspResponse(t, w.issuing, w.issuing, leaf, ocsp.Good)
	// by answers for the issuing CA.
	by := func(signer *authority, change ...func(*ocsp.Response)) []byte {
		return ocspResponse(t, w.issuing, signer, leaf, ocsp.Good, change...)
	}
	usage := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	impostor := newCA(t, nil, "issuing")
	stranger := newCA(t, nil, "stranger")
	broken := bytes.Clone(good)
	broken[len(broken)-1] ^= 1
	bare := func(r *ocsp.Response) { r.Certificate = nil }
	for _, test := range []struct {
		name string
		der  []byte
		want string
	}{
		{"by a key of that name", by(impostor), "verification failure"},
		{"by a key of that name, without its certificate", by(impostor, bare), "verification failure"},
		{"by the device itself", by(w.device), "OCSPSigning"},
		{"by the CA above", by(w.root), "another issuer"},
		{"of an unknown issuer", ocspResponse(t, stranger, stranger, leaf, ocsp.Good), "no configured root or intermediate"},
		{"of an issuer of that name", ocspResponse(t, impostor, impostor, leaf, ocsp.Good), "no configured root or intermediate"},
		{"delegate without extended key usage", by(responder(t, w.issuing, usage())), "OCSPSigning"},
		{"delegate for something else", by(responder(t, w.issuing, usage(x509.ExtKeyUsageClientAuth))), "OCSPSigning"},
		{"delegate for anything", by(responder(t, w.issuing, usage(x509.ExtKeyUsageAny))), "OCSPSigning"},
		{"delegate of the root", by(responder(t, w.root)), "another issuer"},
		{"delegate of an impostor", by(responder(t, impostor)), "verification failure"},
		{"delegate without its certificate", by(responder(t, w.issuing), bare), "verification failure"},
		{"delegate that may not sign", by(responder(t, w.issuing, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })), "digitalSignature"},
		{"delegate with a critical extension", by(responder(t, w.issuing, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
		})), "1.3.6.1.4.1.99999.1"},
		{"signed with SHA-1", by(w.issuing, func(r *ocsp.Response) { r.SignatureAlgorithm = x509.ECDSAWithSHA1 }), "SHA1"},
		{"broken", broken, "OCSP response 2"},
		{"try later", ocsp.TryLaterErrorResponse, "try later"},
		{"cut", good[:len(good)-1], "OCSP response 2"},
		{"PEM", pem.EncodeToMemory(&pem.Block{Type: "OCSP RESPONSE", Bytes: good}), "PEM"},
		{"too long", make([]byte, admit.MaxOCSPResponseBytes+1), "at most"},
		{"empty", nil, "OCSP response 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.config
			c.OCSPResponses = [][]byte{good, test.der}
			_, err := admit.New(c)
			if !errors.Is(err, admit.ErrConfig) || !errors.Is(err, admit.ErrOCSP) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an ErrConfig and ErrOCSP with %q", err, test.want)
			}
		})
	}
	w.config.OCSPResponses = make([][]byte, admit.MaxOCSPResponses+1)
	if _, err := admit.New(w.config); !errors.Is(err, admit.ErrConfig) || !strings.Contains(err.Error(), "at most 16384") {
		t.Errorf("too many: %v", err)
	}
}

func TestOCSPExpires(t *testing.T) {
	w := newWorld(t)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	at := func(end time.Duration) func(*ocsp.Response) {
		return func(r *ocsp.Response) { r.NextUpdate = now.Add(end) }
	}
	w.config.RevocationLists = []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour)}
	// What is revoked stays so: that response needs no renewal.
	w.config.OCSPResponses = [][]byte{
		ocspResponse(t, w.issuing, w.issuing, w.device.certificate, ocsp.Good, at(time.Minute)),
		ocspResponse(t, w.root, w.root, w.issuing.certificate, ocsp.Revoked, at(time.Second)),
	}
	policy, err := admit.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	if end, ok := policy.RevocationExpires(); !ok || !end.Equal(now.Add(time.Minute)) {
		t.Errorf("expires at %s, %t", end, ok)
	}
}

// TestOCSPOfOpenSSL reads what another implementation writes.
func TestOCSPOfOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("ROAMGATE_INTEGRATION") == "1" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	// OpenSSL has no other clock than the real one.
	today := time.Now()
	valid := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = today.Add(-time.Hour), today.Add(time.Hour) }
	root := newCA(t, nil, "root", valid)
	delegate := responder(t, root, valid)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	files := func(name string, a *authority) (certificate, key string) {
		der, err := x509.MarshalPKCS8PrivateKey(a.key)
		if err != nil {
			t.Fatal(err)
		}
		return write(name+".crt", "CERTIFICATE", a.certificate.Raw), write(name+".key", "PRIVATE KEY", der)
	}
	ca, caKey := files("ca", root)
	signer, signerKey := files("responder", delegate)
	devices := make(map[string]*authority)
	var index strings.Builder
	for _, status := range []string{"V", "R", "none"} {
		d := device(t, root, "phone-"+strings.ToLower(status), valid)
		devices[status] = d
		revoked := ""
		if status == "R" {
			revoked = today.UTC().Format("060102150405Z") + ",keyCompromise"
		}
		if number := fmt.Sprintf("%X", d.certificate.SerialNumber); status != "none" {
			fmt.Fprintf(&index, "%s\t%s\t%s\t%s\tunknown\t/CN=%s\n", status, today.Add(time.Hour).UTC().Format("060102150405Z"),
				revoked, strings.Repeat("0", len(number)%2)+number, d.certificate.Subject.CommonName)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "index.txt"), []byte(index.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, by := range [][2]string{{ca, caKey}, {signer, signerKey}} {
		for status, want := range map[string]string{"V": "", "R": "revoked", "none": "revocation_unknown"} {
			out := filepath.Join(dir, "response")
			run := exec.CommandContext(t.Context(), openssl, "ocsp", "-index", filepath.Join(dir, "index.txt"), "-CA", ca,
				"-rsigner", by[0], "-rkey", by[1], "-issuer", ca, "-serial", devices[status].certificate.SerialNumber.String(),
				"-no_nonce", "-ndays", "1", "-respout", out, "-noverify")
			if text, err := run.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			der, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			policy, err := admit.New(admit.Config{Roots: []*x509.Certificate{root.certificate}, OCSPResponses: [][]byte{der}})
			if err != nil {
				t.Fatalf("%s by %s: %v", status, by[0], err)
			}
			d := devices[status].certificate
			_, err = policy.Decide(time.Now(), admit.Evidence{IDType: 9, ID: d.RawSubject, Chain: [][]byte{d.Raw}})
			got := ""
			if refusal, ok := errors.AsType[*admit.Refusal](err); ok {
				got = refusal.Reason.String()
			}
			if got != want {
				t.Errorf("%s by %s: got %v, want %q", status, by[0], err, want)
			}
		}
	}
}

// FuzzOCSPResponse takes either a response of the fuzzer's making or a sound one
// with some octets changed: keys are new in each process, so what is sound can't
// be a seed. Nobody may make a good response about the device, which no sound
// one is.
func FuzzOCSPResponse(f *testing.F) {
	w := newWorld(f)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	delegate := responder(f, w.issuing)
	impostor := newCA(f, nil, "issuing")
	leaf, other := w.device.certificate, w.issuing.certificate
	sound := [][]byte{
		ocspResponse(f, w.issuing, w.issuing, other, ocsp.Good),
		ocspResponse(f, w.issuing, delegate, other, ocsp.Good),
		ocspResponse(f, w.issuing, delegate, other, ocsp.Revoked),
		ocspResponse(f, w.issuing, w.issuing, leaf, ocsp.Unknown),
		ocspResponse(f, w.issuing, impostor, leaf, ocsp.Good),
	}
	for i := range sound {
		f.Add(uint8(i), uint16(0), []byte{})
		f.Add(uint8(i), uint16(100), []byte{1, 0, 3})
	}
	f.Add(uint8(255), uint16(0), ocspResponse(f, w.issuing, delegate, other, ocsp.Good))
	f.Add(uint8(255), uint16(0), ocsp.UnauthorizedErrorResponse)
	f.Add(uint8(255), uint16(0), []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, which uint8, at uint16, data []byte) {
		der := data
		if int(which) < len(sound) {
			der = bytes.Clone(sound[which])
			for i, b := range data {
				der[(int(at)+i)%len(der)] ^= b
			}
		}
		fault := admit.CheckOCSPResponse(der)
		c := w.config
		c.OCSPResponses = [][]byte{der}
		policy, err := admit.New(c)
		if err != nil {
			if !errors.Is(err, admit.ErrConfig) || !errors.Is(err, admit.ErrOCSP) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if fault != nil {
			t.Fatalf("New took what the check refuses: %v", fault)
		}
		_, err = policy.Decide(now, w.evidence)
		wantReason(t, err, admit.ReasonRevocationUnknown)
	})
}
