package admit_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

// admitted stands for no reason to refuse.
const admitted = admit.Reason(255)

func TestRevocation(t *testing.T) {
	w := newWorld(t)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	leaf, issuing := w.device.certificate.SerialNumber, w.issuing.certificate.SerialNumber
	for _, test := range []struct {
		name  string
		stale admit.StaleList
		lists []*x509.RevocationList
		want  admit.Reason
	}{
		{"none", admit.StaleRefuse, nil, admitted},
		{"empty", admit.StaleRefuse, []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour)}, admitted},
		{"another serial", admit.StaleRefuse, []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour, issuing)}, admitted},
		{"same serial, other issuer", admit.StaleRefuse, []*x509.RevocationList{
			revocationList(t, w.root, 1, time.Hour, leaf), revocationList(t, w.issuing, 1, time.Hour)}, admitted},
		{"leaf", admit.StaleRefuse, []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour, leaf)}, admit.ReasonRevoked},
		{"intermediate", admit.StaleRefuse, []*x509.RevocationList{
			revocationList(t, w.root, 1, time.Hour, issuing), revocationList(t, w.issuing, 1, time.Hour)}, admit.ReasonRevoked},
		{"newer list first", admit.StaleRefuse, []*x509.RevocationList{
			revocationList(t, w.issuing, 12, time.Hour, leaf), revocationList(t, w.issuing, 3, time.Hour)}, admit.ReasonRevoked},
		{"newer list last", admit.StaleRefuse, []*x509.RevocationList{
			revocationList(t, w.issuing, 3, time.Hour), revocationList(t, w.issuing, 12, time.Hour, leaf)}, admit.ReasonRevoked},
		{"stale, refused", admit.StaleRefuse, []*x509.RevocationList{revocationList(t, w.issuing, 1, -time.Second)}, admit.ReasonStaleList},
		{"stale, admitted", admit.StaleAdmit, []*x509.RevocationList{revocationList(t, w.issuing, 1, -time.Second)}, admitted},
		{"stale, but listed", admit.StaleAdmit, []*x509.RevocationList{revocationList(t, w.issuing, 1, -time.Second, leaf)}, admit.ReasonRevoked},
		{"stale and listed", admit.StaleRefuse, []*x509.RevocationList{revocationList(t, w.issuing, 1, -time.Second, leaf)}, admit.ReasonRevoked},
		{"stale of the root", admit.StaleRefuse, []*x509.RevocationList{
			revocationList(t, w.root, 1, -time.Second), revocationList(t, w.issuing, 1, time.Hour)}, admit.ReasonStaleList},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := *w
			before, err := w.decide(t)
			if err != nil {
				t.Fatal(err)
			}
			w.config.RevocationLists, w.config.StaleList = test.lists, test.stale
			_, err = w.decide(t)
			_, renewed := w.renew(t, now, before.Standing)
			if test.want == admitted {
				if err != nil || renewed != nil {
					t.Fatalf("%v; renewed: %v", err, renewed)
				}
				return
			}
			wantReason(t, err, test.want)
			wantReason(t, renewed, test.want)
		})
	}
}

// TestRevokedUnderAnotherCertificateOfTheIssuer: a device may present a second
// certificate of its issuer, made for the same key; the list still counts.
func TestRevokedUnderAnotherCertificateOfTheIssuer(t *testing.T) {
	w := newWorld(t)
	renewed := template("issuing")
	renewed.IsCA, renewed.BasicConstraintsValid = true, true
	again := sign(t, w.root, renewed, w.issuing.key)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	w.config.RevocationLists = []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour, w.device.certificate.SerialNumber)}
	w.present(w.device, again)
	_, err := w.decide(t)
	wantReason(t, err, admit.ReasonRevoked)
}

func TestRevocationListsThatAreNotTaken(t *testing.T) {
	w := newWorld(t)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	impostor := newCA(t, nil, "issuing")
	noCRLSign := newCA(t, w.root, "no lists", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	w.config.Intermediates = append(w.config.Intermediates, noCRLSign.certificate)
	// The same key with the right to sign lists, for making one.
	forger := *noCRLSign
	changed := *noCRLSign.certificate
	changed.KeyUsage |= x509.KeyUsageCRLSign
	forger.certificate = &changed

	delta := func(critical bool) *x509.RevocationList {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(2), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: critical, Value: []byte{2, 1, 1}}},
		}, w.issuing.certificate, w.issuing.key)
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for _, test := range []struct {
		name string
		list *x509.RevocationList
		want string
	}{
		{"signed by another key of that name", revocationList(t, impostor, 9, time.Hour), "issuing"},
		{"of an unknown issuer", revocationList(t, newCA(t, nil, "stranger"), 1, time.Hour), "no configured root or intermediate"},
		{"of a CA that may not sign lists", revocationList(t, &forger, 1, time.Hour), "no lists"},
		{"delta", delta(true), "2.5.29.27"},
		{"not parsed", &x509.RevocationList{}, "not parsed"},
		{"none", nil, "not parsed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.config
			c.RevocationLists = []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Hour), test.list}
			_, err := admit.New(c)
			if !errors.Is(err, admit.ErrConfig) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "revocation list 2") {
				t.Errorf("got %v, want an ErrConfig about list 2 with %q", err, test.want)
			}
		})
	}
}

func TestRevocationExpires(t *testing.T) {
	w := newWorld(t)
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	policy, err := admit.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := policy.RevocationExpires(); ok {
		t.Errorf("no list, but it expires at %s", at)
	}
	w.config.RevocationLists = []*x509.RevocationList{
		revocationList(t, w.issuing, 1, time.Hour), revocationList(t, w.root, 1, time.Minute)}
	if policy, err = admit.New(w.config); err != nil {
		t.Fatal(err)
	}
	if at, ok := policy.RevocationExpires(); !ok || !at.Equal(now.Add(time.Minute)) {
		t.Errorf("expires at %s, %t", at, ok)
	}
}
