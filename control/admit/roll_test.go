package admit_test

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

// roll of devices, and of one serial number of one issuer that is revoked.
type roll struct {
	devices map[string]admit.Member
	issuer  [sha256.Size]byte
	serial  string
}

func (r *roll) Device(name string) (admit.Member, bool) {
	m, known := r.devices[name]
	return m, known
}

func (r *roll) Revoked(issuer [sha256.Size]byte, serial []byte) (int, bool) {
	return 1, issuer == r.issuer && string(serial) == r.serial
}

// TestRoll: what it says holds at the next decision, for who comes with
// certificates and for who comes with a ticket; what is configured holds beside
// it.
func TestRoll(t *testing.T) {
	w := newWorld(t)
	r := &roll{devices: map[string]admit.Member{}}
	w.config.Roll = r
	w.config.RefuseUnknown = true
	w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
	w.config.Barred = []string{"phone-9"}
	w.config.Groups = []admit.Group{{Name: "staff", Devices: []string{"phone-2"}}}
	policy, err := admit.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	standings := map[string]admit.Standing{}
	decide := func(name string, d *authority) (string, string) {
		t.Helper()
		w.present(d, w.issuing)
		admission, err := policy.Decide(now, w.evidence)
		if err == nil {
			standings[name] = admission.Standing
		}
		if s, ok := standings[name]; ok {
			again, renewed := policy.Renew(now.Add(time.Minute), s)
			if (renewed == nil) != (err == nil) || again.Group != admission.Group || !slices.Equal(again.Addresses, admission.Addresses) {
				t.Errorf("%s: %v, %q by its certificate, %v, %q by its ticket", name, err, admission.Group, renewed, again.Group)
			}
		}
		if err != nil {
			refusal := new(admit.Refusal)
			if !errors.As(err, &refusal) {
				t.Fatal(err)
			}
			if refusal.Device != name[:len("phone-0")] {
				t.Errorf("%s: refused as %q", name, refusal.Device)
			}
			return "", refusal.Reason.String()
		}
		return admission.Group, ""
	}
	phone := device(t, w.issuing, "Phone-1")
	expect := func(step, name string, d *authority, group, reason string) {
		t.Helper()
		if g, why := decide(name, d); g != group || why != reason {
			t.Errorf("%s: group %q, refused for %q; want %q, %q", step, g, why, group, reason)
		}
	}
	expect("not on the roll", "phone-1", phone, "", "unknown_device")
	addresses := []netip.Addr{netip.MustParseAddr("10.9.0.7")}
	r.devices["phone-1"] = admit.Member{Group: "field", Addresses: addresses}
	expect("on the roll", "phone-1", phone, "field", "")
	if a, err := policy.Renew(now, standings["phone-1"]); err != nil || !slices.Equal(a.Addresses, addresses) {
		t.Errorf("admitted with the addresses %v, %v, want %v", a.Addresses, err, addresses)
	}
	r.devices["phone-1"] = admit.Member{}
	expect("in no group", "phone-1", phone, "", "")
	r.devices["phone-1"] = admit.Member{Group: "field", Barred: true}
	expect("barred", "phone-1", phone, "", "barred")
	r.devices["phone-1"] = admit.Member{Group: "field"}
	r.issuer, r.serial = sha256.Sum256(w.issuing.certificate.RawSubjectPublicKeyInfo), string(phone.certificate.SerialNumber.Bytes())
	expect("revoked", "phone-1", phone, "", "revoked")
	expect("with a new certificate", "phone-1b", device(t, w.issuing, "phone-1"), "field", "")
	r.issuer[0]++
	expect("another issuer's certificate is revoked", "phone-1", phone, "field", "")
	r.devices["phone-2"] = admit.Member{Group: "field"}
	expect("what is configured goes first", "phone-2", device(t, w.issuing, "phone-2"), "staff", "")
	r.devices["phone-9"] = admit.Member{Group: "field"}
	expect("what is configured holds", "phone-9", device(t, w.issuing, "phone-9"), "", "barred")
}

// TestTicketOfAnUnknownIssuer: a roll names issuers by their keys, and a ticket
// doesn't hold the key of one that isn't configured. So its device comes with
// certificates.
func TestTicketOfAnUnknownIssuer(t *testing.T) {
	w := newWorld(t)
	admission, err := w.decide(t)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.renew(t, now, admission.Standing); err != nil {
		t.Errorf("without a roll: %v", err)
	}
	w.config.Roll = &roll{}
	if _, err := w.decide(t); err != nil {
		t.Errorf("with its certificates: %v", err)
	}
	refusal := new(admit.Refusal)
	if _, err := w.renew(t, now, admission.Standing); !errors.As(err, &refusal) || refusal.Reason != admit.ReasonRevocationUnknown {
		t.Errorf("with a roll: %v, want %v", err, admit.ReasonRevocationUnknown)
	}
}
