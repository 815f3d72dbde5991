package admit_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

// causes spoils an otherwise sound world in one way for each reason.
var causes = map[admit.Reason]func(t *testing.T, w *world){
	admit.ReasonNoCertificate: func(t *testing.T, w *world) { w.evidence.Chain = nil },
	admit.ReasonTooMany: func(t *testing.T, w *world) {
		w.present(w.device, w.issuing, w.issuing, w.issuing, w.issuing)
	},
	admit.ReasonTooLarge: func(t *testing.T, w *world) {
		w.evidence.Chain[1] = make([]byte, admit.MaxCertificateBytes+1)
	},
	admit.ReasonMalformed: func(t *testing.T, w *world) {
		w.evidence.Chain[0] = w.evidence.Chain[0][:100]
	},
	admit.ReasonWeakKey: func(t *testing.T, w *world) {
		key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.present(deviceWithKey(t, w.issuing, "phone-1", key), w.issuing)
	},
	admit.ReasonSignatureAlgorithm: func(t *testing.T, w *world) {
		w.evidence.Chain[0] = withSHA1(t, w.evidence.Chain[0])
	},
	admit.ReasonCriticalExtension: func(t *testing.T, w *world) {
		w.present(device(t, w.issuing, "phone-1", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
		}), w.issuing)
	},
	admit.ReasonUntrustedChain: func(t *testing.T, w *world) {
		w.present(device(t, newCA(t, nil, "issuing"), "phone-1"), w.issuing)
	},
	admit.ReasonNotYetValid: func(t *testing.T, w *world) {
		w.present(device(t, w.issuing, "phone-1", func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), w.issuing)
	},
	admit.ReasonExpired: func(t *testing.T, w *world) {
		w.present(device(t, w.issuing, "phone-1", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), w.issuing)
	},
	admit.ReasonWrongUsage: func(t *testing.T, w *world) {
		w.present(device(t, w.issuing, "phone-1", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), w.issuing)
	},
	admit.ReasonWrongInstance: func(t *testing.T, w *world) {
		w.present(device(t, w.issuing, "phone-1", func(c *x509.Certificate) { c.Policies = []x509.OID{theirs} }), w.issuing)
	},
	admit.ReasonRevocationUnknown: func(t *testing.T, w *world) {
		w.config.RevocationLists = []*x509.RevocationList{revocationList(t, w.root, 1, time.Hour)}
	},
	admit.ReasonRevoked: func(t *testing.T, w *world) {
		w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
		w.config.RevocationLists = []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour, w.device.certificate.SerialNumber)}
	},
	admit.ReasonStaleList: func(t *testing.T, w *world) {
		w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
		w.config.RevocationLists = []*x509.RevocationList{revocationList(t, w.issuing, 1, -time.Minute)}
	},
	admit.ReasonDeviceName: func(t *testing.T, w *world) {
		w.present(device(t, w.issuing, "phone 1"), w.issuing)
	},
	admit.ReasonIdentityType: func(t *testing.T, w *world) {
		w.evidence.IDType, w.evidence.ID = 11, []byte("phone-1")
	},
	admit.ReasonIdentityMismatch: func(t *testing.T, w *world) {
		w.evidence.IDType, w.evidence.ID = 2, []byte("phone-2")
	},
	admit.ReasonBarred: func(t *testing.T, w *world) { w.config.Barred = []string{"tablet", "PHONE-1"} },
	admit.ReasonUnknownDevice: func(t *testing.T, w *world) {
		w.config.Groups = []admit.Group{{Name: "staff", Devices: []string{"tablet"}, Units: []string{"Sales"}}}
		w.config.RefuseUnknown = true
	},
}

func TestEveryReasonHasACause(t *testing.T) {
	names := make(map[string]bool)
	for reason := range admit.Reason(admit.NumReasons) {
		if reason == admit.ReasonEpoch {
			continue // of Renew alone, see standing_test.go
		}
		t.Run(reason.String(), func(t *testing.T) {
			cause, ok := causes[reason]
			if !ok {
				t.Fatalf("nothing causes reason %d (%s)", reason, reason)
			}
			w := newWorld(t)
			if _, err := w.decide(t); err != nil {
				t.Fatalf("before it was spoilt: %v", err)
			}
			cause(t, w)
			admission, err := w.decide(t)
			wantReason(t, err, reason)
			if !reflect.DeepEqual(admission, admit.Admission{}) {
				t.Errorf("a refusal came with %+v", admission)
			}
		})
		if name := reason.String(); name == "" || name == "unknown" || names[name] {
			t.Errorf("reason %d has the name %q", reason, name)
		}
		names[reason.String()] = true
	}
}

func wantReason(t *testing.T, err error, reason admit.Reason) {
	t.Helper()
	refusal, ok := errors.AsType[*admit.Refusal](err)
	if !ok {
		t.Fatalf("got %v, want a refusal for %s", err, reason)
	}
	if refusal.Reason != reason {
		t.Fatalf("refused for %s (%s), want %s", refusal.Reason, refusal.Detail, reason)
	}
	if refusal.Detail == "" {
		t.Errorf("%s has no detail", reason)
	}
}

// withSHA1 gives a certificate the signature algorithm ecdsa-with-SHA1 in place
// of ecdsa-with-SHA256, which is a byte longer. The signature does not verify
// any more, but the algorithm is refused before that is tried.
func withSHA1(t *testing.T, der []byte) []byte {
	t.Helper()
	type certificate struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	sha1 := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}}
	var c certificate
	mustUnmarshal(t, der, &c)
	var fields []asn1.RawValue
	mustUnmarshal(t, c.TBS.FullBytes, &fields)
	fields[2] = asn1.RawValue{FullBytes: mustMarshal(t, sha1)}
	c.TBS = asn1.RawValue{FullBytes: mustMarshal(t, fields)}
	c.Algorithm = sha1
	return mustMarshal(t, c)
}

func mustUnmarshal(t *testing.T, der []byte, v any) {
	t.Helper()
	if rest, err := asn1.Unmarshal(der, v); err != nil || len(rest) > 0 {
		t.Fatalf("%v, %d bytes left", err, len(rest))
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestWeakRSA(t *testing.T) {
	for _, bits := range []int{1024, 2040} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t)
		w.present(deviceWithKey(t, w.issuing, "phone-1", key), w.issuing)
		_, err = w.decide(t)
		wantReason(t, err, admit.ReasonWeakKey)
	}
}

// TestRefusalDetailIsPrintable: what a peer writes into its certificate must
// not write log lines.
func TestRefusalDetailIsPrintable(t *testing.T) {
	w := newWorld(t)
	for reason, change := range map[admit.Reason]func(*x509.Certificate){
		admit.ReasonDeviceName: func(c *x509.Certificate) { c.Subject.CommonName = "x\x1b[2J\r\nlevel=info msg=admitted" },
		admit.ReasonIdentityMismatch: func(c *x509.Certificate) {
			c.Subject.Organization = []string{strings.Repeat("\u00dc\u202e", 300)}
		},
	} {
		w.present(device(t, w.issuing, "phone-1", change), w.issuing)
		w.evidence.IDType, w.evidence.ID = 2, make([]byte, 60000)
		_, err := w.decide(t)
		wantReason(t, err, reason)
		for _, b := range []byte(err.Error()) {
			if b < ' ' || b > '~' {
				t.Fatalf("detail carries byte %#x: %q", b, err)
			}
		}
		if refusal, _ := errors.AsType[*admit.Refusal](err); len(refusal.Detail) > 256 {
			t.Errorf("detail of %d bytes", len(refusal.Detail))
		}
	}
}
