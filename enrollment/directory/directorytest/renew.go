package directorytest

import (
	"errors"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
)

func (s *suite) renewal(old, next directory.Signed, most int) error {
	return s.Renew(s.t.Context(), directory.Renewal{Renews: serialOf(old), Signed: next, At: Noon.Add(time.Hour), By: device, Most: most, Since: Noon})
}

func (s *suite) renew() {
	ctx := s.t.Context()
	first := s.enrolled("phone-1")
	second := s.sign(Noon, "phone-1")
	s.must(s.renewal(first, second, 3))
	s.want(s.renewal(first, second, 3), directory.ErrRenewed)
	c, err := s.RenewalOf(ctx, serialOf(first), second.KeyHash)
	if err != nil || c.Serial != serialOf(second) || c.Renews != serialOf(first) || c.Device != "phone-1" {
		s.t.Errorf("renewal %+v, %v", c, err)
	}
	// The same key in turn, then one too many.
	s.must(s.renewal(second, s.sign(Noon, "phone-1"), 3))
	s.must(s.renewal(second, s.sign(Noon, "phone-1"), 3))
	s.want(s.renewal(second, s.sign(Noon, "phone-1"), 3), directory.ErrTooMany)
	other := s.enrolled("phone-2")
	s.want(s.renewal(second, other, 9), directory.ErrKeyTaken)
	s.must(s.Revoke(ctx, alice, second.Certificate.SerialNumber, ca.KeyCompromise, Noon))
	s.want(s.renewal(second, s.sign(Noon, "phone-1"), 9), directory.ErrRevoked)
	s.must(s.CloseDevice(ctx, alice, "phone-1", ca.KeyCompromise, Noon))
	s.want(s.renewal(first, s.sign(Noon, "phone-1"), 9), directory.ErrClosed)
	if _, err := s.RenewalOf(ctx, serialOf(first), second.KeyHash); !errors.Is(err, directory.ErrNotFound) {
		s.t.Errorf("a revoked renewal is given out: %v", err)
	}
}

// revokeRenewed: what was renewed from a revoked certificate goes with it, and
// other certificates of the device stay.
func (s *suite) revokeRenewed() {
	ctx := s.t.Context()
	first := s.enrolled("phone-1")
	var chain []directory.Signed
	for _, from := range []int{-1, 0, 1, 1} {
		old := first
		if from >= 0 {
			old = chain[from]
		}
		next := s.sign(Noon, "phone-1")
		s.must(s.renewal(old, next, 9))
		chain = append(chain, next)
	}
	other := s.enrolled("phone-2")
	revoked := func(want ...bool) {
		s.t.Helper()
		for i, signed := range append([]directory.Signed{first, other}, chain...) {
			if c, err := s.Certificate(ctx, serialOf(signed)); err != nil || c.Revoked.IsZero() == want[i] {
				s.t.Errorf("certificate %d is revoked at %v, %v; want %t", i, c.Revoked, err, want[i])
			}
		}
	}
	// What was replaced goes alone, and later what was renewed from it goes all the
	// same, from where it is revoked.
	s.must(s.Revoke(ctx, alice, chain[1].Certificate.SerialNumber, ca.Superseded, Noon))
	revoked(false, false, false, true, false, false)
	s.must(s.Revoke(ctx, alice, chain[0].Certificate.SerialNumber, ca.KeyCompromise, Noon))
	revoked(false, false, true, true, true, true)
	s.want(s.Revoke(ctx, alice, chain[3].Certificate.SerialNumber, ca.KeyCompromise, Noon), directory.ErrRevoked)
	s.want(s.renewal(chain[3], s.sign(Noon, "phone-1"), 9), directory.ErrRevoked)
	if got := s.story(); got != "enrolled phone-1, renewed phone-1, renewed phone-1, renewed phone-1, renewed phone-1, enrolled phone-2"+strings.Repeat(", revoked phone-1", 4) {
		s.t.Errorf("outbox: %s", got)
	}
	s.must(s.Revoke(ctx, alice, first.Certificate.SerialNumber, ca.Unspecified, Noon))
	revoked(true, false, true, true, true, true)
}

// revokeSuperseded: what was replaced turns out to be stolen, and the certificates
// renewed from it go after it.
func (s *suite) revokeSuperseded() {
	ctx := s.t.Context()
	first := s.enrolled("phone-1")
	alone, second, third := s.sign(Noon, "phone-1"), s.sign(Noon, "phone-1"), s.sign(Noon, "phone-1")
	s.must(s.renewal(first, alone, 9))
	s.must(s.renewal(first, second, 9))
	s.must(s.renewal(second, third, 9))
	revoke := func(signed directory.Signed, reason ca.Reason, after time.Duration) error {
		return s.Revoke(ctx, alice, signed.Certificate.SerialNumber, reason, Noon.Add(after))
	}
	s.must(revoke(alone, ca.Superseded, time.Hour))
	s.want(revoke(alone, ca.KeyCompromise, 2*time.Hour), directory.ErrRevoked)
	s.must(revoke(first, ca.Superseded, time.Hour))
	s.want(revoke(first, ca.Superseded, 2*time.Hour), directory.ErrRevoked)
	s.must(revoke(first, ca.KeyCompromise, 2*time.Hour))
	s.want(revoke(first, ca.KeyCompromise, 3*time.Hour), directory.ErrRevoked)
	for name, want := range map[string]struct {
		signed directory.Signed
		reason ca.Reason
		after  time.Duration
	}{
		"first": {first, ca.Superseded, time.Hour}, "alone": {alone, ca.Superseded, time.Hour},
		"second": {second, ca.KeyCompromise, 2 * time.Hour}, "third": {third, ca.KeyCompromise, 2 * time.Hour},
	} {
		if c, err := s.Certificate(ctx, serialOf(want.signed)); err != nil || !c.Revoked.Equal(Noon.Add(want.after)) || c.Reason != want.reason {
			s.t.Errorf("%s: revoked at %v, %v, %v; want %v, %v", name, c.Revoked, c.Reason, err, Noon.Add(want.after), want.reason)
		}
	}
}
