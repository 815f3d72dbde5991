package admit_test

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

// remembering is a policy that has admitted the world's device and can verify
// nothing any more: who gets in does so by what it remembers.
func remembering(t *testing.T, w *world) *admit.Policy {
	t.Helper()
	policy, err := admit.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Decide(now, w.evidence); err != nil {
		t.Fatal(err)
	}
	policy.LoseRoots()
	return policy
}

func TestKnownDeviceIsNotVerifiedAgain(t *testing.T) {
	w := newWorld(t)
	policy := remembering(t, w)
	admission, err := policy.Decide(now, w.evidence)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := w.decide(t); admission.Device != want.Device || !admission.Until.Equal(want.Until) ||
		admission.Standing.Anchor != want.Standing.Anchor || len(admission.Standing.Path) != len(want.Standing.Path) {
		t.Errorf("%+v, the first time %+v", admission, want)
	}
}

// Whatever else than the very same octets comes is verified.
func TestKnownDeviceWithOtherCertificates(t *testing.T) {
	w := newWorld(t)
	policy := remembering(t, w)
	spoilt := slices.Clone(w.evidence.Chain[0])
	spoilt[len(spoilt)-1] ^= 1
	for name, chain := range map[string][][]byte{
		"another signature": {spoilt, w.evidence.Chain[1]},
		"one less":          w.evidence.Chain[:1],
		"one more":          append(slices.Clone(w.evidence.Chain), w.root.certificate.Raw),
		"another device":    {device(t, w.issuing, "phone-2").certificate.Raw, w.evidence.Chain[1]},
	} {
		evidence := w.evidence
		evidence.Chain = chain
		if _, err := policy.Decide(now, evidence); err == nil {
			t.Errorf("%s: admitted by what was remembered", name)
		}
	}
	// Its own certificates don't let it be somebody else.
	evidence := w.evidence
	evidence.ID = w.issuing.certificate.RawSubject
	_, err := policy.Decide(now, evidence)
	wantReason(t, err, admit.ReasonIdentityMismatch)
}

// A certificate that expires, or isn't valid yet by a clock that was set back,
// is refused wherever it is in the path.
func TestKnownDeviceOutOfItsTime(t *testing.T) {
	short := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-time.Minute), now.Add(time.Minute) }
	sound := func(*x509.Certificate) {}
	for name, change := range map[string][3]func(*x509.Certificate){
		"device":  {sound, sound, short},
		"issuing": {sound, short, sound},
		"root":    {short, sound, sound},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.root = newCA(t, nil, "short root", change[0])
			w.issuing = newCA(t, w.root, "short issuing", change[1])
			w.config.Roots = []*x509.Certificate{w.root.certificate}
			w.present(device(t, w.issuing, "phone-1", change[2]), w.issuing)
			policy, err := admit.New(w.config)
			if err != nil {
				t.Fatal(err)
			}
			for _, visit := range []struct {
				at   time.Duration
				want admit.Reason
			}{{0, admitted}, {2 * time.Minute, admit.ReasonExpired}, {0, admitted}, {-2 * time.Minute, admit.ReasonNotYetValid}, {0, admitted}} {
				_, err := policy.Decide(now.Add(visit.at), w.evidence)
				if visit.want != admitted {
					wantReason(t, err, visit.want)
				} else if err != nil {
					t.Errorf("after %v: %v", visit.at, err)
				}
			}
		})
	}
}

// What is revoked, device or issuer, and a list that is stale count at once.
func TestKnownDeviceIsRevoked(t *testing.T) {
	for name, list := range map[string]func(w *world) *x509.RevocationList{
		"device": func(w *world) *x509.RevocationList {
			return revocationList(t, w.issuing, 2, time.Hour, w.device.certificate.SerialNumber)
		},
		"issuing": func(w *world) *x509.RevocationList {
			return revocationList(t, w.root, 2, time.Hour, w.issuing.certificate.SerialNumber)
		},
	} {
		w := newWorld(t)
		w.config.Intermediates = []*x509.Certificate{w.issuing.certificate}
		w.config.RevocationLists = []*x509.RevocationList{revocationList(t, w.issuing, 1, time.Minute)}
		policy, err := admit.New(w.config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Decide(now, w.evidence); err != nil {
			t.Fatal(err)
		}
		_, err = policy.Decide(now.Add(2*time.Minute), w.evidence)
		wantReason(t, err, admit.ReasonStaleList)
		if err := policy.Revoke(list(w)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err = policy.Decide(now, w.evidence); err == nil {
				t.Errorf("%s: admitted", name)
				continue
			}
			wantReason(t, err, admit.ReasonRevoked)
		}
	}
}

// Many devices of one issuer, each with its own copy: one is kept. Who is not
// admitted for lack of a sound signature leaves nothing.
func TestWhatIsRemembered(t *testing.T) {
	w := newWorld(t)
	policy, err := admit.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	stranger := newCA(t, nil, "stranger")
	for range 10 {
		w.present(device(t, stranger, "phone"), stranger)
		_, err := policy.Decide(now, w.evidence)
		wantReason(t, err, admit.ReasonUntrustedChain)
		w.present(device(t, w.issuing, "phone"), w.issuing)
		if _, err := policy.Decide(now, w.evidence); err != nil {
			t.Fatal(err)
		}
	}
	if paths, issuers := policy.Remembered(); paths != 10 || issuers != 2 {
		t.Errorf("%d paths, %d issuers, want 10, 2", paths, issuers)
	}
}
