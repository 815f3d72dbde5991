package directorytest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
)

func (s *suite) publish(p directory.Publish) directory.Lists {
	s.t.Helper()
	p.Authority, p.Sign, p.By = s.issuer.ID(), s.issuer.SignList, alice
	if p.Lifetime == 0 {
		p.Lifetime = time.Hour
	}
	l, err := s.Publish(s.t.Context(), p)
	s.must(err)
	return l
}

func serials(l *x509.RevocationList) []string {
	var all []string
	for _, e := range l.RevokedCertificateEntries {
		all = append(all, ca.SerialString(e.SerialNumber))
	}
	slices.Sort(all)
	return all
}

// lists: complete ones while they are small, deltas beyond, each number once,
// and together they say what is revoked.
func (s *suite) lists() {
	ctx := s.t.Context()
	first := s.publish(directory.Publish{Now: Noon})
	if first.Number != 1 || first.Delta != nil || first.Behind || !first.Until.Equal(Noon.Add(time.Hour)) {
		s.t.Errorf("first lists %+v", first)
	}
	if again := s.publish(directory.Publish{Now: Noon.Add(29 * time.Minute)}); again.Number != 1 {
		s.t.Errorf("list %d although nothing changed", again.Number)
	}
	var revoked []string
	revoke := func(name string) {
		signed := s.enrolled(name)
		s.must(s.Revoke(ctx, alice, signed.Certificate.SerialNumber, ca.KeyCompromise, Noon))
		revoked = append(revoked, serialOf(signed))
		slices.Sort(revoked)
	}
	revoke("phone-1")
	if l, err := s.Lists(ctx, s.issuer.ID()); err != nil || !l.Behind {
		s.t.Errorf("not behind: %+v, %v", l, err)
	}
	complete := s.publish(directory.Publish{Now: Noon})
	if complete.Number != 2 || complete.CompleteNumber != 2 || !slices.Equal(serials(s.parse(complete.Complete)), revoked) {
		s.t.Errorf("complete list %d: %v, want %v", complete.Number, serials(s.parse(complete.Complete)), revoked)
	}
	// One entry is too many now: deltas to number 2, each saying all since.
	for i, name := range []string{"phone-2", "phone-3"} {
		revoke(name)
		l := s.publish(directory.Publish{Now: Noon, DeltaOnly: 0})
		delta := s.parse(l.Delta)
		base, err := ca.BaseOf(delta)
		s.must(err)
		if l.Number != int64(3+i) || l.CompleteNumber != 2 || base != 2 || delta.Number.Int64() != l.Number || len(delta.RevokedCertificateEntries) != i+1 {
			s.t.Errorf("delta %d to %d (of %d) with %d entries", l.Number, base, l.CompleteNumber, len(delta.RevokedCertificateEntries))
		}
		if both := append(serials(s.parse(l.Complete)), serials(delta)...); !sameSet(both, revoked) {
			s.t.Errorf("lists say %v, revoked are %v", both, revoked)
		}
	}
	// Half-way to its end the complete list is made anew.
	l := s.publish(directory.Publish{Now: Noon.Add(30 * time.Minute)})
	if l.Number != 5 || l.CompleteNumber != 5 || l.Delta != nil || !slices.Equal(serials(s.parse(l.Complete)), revoked) {
		s.t.Errorf("complete list %d of %d: %v", l.CompleteNumber, l.Number, serials(s.parse(l.Complete)))
	}
	// An entry goes a while after its certificate's end.
	late := Noon.Truncate(time.Second).Add(ca.DeviceLifetime + ca.CRLLifetime)
	if l := s.publish(directory.Publish{Now: late}); l.Entries != 3 {
		s.t.Errorf("%d entries at the end", l.Entries)
	}
	if l := s.publish(directory.Publish{Now: late.Add(time.Second), Force: true}); l.Entries != 0 || l.Number != 7 {
		s.t.Errorf("%d entries after the end in list %d", l.Entries, l.Number)
	}
	// A signature that fails takes no number.
	refuse := errors.New("token is gone")
	_, err := s.Publish(ctx, directory.Publish{Authority: s.issuer.ID(), Now: late, Lifetime: time.Hour, Force: true,
		Sign: func(ca.List) ([]byte, error) { return nil, refuse }})
	s.want(err, refuse)
	s.publishAtOnce(late)
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func (s *suite) publishAtOnce(at time.Time) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = make(map[int64]bool)
	)
	for range 8 {
		wg.Go(func() {
			_, err := s.Publish(context.WithoutCancel(s.t.Context()), directory.Publish{
				Authority: s.issuer.ID(), Now: at, Lifetime: time.Hour, Force: true,
				Sign: func(l ca.List) ([]byte, error) {
					mu.Lock()
					defer mu.Unlock()
					if seen[l.Number] {
						return nil, fmt.Errorf("list %d twice", l.Number)
					}
					seen[l.Number] = true
					return s.issuer.SignList(l)
				},
			})
			if err != nil {
				s.t.Error(err)
			}
		})
	}
	wg.Wait()
	if l, err := s.Lists(s.t.Context(), s.issuer.ID()); err != nil || l.Number != 15 || len(seen) != 8 {
		s.t.Errorf("list %d after %d more, %v", l.Number, len(seen), err)
	}
}

// outbox: readers that come while writers write miss nothing and see each
// device's events in their order.
func (s *suite) outbox() {
	const writers, devices = 4, 6
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range devices {
				name := fmt.Sprintf("phone-%d-%d", w, i)
				q := newRequest(name)
				signed := s.sign(Noon, name)
				for _, err := range []error{
					s.CreateRequest(s.t.Context(), alice, q, 1000),
					s.enrollWith(q, signed, Noon),
					s.Revoke(s.t.Context(), alice, signed.Certificate.SerialNumber, ca.Unspecified, Noon),
					s.CloseDevice(s.t.Context(), alice, name, ca.Unspecified, Noon),
				} {
					if err != nil {
						s.t.Error(err)
					}
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(done)
	}()
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			s.follow(done, writers*devices)
		})
	}
	readers.Wait()
	s.must(s.TrimOutbox(s.t.Context(), 1<<40))
	if left := s.events(); len(left) != 1 || left[0].Number != 3*writers*devices {
		s.t.Errorf("after trimming: %+v", left)
	}
	s.enrolled("phone-x")
	if left := s.events(); len(left) != 2 || left[1].Number != 3*writers*devices+1 {
		s.t.Errorf("numbers don't go on: %+v", left)
	}
}

func (s *suite) follow(done <-chan struct{}, devices int) {
	after, last := int64(0), false
	story := make(map[string][]directory.Kind)
	for {
		events, err := s.Outbox(s.t.Context(), after, 5)
		if err != nil {
			s.t.Error(err)
			return
		}
		for _, e := range events {
			if after++; e.Number != after {
				s.t.Errorf("event %d where %d was due", e.Number, after)
				return
			}
			story[e.Device] = append(story[e.Device], e.Kind)
		}
		if len(events) > 0 {
			continue
		}
		if last {
			break
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
	if len(story) != devices {
		s.t.Errorf("%d devices, want %d", len(story), devices)
	}
	for device, kinds := range story {
		if !slices.Equal(kinds, []directory.Kind{directory.Enrolled, directory.Revoked, directory.Closed}) {
			s.t.Errorf("%s: %v", device, kinds)
		}
	}
}

func (s *suite) pages() {
	ctx := s.t.Context()
	for i := range 5 {
		s.enrolled(fmt.Sprintf("phone-%d", i))
	}
	var devices, requests, certificates []string
	for after := ""; ; after = devices[len(devices)-1] {
		all, err := s.Devices(ctx, directory.DeviceFilter{Group: "sales", User: "bob", After: after, Limit: 2})
		s.must(err)
		if len(all) == 0 {
			break
		}
		for _, v := range all {
			if devices = append(devices, v.Name); !slices.Equal(v.Groups, []string{"sales", "staff"}) {
				s.t.Errorf("groups %v", v.Groups)
			}
		}
	}
	for after := ""; ; after = requests[len(requests)-1] {
		all, err := s.Requests(ctx, directory.RequestFilter{State: directory.Used, User: "bob", After: after, Limit: 2})
		s.must(err)
		if len(all) == 0 {
			break
		}
		for _, q := range all {
			requests = append(requests, q.ID.String())
		}
	}
	for after := ""; ; after = certificates[len(certificates)-1] {
		all, err := s.Certificates(ctx, directory.CertificateFilter{Profile: ca.Device, After: after, Limit: 2})
		s.must(err)
		if len(all) == 0 {
			break
		}
		for _, c := range all {
			certificates = append(certificates, c.Serial)
		}
	}
	for what, got := range map[string][]string{"devices": devices, "requests": requests, "certificates": certificates} {
		if len(got) != 5 || !slices.IsSorted(got) || len(slices.Compact(got)) != 5 {
			s.t.Errorf("%s: %v", what, got)
		}
	}
	if groups, err := s.Groups(ctx, "", 0); err != nil || !slices.Equal(groups, []string{"sales", "staff"}) {
		s.t.Errorf("groups %v, %v", groups, err)
	}
}

func (s *suite) parse(der []byte) *x509.RevocationList {
	s.t.Helper()
	l, err := x509.ParseRevocationList(der)
	s.must(err)
	s.must(l.CheckSignatureFrom(s.issuer.Certificate()))
	return l
}
