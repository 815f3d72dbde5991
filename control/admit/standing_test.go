package admit_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

func (w *world) renew(t testing.TB, at time.Time, s admit.Standing) (admit.Admission, error) {
	t.Helper()
	policy, err := admit.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Renew(at, s)
}

// A device comes back with what was decided about it, to a gateway whose policy
// may have changed.
func TestStandingIsRenewed(t *testing.T) {
	w := newWorld(t)
	w.config.Epoch = 7
	first, err := w.decide(t)
	if err != nil {
		t.Fatal(err)
	}
	w.config.Group = "field"
	again, err := w.renew(t, now, first.Standing)
	if err != nil {
		t.Fatal(err)
	}
	if again.Device != first.Device || again.Group != "field" || !again.Until.Equal(first.Until) || again.Certificate != nil {
		t.Errorf("renewed as %+v", again)
	}
	// What was renewed is worth as much as the first.
	if _, err := w.renew(t, now, again.Standing); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestStandingIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		want   admit.Reason
		after  time.Duration
		change func(*world)
	}{
		"barred":         {admit.ReasonBarred, 0, func(w *world) { w.config.Barred = []string{"PHONE-1"} }},
		"epoch raised":   {admit.ReasonEpoch, 0, func(w *world) { w.config.Epoch++ }},
		"other instance": {admit.ReasonWrongInstance, 0, func(w *world) { w.config.InstanceOIDs = []x509.OID{parseOID("1.3.6.1.4.1.99999.77")} }},
		"root replaced": {admit.ReasonUntrustedChain, 0, func(w *world) {
			w.config.Roots = []*x509.Certificate{newCA(t, nil, "root").certificate}
		}},
		"certificate expired": {admit.ReasonExpired, 1000000 * time.Hour, func(*world) {}},
		// A list of the root only: nothing is known of what the issuer issued.
		"revocation unknown": {admit.ReasonRevocationUnknown, 0, func(w *world) {
			w.config.RevocationLists = []*x509.RevocationList{revocationList(t, w.root, 1, time.Hour)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first, err := w.decide(t)
			if err != nil {
				t.Fatal(err)
			}
			test.change(w)
			_, err = w.renew(t, now.Add(test.after), first.Standing)
			wantReason(t, err, test.want)
		})
	}
}

// A gateway that asks for an instance OID takes nothing from one that asked for
// none, whatever the certificate says.
func TestStandingWithoutInstance(t *testing.T) {
	w := newWorld(t)
	oids := w.config.InstanceOIDs
	w.config.InstanceOIDs = nil
	first, err := w.decide(t)
	if err != nil {
		t.Fatal(err)
	}
	w.config.InstanceOIDs = oids
	_, err = w.renew(t, now, first.Standing)
	wantReason(t, err, admit.ReasonWrongInstance)
}
