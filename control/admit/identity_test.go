package admit_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/admit"
)

func TestIdentityBelongsToTheCertificate(t *testing.T) {
	w := newWorld(t)
	other := device(t, w.issuing, "phone-2")
	subject := w.device.certificate.RawSubject
	// The same subject as a peer that prefers UTF8String would write it.
	utf8 := replaceAll(subject, []byte{asn1.TagPrintableString, 7}, []byte{asn1.TagUTF8String, 7})
	const admitted = admit.Reason(255)
	for _, test := range []struct {
		name   string
		idType uint8
		id     []byte
		want   admit.Reason
	}{
		{"FQDN", 2, []byte("phone-1"), admitted},
		{"FQDN in upper case", 2, []byte("PHONE-1"), admitted},
		{"FQDN of another device", 2, []byte("phone-2"), admit.ReasonIdentityMismatch},
		{"FQDN with a NUL behind it", 2, []byte("phone-1\x00"), admit.ReasonIdentityMismatch},
		{"FQDN with a dot behind it", 2, []byte("phone-1."), admit.ReasonIdentityMismatch},
		{"empty FQDN", 2, nil, admit.ReasonIdentityMismatch},
		{"mailbox", 3, []byte("Ann@EXAMPLE.org"), admitted},
		{"mailbox, other local part", 3, []byte("ann@example.org"), admit.ReasonIdentityMismatch},
		{"mailbox as FQDN", 2, []byte("Ann@example.org"), admit.ReasonIdentityMismatch},
		{"empty mailbox", 3, nil, admit.ReasonIdentityMismatch},
		{"IPv4", 1, []byte{192, 0, 2, 7}, admitted},
		{"another IPv4", 1, []byte{192, 0, 2, 8}, admit.ReasonIdentityMismatch},
		{"IPv4 of three bytes", 1, []byte{192, 0, 2}, admit.ReasonIdentityMismatch},
		{"IPv6", 5, net.ParseIP("2001:db8::7"), admitted},
		{"IPv6 with the type of IPv4", 1, net.ParseIP("2001:db8::7"), admit.ReasonIdentityMismatch},
		{"IPv4 mapped into IPv6", 5, net.IPv4(192, 0, 2, 7).To16(), admit.ReasonIdentityMismatch},
		{"DN", 9, subject, admitted},
		{"DN in another string type", 9, utf8, admitted},
		{"DN of another device", 9, other.certificate.RawSubject, admit.ReasonIdentityMismatch},
		{"DN cut short", 9, subject[:len(subject)-1], admit.ReasonIdentityMismatch},
		{"DN with more behind it", 9, append(append([]byte(nil), subject...), 0), admit.ReasonIdentityMismatch},
		{"DN of nothing", 9, []byte{0x30, 0}, admit.ReasonIdentityMismatch},
		{"empty DN", 9, nil, admit.ReasonIdentityMismatch},
		{"key id", 11, []byte("phone-1"), admit.ReasonIdentityType},
		{"general name", 10, []byte{0x82, 7, 'p', 'h', 'o', 'n', 'e', '-', '1'}, admit.ReasonIdentityType},
		{"null", 13, nil, admit.ReasonIdentityType},
		{"reserved", 0, []byte("phone-1"), admit.ReasonIdentityType},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := *w
			w.evidence.IDType, w.evidence.ID = test.idType, test.id
			admission, err := w.decide(t)
			if test.want != admitted {
				wantReason(t, err, test.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if admission.Device != "phone-1" {
				t.Errorf("device %q", admission.Device)
			}
		})
	}
	if string(utf8) == string(subject) {
		t.Fatal("the subject has no PrintableString of 7 bytes")
	}
}

func replaceAll(b, old, new []byte) []byte {
	return []byte(strings.ReplaceAll(string(b), string(old), string(new)))
}

func TestDeviceName(t *testing.T) {
	for name, want := range map[string]string{
		"a":                     "a",
		"Phone-1":               "phone-1",
		"0815_b.example.org":    "0815_b.example.org",
		"ann@example.org":       "ann@example.org",
		strings.Repeat("x", 64): strings.Repeat("x", 64),
	} {
		if got, err := admit.DeviceName(name); err != nil || got != want {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "-rf", "@a", "_a", "a b", "a/b", "a\\b", "a\x00", "a\n", "ä", "a:b", "a%s", "K\u212a", strings.Repeat("x", 65),
	} {
		if got, err := admit.DeviceName(name); !errors.Is(err, admit.ErrDeviceName) {
			t.Errorf("%q was taken as %q, %v", name, got, err)
		}
	}
}

func TestCommonNamesThatNameNobody(t *testing.T) {
	w := newWorld(t)
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	for name, subject := range map[string]pkix.Name{
		"two of them": {ExtraNames: []pkix.AttributeTypeAndValue{{Type: cn, Value: "phone-1"}, {Type: cn, Value: "phone-2"}}},
		"none":        {Organization: []string{"Roamgate"}},
		"a path":      {CommonName: "../../etc/passwd"},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.present(device(t, w.issuing, "phone-1", func(c *x509.Certificate) { c.Subject = subject }), w.issuing)
			_, err := w.decide(t)
			wantReason(t, err, admit.ReasonDeviceName)
		})
	}
}
