package enroll_test

import (
	"crypto"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
)

func (w *world) enrolled(device string) *x509.Certificate {
	w.t.Helper()
	issued, err := w.Enroll(w.t.Context(), byPassword(w.request(device), catest.NewKey(w.t).Public()))
	if err != nil {
		w.t.Fatal(err)
	}
	return issued.Certificate
}

func (w *world) renew(c *x509.Certificate, key crypto.PublicKey) (enroll.Issued, error) {
	return w.Renew(w.t.Context(), enroll.Renewal{Skin: "est", Source: phone, Certificate: c, Key: key})
}

const day = 24 * time.Hour

// TestRenewal: in its last third, by the same device, for the same name.
func TestRenewal(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{SourceBurst: 100})
	old := w.enrolled("phone-1")
	w.clock.turn(60*day - time.Minute)
	_, err := w.renew(old, catest.NewKey(t).Public())
	wantRefusal(t, err, enroll.NotRenewable)
	w.clock.turn(time.Minute)
	key := catest.NewKey(t).Public()
	next, err := w.renew(old, key)
	if err != nil {
		t.Fatal(err)
	}
	c := next.Certificate
	if c.Subject.CommonName != "phone-1" || next.Device != "phone-1" || next.User != "bob" || next.Again ||
		!c.NotAfter.Equal(w.clock.Now().Add(90*day)) || !next.RenewFrom.Equal(w.clock.Now().Add(60*day)) {
		t.Errorf("renewed %s until %s, %+v", c.Subject, c.NotAfter, next)
	}
	// The answer was lost.
	again, err := w.renew(old, key)
	if err != nil || !again.Again || !again.Certificate.Equal(c) {
		t.Errorf("again: %+v, %v", again, err)
	}
	// The same key may go on, and the next renewal begins from the new one.
	w.clock.turn(29 * day)
	if same, err := w.renew(old, old.PublicKey); err != nil || same.Again {
		t.Errorf("same key: %+v, %v", same, err)
	}
	w.clock.turn(day + time.Second)
	_, err = w.renew(old, catest.NewKey(t).Public())
	wantRefusal(t, err, enroll.NotRenewable)
	w.clock.turn(30 * day)
	if _, err := w.renew(c, catest.NewKey(t).Public()); err != nil {
		t.Error(err)
	}
}

func TestWhoMayNotRenew(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{SourceBurst: 100, RenewBefore: ca.DeviceLifetime})
	ctx := t.Context()
	revoked, closed, other := w.enrolled("phone-1"), w.enrolled("phone-2"), w.enrolled("phone-3")
	if err := w.Revoke(ctx, admin, revoked.SerialNumber, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	if err := w.CloseDevice(ctx, admin, "phone-2", ca.CessationOfOperation); err != nil {
		t.Fatal(err)
	}
	server, err := w.Certify(ctx, admin, ca.Request{Profile: ca.Server, DNSNames: []string{"enroll.example.org"}, PublicKey: catest.NewKey(t).Public()})
	if err != nil {
		t.Fatal(err)
	}
	// Signed by our own CA, and not in the record.
	unrecorded, err := w.ca.Issuer().Sign(noon, ca.Request{Profile: ca.Device, Name: "phone-3", PublicKey: catest.NewKey(t).Public()})
	if err != nil {
		t.Fatal(err)
	}
	// A certificate of another CA that has a serial number of ours.
	forged := *newWorld(t, directorytest.SQLite(t), enroll.Policy{}).enrolled("phone-3")
	forged.SerialNumber = other.SerialNumber
	for name, c := range map[string]*x509.Certificate{
		"none": nil, "revoked": revoked, "closed": closed, "server": server.Certificate, "unrecorded": unrecorded, "forged": &forged,
	} {
		if issued, err := w.renew(c, catest.NewKey(t).Public()); issued.Certificate != nil {
			t.Errorf("%s was renewed", name)
		} else {
			wantRefusal(t, err, enroll.NotRenewable)
		}
	}
	_, err = w.renew(other, revoked.PublicKey)
	wantRefusal(t, err, enroll.KeyRefused)
	for range 4 {
		if _, err := w.renew(other, catest.NewKey(t).Public()); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.renew(other, catest.NewKey(t).Public())
	wantRefusal(t, err, enroll.Limited)
	w.clock.turn(day)
	if _, err := w.renew(other, catest.NewKey(t).Public()); err != nil {
		t.Errorf("the next day: %v", err)
	}
	w.settle()
	if n := len(w.audit(directory.ActRefuse)); n != 8 {
		t.Errorf("%d refusals in the audit record", n)
	}
	if n := len(w.audit(directory.ActRenew)); n != 5 || w.Metrics().Renewed != 5 {
		t.Errorf("%d renewals in the audit record", n)
	}
}

// TestTrust: what is revoked is on the list that is asked for next.
func TestTrust(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{CompleteUpTo: 1})
	ctx := t.Context()
	trust := func() enroll.Trust {
		t.Helper()
		tr, err := w.Trust(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	listed := func(der []byte) int {
		t.Helper()
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.CheckSignatureFrom(w.ca.Issuing()); err != nil {
			t.Fatal(err)
		}
		return len(l.RevokedCertificateEntries)
	}
	first := trust()
	if !first.Root.Equal(w.ca.Root()) || !first.Chain[0].Equal(first.Issuing) || first.Number != 1 || listed(first.CRL) != 0 {
		t.Errorf("trust %+v", first)
	}
	for i, want := range []struct{ complete, delta, number int }{{1, -1, 2}, {2, -1, 3}, {2, 1, 4}, {2, 2, 5}} {
		c := w.enrolled(deviceOf(i))
		if err := w.Revoke(ctx, admin, c.SerialNumber, ca.KeyCompromise); err != nil {
			t.Fatal(err)
		}
		tr := trust()
		if listed(tr.CRL) != want.complete || tr.Number != int64(want.number) || (tr.Delta == nil) != (want.delta < 0) {
			t.Errorf("after %d: %d entries, number %d, delta of %d octets", i+1, listed(tr.CRL), tr.Number, len(tr.Delta))
		}
		if want.delta >= 0 && listed(tr.Delta) != want.delta {
			t.Errorf("after %d: delta of %d entries", i+1, listed(tr.Delta))
		}
	}
	if err := w.PublishCRL(ctx); err != nil {
		t.Fatal(err)
	}
	if tr := trust(); listed(tr.CRL) != 4 || tr.Delta != nil || tr.CRLNumber != 6 {
		t.Errorf("complete list %d of %d entries", tr.CRLNumber, listed(tr.CRL))
	}
	w.clock.turn(ca.CRLLifetime / 2)
	if tr := trust(); tr.Number != 7 || !tr.Until.Equal(w.clock.Now().Add(ca.CRLLifetime)) {
		t.Errorf("half-way: number %d until %s", tr.Number, tr.Until)
	}
}

// TestTakeOver: what `gatewayd pki` issued and revoked before is on our list,
// whose numbers go on; and it is one record from then on.
func TestTakeOver(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{})
	ctx := t.Context()
	gateway, err := w.ca.Issue(noon, ca.Request{Profile: ca.Gateway, DNSNames: []string{"vpn.example.org"}, PublicKey: catest.NewKey(t).Public()})
	if err != nil {
		t.Fatal(err)
	}
	phone, err := w.ca.Issue(noon, ca.Request{Profile: ca.Device, Name: "phone-0", PublicKey: catest.NewKey(t).Public()})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ca.Revoke(noon, phone.SerialNumber, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.TakeOver(ctx, w.ca); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := w.Trust(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l, err := x509.ParseRevocationList(tr.CRL)
	if err != nil || tr.Number != 3 || len(l.RevokedCertificateEntries) != 1 || l.RevokedCertificateEntries[0].SerialNumber.Cmp(phone.SerialNumber) != 0 {
		t.Errorf("list %d: %+v, %v", tr.Number, l, err)
	}
	if err := w.Revoke(ctx, admin, gateway.SerialNumber, ca.Superseded); err != nil {
		t.Errorf("a certificate from before: %v", err)
	}
	if _, err := w.ca.Issue(noon, ca.Request{Profile: ca.Device, Name: "phone-1", PublicKey: catest.NewKey(t).Public()}); !errors.Is(err, ca.ErrHandedOver) {
		t.Errorf("issued beside the record: %v", err)
	}
	other, err := enroll.New(ctx, enroll.Options{Directory: directorytest.SQLite(t), Issuer: w.ca.Issuer(), SealKey: sealer})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.TakeOver(ctx, w.ca); !errors.Is(err, ca.ErrHandedOver) {
		t.Errorf("a second database took the record: %v", err)
	}
}

func TestCertify(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{})
	ctx := t.Context()
	issued, err := w.Certify(ctx, admin, ca.Request{Profile: ca.Admin, Name: "alice", PublicKey: catest.NewKey(t).Public()})
	if err != nil || !ca.Has(issued.Certificate, w.ca.InstanceOID(), ca.Admin) || slices.ContainsFunc(issued.Certificate.Policies, w.ca.InstanceOID().Equal) {
		t.Errorf("%+v, %v", issued, err)
	}
	if _, err := w.Certify(ctx, admin, ca.Request{Profile: ca.Device, Name: "phone-1", PublicKey: catest.NewKey(t).Public()}); !errors.Is(err, enroll.ErrInvalid) {
		t.Errorf("a device without a request: %v", err)
	}
	all, err := w.dir.Certificates(ctx, directory.CertificateFilter{Name: "alice", Profile: ca.Admin})
	if err != nil || len(all) != 1 || len(w.audit(directory.ActCertify)) != 1 {
		t.Errorf("recorded %+v, %v", all, err)
	}
}
