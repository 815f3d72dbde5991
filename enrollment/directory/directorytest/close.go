package directorytest

import (
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
)

// Only the enrollment that is meant ends, and once; a request that was made
// meanwhile stays open.
func (s *suite) closeEnrollment() {
	ctx := s.t.Context()
	end := func(enrolled time.Time, want bool) {
		s.t.Helper()
		if closed, err := s.CloseEnrollment(ctx, alice, "phone-1", enrolled, ca.CessationOfOperation, Noon.Add(2*time.Hour)); err != nil || closed != want {
			s.t.Errorf("of %v: closed %t, want %t (%v)", enrolled, closed, want, err)
		}
	}
	s.enrolled("phone-1")
	q := newRequest("phone-1")
	s.must(s.CreateRequest(ctx, alice, q, 100))
	later := Noon.Add(time.Hour)
	s.must(s.enrollWith(q, s.sign(Noon, "phone-1"), later))
	waiting := s.request("phone-1")
	end(Noon, false)
	if v, err := s.Device(ctx, "phone-1"); err != nil || !v.Open {
		s.t.Errorf("the later enrollment was closed: %+v, %v", v, err)
	}
	end(later, true)
	end(later, false)
	if valid, err := s.Certificates(ctx, directory.CertificateFilter{Device: "phone-1", ValidAt: later}); err != nil || len(valid) != 0 {
		s.t.Errorf("still valid: %v, %v", valid, err)
	}
	if got, err := s.Request(ctx, waiting.ID); err != nil || got.State != directory.Open {
		s.t.Errorf("the request for the time after: %+v, %v", got, err)
	}
	if got := s.story(); got != "enrolled phone-1, revoked phone-1, enrolled phone-1, revoked phone-1, closed phone-1" {
		s.t.Errorf("outbox: %s", got)
	}
	_, err := s.CloseEnrollment(ctx, alice, "phone-9", Noon, ca.Unspecified, Noon)
	s.want(err, directory.ErrNotFound)
}

// Who waits for news is woken by what adds to the outbox, and by nothing else.
func (s *suite) heard() {
	for _, c := range []struct {
		name string
		do   func()
		want bool
	}{
		{"a request", func() { s.request("phone-1") }, false},
		{"an enrollment", func() { s.enrolled("phone-2") }, true},
		{"a closing", func() { s.must(s.CloseDevice(s.t.Context(), alice, "phone-2", ca.Unspecified, Noon)) }, true},
		{"a look", func() { s.events() }, false},
	} {
		news := s.News()
		c.do()
		select {
		case <-news:
			if !c.want {
				s.t.Errorf("%s woke somebody", c.name)
			}
		default:
			if c.want {
				s.t.Errorf("%s woke nobody", c.name)
			}
		}
	}
}
