package enroll_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// A stranger's user name that no database takes is an unknown one: it costs him
// a try, and looks like no outage.
func TestAttackNamesOfNobody(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *directory.SQL{
		"sqlite":   func(t *testing.T) *directory.SQL { return directorytest.SQLite(t) },
		"postgres": func(t *testing.T) *directory.SQL { return directorytest.StartPostgres(t).Directory(t) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, open(t), enroll.Policy{SourceBurst: 4})
			password := otp.New().Password
			for _, user := range []string{"bob\x00", "\xff\xfe", "bob\u0000@example.org", "\u009b2J"} {
				_, err := w.Enroll(t.Context(), enroll.Application{
					Skin: "est", Source: phone, User: user, Proof: enroll.Proof{Password: &password}, Key: catest.NewKey(t).Public(),
				})
				wantRefusal(t, err, enroll.Unknown)
			}
			_, err := w.Check(t.Context(), otp.ID{}, "\x00", &password, phone)
			wantRefusal(t, err, enroll.Limited)
			if m := w.Metrics(); m.Failed != 0 {
				t.Errorf("%d failures", m.Failed)
			}
		})
	}
}

// Names that would command an administrator's terminal, or read otherwise than
// they are, are refused.
func TestAttackNamesThatAct(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{})
	for _, user := range []string{"bob\x1b[2J", "bob\u009b2J", "bob\u202egro.elpmaxe", "bo\u2028b", "bob\u00a0smith", "\u200bbob"} {
		_, _, err := w.CreateRequest(t.Context(), admin, enroll.NewRequest{User: user, Device: "phone-1"})
		if !errors.Is(err, enroll.ErrInvalid) {
			t.Errorf("user %q: %v", user, err)
		}
	}
	for _, user := range []string{"zoë", "王芳", "боб@example.org"} {
		if _, _, err := w.CreateRequest(t.Context(), admin, enroll.NewRequest{User: user, Device: "phone-" + otp.New().ID.String()}); err != nil {
			t.Errorf("user %q: %v", user, err)
		}
	}
}

// No device gets a certificate with a gateway's name in it, even from an
// administrator: other devices would take it for the gateway.
func TestAttackDeviceNamedAsGateway(t *testing.T) {
	a := catest.New(t, noon)
	s, err := enroll.New(t.Context(), enroll.Options{
		Directory: directorytest.SQLite(t), Issuer: a.Issuer(), SealKey: sealer, Now: func() time.Time { return noon },
		Configuration: enroll.Configuration{Gateways: []enroll.Gateway{
			{Address: "203.0.113.1", Identity: "VPN.example.com"}, {Address: "vpn2.example.com"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vpn.example.com", "VPN2.example.com", "203.0.113.1"} {
		_, _, err := s.CreateRequest(t.Context(), admin, enroll.NewRequest{User: "bob", Device: name})
		if !errors.Is(err, enroll.ErrInvalid) {
			t.Errorf("device %s: %v", name, err)
		}
	}
	if _, _, err := s.CreateRequest(t.Context(), admin, enroll.NewRequest{User: "bob", Device: "vpn3.example.com"}); err != nil {
		t.Error(err)
	}
}

// A network of many addresses that tries as fast as a listener lets it doesn't
// close a request of the default life: a user's name is enough to try, and each
// address has a limit of its own.
func TestAttackCloseByANetwork(t *testing.T) {
	const perSecond = 50 // enrollment.limits.requests_per_second
	p := newWorld(t, directorytest.SQLite(t), enroll.Policy{}).Policy()
	if most := int64(p.Valid.Seconds()) * perSecond; most >= p.Guesses {
		t.Errorf("%d guesses in %s from one network close a request at %d", most, p.Valid, p.Guesses)
	}
}

// Gateways read complete lists only: a device that is closed is on one soon,
// however long the list is.
func TestAttackLongListIsCompleteSoon(t *testing.T) {
	w := newWorld(t, directorytest.SQLite(t), enroll.Policy{CompleteUpTo: 1})
	var serials []*big.Int
	for i := range 4 {
		issued, err := w.Enroll(t.Context(), byPassword(w.request(fmt.Sprintf("phone-%d", i)), catest.NewKey(t).Public()))
		if err != nil {
			t.Fatal(err)
		}
		serials = append(serials, issued.Certificate.SerialNumber)
	}
	revoke := func(list ...*big.Int) {
		for _, serial := range list {
			if err := w.Revoke(t.Context(), admin, serial, ca.KeyCompromise); err != nil {
				t.Fatal(err)
			}
		}
	}
	complete := func() (*x509.RevocationList, enroll.Trust) {
		trust, err := w.Trust(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(trust.CRL)
		if err != nil {
			t.Fatal(err)
		}
		return list, trust
	}
	revoke(serials[:2]...)
	if list, _ := complete(); len(list.RevokedCertificateEntries) != 2 {
		t.Fatalf("%d entries, want 2", len(list.RevokedCertificateEntries))
	}
	w.clock.turn(time.Minute)
	revoke(serials[2:]...)
	list, trust := complete()
	if len(list.RevokedCertificateEntries) != 2 || len(trust.Delta) == 0 {
		t.Fatalf("at once: %d entries, delta of %d octets", len(list.RevokedCertificateEntries), len(trust.Delta))
	}
	w.clock.turn(15 * time.Minute)
	later, trust := complete()
	if len(later.RevokedCertificateEntries) != 4 || len(trust.Delta) != 0 || later.Number.Cmp(list.Number) <= 0 {
		t.Errorf("a quarter of an hour later: %d entries, number %v, delta of %d octets", len(later.RevokedCertificateEntries), later.Number, len(trust.Delta))
	}
	w.clock.turn(time.Hour)
	if still, _ := complete(); still.Number.Cmp(later.Number) != 0 {
		t.Errorf("number %v without a revocation, before %v", still.Number, later.Number)
	}
}
