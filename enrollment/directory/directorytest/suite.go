package directorytest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// Noon is when tests happen.
var Noon = time.Date(2030, 5, 1, 12, 0, 0, 123456000, time.UTC)

var (
	alice  = directory.By{Name: "alice", Source: netip.MustParseAddr("10.0.0.5")}
	device = directory.By{Name: "device", Source: netip.MustParseAddr("2001:db8::7")}
)

// suite is a directory with a CA.
type suite struct {
	*directory.SQL
	t      *testing.T
	issuer *ca.Issuer
}

// Run the suite; open makes a new, empty directory.
func Run(t *testing.T, open func(*testing.T) *directory.SQL) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"requests", (*suite).requests},
		{"requests that can't be made", (*suite).badRequests},
		{"one request, one certificate", (*suite).enroll},
		{"many at once", (*suite).enrollMany},
		{"a key has one device", (*suite).keys},
		{"a device enrolls anew", (*suite).anew},
		{"renewal", (*suite).renew},
		{"a certificate goes with its renewals", (*suite).revokeRenewed},
		{"a certificate turns out to be stolen after it was replaced", (*suite).revokeSuperseded},
		{"revocation and closing", (*suite).revoke},
		{"the end of one enrollment", (*suite).closeEnrollment},
		{"news", (*suite).heard},
		{"expiry takes secrets", (*suite).expire},
		{"guesses", (*suite).guesses},
		{"lists", (*suite).lists},
		{"outbox", (*suite).outbox},
		{"audit is append-only", (*suite).auditStays},
		{"take-over", (*suite).takeOver},
		{"pages", (*suite).pages},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{SQL: open(t), t: t, issuer: catest.New(t, Noon).Issuer()}
			s.must(s.AddAuthority(t.Context(), s.issuer.ID(), s.issuer.Certificate()))
			test.run(s)
		})
	}
}

func (s *suite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *suite) want(err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Errorf("got %v, want %v", err, want)
	}
}

// newRequest for a device of bob.
func newRequest(name string) directory.Request {
	return directory.Request{
		ID: otp.New().ID, Device: name, User: "bob", Email: "bob@example.org", Groups: []string{"sales", "staff"},
		Secret: []byte("sealed " + name), Created: Noon, CreatedBy: "alice", Expires: Noon.Add(8 * time.Hour),
	}
}

func (s *suite) request(name string) directory.Request {
	s.t.Helper()
	q := newRequest(name)
	s.must(s.CreateRequest(s.t.Context(), alice, q, 100))
	return q
}

func (s *suite) sign(at time.Time, name string) directory.Signed {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	return s.signFor(at, name, key)
}

func (s *suite) signFor(at time.Time, name string, key *ecdsa.PrivateKey) directory.Signed {
	s.t.Helper()
	c, err := s.issuer.Sign(at, ca.Request{Profile: ca.Device, PublicKey: key.Public(), Name: name})
	s.must(err)
	hash, err := otp.HashPublicKey(key.Public())
	s.must(err)
	return directory.Signed{Authority: s.issuer.ID(), Profile: ca.Device, Certificate: c, KeyHash: hash}
}

func (s *suite) enrollWith(q directory.Request, signed directory.Signed, at time.Time) error {
	return s.Enroll(s.t.Context(), directory.Enrollment{Request: q.ID, Signed: signed, Secret: []byte("bound"), At: at, By: device, Detail: "P-256"})
}

func (s *suite) enrolled(name string) directory.Signed {
	s.t.Helper()
	signed := s.sign(Noon, name)
	s.must(s.enrollWith(s.request(name), signed, Noon.Add(time.Minute)))
	return signed
}

func serialOf(signed directory.Signed) string {
	return ca.SerialString(signed.Certificate.SerialNumber)
}

func (s *suite) events() []directory.Event {
	s.t.Helper()
	var all []directory.Event
	for {
		after := int64(0)
		if len(all) > 0 {
			after = all[len(all)-1].Number
		}
		more, err := s.Outbox(s.t.Context(), after, 7)
		s.must(err)
		if len(more) == 0 {
			return all
		}
		all = append(all, more...)
	}
}

// story is the outbox in short.
func (s *suite) story() string {
	s.t.Helper()
	var parts []string
	for i, e := range s.events() {
		if e.Number != int64(i+1) {
			s.t.Errorf("event %d has number %d", i+1, e.Number)
		}
		parts = append(parts, string(e.Kind)+" "+e.Device)
	}
	return strings.Join(parts, ", ")
}

func (s *suite) actions() string {
	s.t.Helper()
	all, err := s.Audit(s.t.Context(), 0, 0)
	s.must(err)
	var parts []string
	for _, e := range all {
		parts = append(parts, string(e.Action))
	}
	return strings.Join(parts, " ")
}

func (s *suite) requests() {
	ctx := s.t.Context()
	q := s.request("phone-1")
	got, err := s.Request(ctx, q.ID)
	s.must(err)
	if got.State != directory.Open || got.Device != "phone-1" || got.User != "bob" || got.Email != "bob@example.org" ||
		!slices.Equal(got.Groups, q.Groups) || !bytes.Equal(got.Secret, q.Secret) || !got.Created.Equal(Noon) ||
		!got.Expires.Equal(q.Expires) || got.CreatedBy != "alice" || !got.Closed.IsZero() || got.Serial != "" {
		s.t.Errorf("read back %+v", got)
	}
	for _, who := range []string{"bob", "bob@example.org"} {
		if all, err := s.RequestsOf(ctx, who, 10); err != nil || len(all) != 1 || all[0].ID != q.ID {
			s.t.Errorf("requests of %s: %v, %v", who, all, err)
		}
	}
	for _, test := range []struct {
		email string
		at    time.Time
		want  bool
	}{{"bob@example.org", Noon, true}, {"eve@example.org", Noon, false}, {"bob@example.org", q.Expires, false}} {
		if yes, err := s.HasOpenRequest(ctx, test.email, test.at); err != nil || yes != test.want {
			s.t.Errorf("%s at %s: %t, %v", test.email, test.at, yes, err)
		}
	}
	// A second request for the same device takes the place of the first.
	second := s.request("phone-1")
	got, err = s.Request(ctx, q.ID)
	if err != nil || got.State != directory.Cancelled || got.Secret != nil || !got.Closed.Equal(Noon) {
		s.t.Errorf("replaced: %+v, %v", got, err)
	}
	s.must(s.Cancel(ctx, alice, second.ID, Noon))
	s.want(s.Cancel(ctx, alice, second.ID, Noon), directory.ErrNotOpen)
	s.want(s.Cancel(ctx, alice, otp.New().ID, Noon), directory.ErrNotFound)
	if got := s.actions(); got != "request cancel request cancel" {
		s.t.Errorf("audit: %s", got)
	}
}

func (s *suite) badRequests() {
	ctx := s.t.Context()
	q := s.request("phone-1")
	again := newRequest("phone-2")
	again.ID = q.ID
	s.want(s.CreateRequest(ctx, alice, again, 100), directory.ErrExists)
	stolen := newRequest("phone-1")
	stolen.User, stolen.Email = "eve", "eve@example.org"
	s.want(s.CreateRequest(ctx, alice, stolen, 100), directory.ErrOwner)
	s.must(s.enrollWith(q, s.sign(Noon, "phone-1"), Noon))
	s.want(s.CreateRequest(ctx, alice, stolen, 100), directory.ErrOwner)
	s.request("phone-3")
	s.want(s.CreateRequest(ctx, alice, newRequest("phone-4"), 1), directory.ErrTooMany)
	// What was refused left nothing.
	if users, err := s.Users(ctx, "", 0); err != nil || len(users) != 1 {
		s.t.Errorf("users %v, %v", users, err)
	}
	if _, err := s.Request(ctx, stolen.ID); !errors.Is(err, directory.ErrNotFound) {
		s.t.Errorf("refused request: %v", err)
	}
}

func (s *suite) enroll() {
	ctx := s.t.Context()
	q, signed := s.request("phone-1"), s.sign(Noon, "phone-1")
	s.must(s.enrollWith(q, signed, Noon.Add(time.Minute)))
	got, err := s.Request(ctx, q.ID)
	if err != nil || got.State != directory.Used || string(got.Secret) != "bound" || got.Serial != serialOf(signed) || !bytes.Equal(got.KeyHash, signed.KeyHash) {
		s.t.Errorf("request %+v, %v", got, err)
	}
	c, err := s.Certificate(ctx, serialOf(signed))
	if err != nil || !bytes.Equal(c.DER, signed.Certificate.Raw) || c.Device != "phone-1" || c.Request != q.ID.String() || c.Profile != ca.Device ||
		c.Authority != s.issuer.ID() || !c.NotAfter.Equal(signed.Certificate.NotAfter) || !c.Revoked.IsZero() {
		s.t.Errorf("certificate %+v, %v", c, err)
	}
	v, err := s.Device(ctx, "phone-1")
	if err != nil || !v.Open || v.User != "bob" || !slices.Equal(v.Groups, q.Groups) {
		s.t.Errorf("device %+v, %v", v, err)
	}
	s.want(s.enrollWith(q, s.sign(Noon, "phone-1"), Noon.Add(time.Minute)), directory.ErrNotOpen)
	late := s.request("phone-2")
	s.want(s.enrollWith(late, s.sign(Noon, "phone-2"), late.Expires), directory.ErrNotOpen)
	s.want(s.enrollWith(newRequest("phone-3"), s.sign(Noon, "phone-3"), Noon), directory.ErrNotFound)
	if got := s.story(); got != "enrolled phone-1" {
		s.t.Errorf("outbox: %s", got)
	}
	e := s.events()[0]
	if e.Serial != serialOf(signed) || e.User != "bob" || !slices.Equal(e.Groups, q.Groups) || !e.Until.Equal(signed.Certificate.NotAfter) {
		s.t.Errorf("event %+v", e)
	}
}

func (s *suite) enrollMany() {
	q := s.request("phone-1")
	const n = 50
	signed := make([]directory.Signed, n)
	for i := range signed {
		signed[i] = s.sign(Noon, "phone-1")
	}
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = s.enrollWith(q, signed[i], Noon) })
	}
	wg.Wait()
	won := 0
	for i, err := range errs {
		if err == nil {
			won++
			if got, err := s.Request(s.t.Context(), q.ID); err != nil || got.Serial != serialOf(signed[i]) {
				s.t.Errorf("request has serial %s, %v", got.Serial, err)
			}
		} else {
			s.want(err, directory.ErrNotOpen)
		}
	}
	all, err := s.Certificates(s.t.Context(), directory.CertificateFilter{})
	if err != nil || won != 1 || len(all) != 1 {
		s.t.Errorf("%d won, %d certificates, %v", won, len(all), err)
	}
}

func (s *suite) keys() {
	ctx := s.t.Context()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	s.must(s.enrollWith(s.request("phone-1"), s.signFor(Noon, "phone-1", key), Noon))
	other := s.request("phone-2")
	s.want(s.enrollWith(other, s.signFor(Noon, "phone-2", key), Noon), directory.ErrKeyTaken)
	// The request is still good, and nothing is left of the attempt.
	if _, err := s.Device(ctx, "phone-2"); !errors.Is(err, directory.ErrNotFound) {
		s.t.Errorf("device of a refused enrollment: %v", err)
	}
	s.must(s.enrollWith(other, s.sign(Noon, "phone-2"), Noon))
	// The key stays with its device, also after its end.
	s.must(s.CloseDevice(ctx, alice, "phone-1", ca.CessationOfOperation, Noon))
	s.want(s.enrollWith(s.request("phone-3"), s.signFor(Noon, "phone-3", key), Noon), directory.ErrKeyTaken)
	s.must(s.enrollWith(s.request("phone-1"), s.signFor(Noon, "phone-1", key), Noon))
}

func (s *suite) anew() {
	ctx := s.t.Context()
	first := s.enrolled("phone-1")
	q := newRequest("phone-1")
	q.Groups = []string{"board"}
	s.must(s.CreateRequest(ctx, alice, q, 100))
	second := s.sign(Noon, "phone-1")
	s.must(s.enrollWith(q, second, Noon.Add(time.Hour)))
	c, err := s.Certificate(ctx, serialOf(first))
	if err != nil || c.Revoked.IsZero() || c.Reason != ca.Superseded {
		s.t.Errorf("older certificate %+v, %v", c, err)
	}
	if v, err := s.Device(ctx, "phone-1"); err != nil || !slices.Equal(v.Groups, q.Groups) {
		s.t.Errorf("device %+v, %v", v, err)
	}
	if got := s.story(); got != "enrolled phone-1, revoked phone-1, enrolled phone-1" {
		s.t.Errorf("outbox: %s", got)
	}
	if got := s.actions(); got != "request enroll request supersede enroll" {
		s.t.Errorf("audit: %s", got)
	}
}

func (s *suite) revoke() {
	ctx := s.t.Context()
	first, _ := s.enrolled("phone-1"), s.enrolled("phone-2")
	s.must(s.Revoke(ctx, alice, first.Certificate.SerialNumber, ca.KeyCompromise, Noon.Add(time.Hour)))
	s.want(s.Revoke(ctx, alice, first.Certificate.SerialNumber, ca.Unspecified, Noon), directory.ErrRevoked)
	s.want(s.Revoke(ctx, alice, s.issuer.Certificate().SerialNumber, ca.Unspecified, Noon), directory.ErrNotFound)
	c, err := s.Certificate(ctx, serialOf(first))
	if err != nil || !c.Revoked.Equal(Noon.Add(time.Hour)) || c.Reason != ca.KeyCompromise {
		s.t.Errorf("certificate %+v, %v", c, err)
	}
	open := s.request("phone-2")
	s.must(s.CloseDevice(ctx, alice, "phone-2", ca.CessationOfOperation, Noon))
	s.want(s.CloseDevice(ctx, alice, "phone-2", ca.CessationOfOperation, Noon), directory.ErrClosed)
	s.want(s.CloseDevice(ctx, alice, "phone-9", ca.CessationOfOperation, Noon), directory.ErrNotFound)
	if q, err := s.Request(ctx, open.ID); err != nil || q.State != directory.Cancelled || q.Secret != nil {
		s.t.Errorf("request of a closed device %+v, %v", q, err)
	}
	if got := s.story(); got != "enrolled phone-1, enrolled phone-2, revoked phone-1, revoked phone-2, closed phone-2" {
		s.t.Errorf("outbox: %s", got)
	}
	valid, err := s.Certificates(ctx, directory.CertificateFilter{ValidAt: Noon})
	if err != nil || len(valid) != 0 {
		s.t.Errorf("still valid: %v, %v", valid, err)
	}
}

func (s *suite) expire() {
	ctx := s.t.Context()
	open, used := s.request("phone-1"), s.request("phone-2")
	s.must(s.enrollWith(used, s.sign(Noon, "phone-2"), Noon))
	early := open.Expires.Add(-time.Microsecond)
	if n, err := s.Expire(ctx, alice, early, 10); err != nil || n != 0 {
		s.t.Errorf("too early: %d, %v", n, err)
	}
	if n, err := s.Expire(ctx, alice, open.Expires, 1); err != nil || n != 1 {
		s.t.Errorf("first: %d, %v", n, err)
	}
	if n, err := s.Expire(ctx, alice, open.Expires, 10); err != nil || n != 1 {
		s.t.Errorf("rest: %d, %v", n, err)
	}
	for id, want := range map[otp.ID]directory.State{open.ID: directory.Expired, used.ID: directory.Used} {
		if q, err := s.Request(ctx, id); err != nil || q.State != want || q.Secret != nil {
			s.t.Errorf("want %s without a secret: %+v, %v", want, q, err)
		}
	}
}

func (s *suite) guesses() {
	ctx := s.t.Context()
	q := s.request("phone-1")
	s.must(s.Guessed(ctx, alice, q.ID, 4, 10, Noon))
	if got, err := s.Request(ctx, q.ID); err != nil || got.State != directory.Open || got.Guesses != 4 {
		s.t.Errorf("%+v, %v", got, err)
	}
	s.must(s.Guessed(ctx, alice, q.ID, 6, 10, Noon))
	if got, err := s.Request(ctx, q.ID); err != nil || got.State != directory.Exhausted || got.Secret != nil || got.Guesses != 10 {
		s.t.Errorf("%+v, %v", got, err)
	}
	s.want(s.Guessed(ctx, alice, q.ID, 1, 10, Noon), directory.ErrNotFound)
	s.want(s.enrollWith(q, s.sign(Noon, "phone-1"), Noon), directory.ErrNotOpen)
}

func (s *suite) auditStays() {
	s.enrolled("phone-1")
	s.must(s.AddAudit(s.t.Context(), directory.Entry{At: Noon, By: device, Action: directory.ActRefuse, Request: "x", Detail: "unknown"}))
	all, err := s.Audit(s.t.Context(), 1, 0)
	s.must(err)
	if len(all) != 2 || all[0].Action != directory.ActEnroll || all[0].Device != "phone-1" || all[0].By != device || all[1].Detail != "unknown" || !all[1].At.Equal(Noon) {
		s.t.Errorf("audit %+v", all)
	}
	for _, statement := range []string{"UPDATE directory_audit SET actor = 'nobody'", "DELETE FROM directory_audit"} {
		if _, err := s.DB().ExecContext(s.t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append-only") {
			s.t.Errorf("%s: %v", statement, err)
		}
	}
}

func (s *suite) takeOver() {
	ctx := s.t.Context()
	r := ca.Record{Number: 41, Issued: []ca.Issued{
		{Serial: "ab", Profile: ca.Gateway, Name: "vpn.example.org", IssuedAt: Noon, NotBefore: Noon, NotAfter: Noon.Add(time.Hour), SHA256: "00ff"},
		{Serial: "cd", Profile: ca.Device, Name: "phone-9", IssuedAt: Noon, NotBefore: Noon, NotAfter: Noon.Add(time.Hour), SHA256: "00fe", RevokedAt: Noon, Reason: ca.KeyCompromise},
	}}
	for range 2 {
		s.must(s.TakeOver(ctx, alice, s.issuer.ID(), r, Noon))
	}
	all, err := s.Certificates(ctx, directory.CertificateFilter{})
	if err != nil || len(all) != 2 || all[0].Serial != "ab" || all[1].Reason != ca.KeyCompromise || all[1].Device != "" {
		s.t.Errorf("certificates %+v, %v", all, err)
	}
	l := s.publish(directory.Publish{Now: Noon})
	if list := s.parse(l.Complete); l.Number != 42 || len(list.RevokedCertificateEntries) != 1 {
		s.t.Errorf("list %d with %d entries", l.Number, len(list.RevokedCertificateEntries))
	}
}
