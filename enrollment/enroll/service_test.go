package enroll_test

import (
	"bytes"
	"crypto"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
)

var (
	noon   = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	admin  = directory.By{Name: "alice", Source: netip.MustParseAddr("10.0.0.5")}
	phone  = netip.MustParseAddr("198.51.100.7")
	sealer = bytes.Repeat([]byte{7}, enroll.SealKeySize)
)

// clock that the test turns.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type world struct {
	*enroll.Service
	t     testing.TB
	clock *clock
	ca    *ca.CA
	dir   *directory.SQL
}

func newWorld(t testing.TB, d *directory.SQL, p enroll.Policy) *world {
	t.Helper()
	var err error
	w := &world{t: t, clock: &clock{now: noon}, ca: catest.New(t, noon), dir: d}
	w.Service, err = enroll.New(t.Context(), enroll.Options{
		Directory: d, Issuer: w.ca.Issuer(), SealKey: sealer, Policy: p, Now: w.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) request(device string) otp.Code {
	w.t.Helper()
	_, code, err := w.CreateRequest(w.t.Context(), admin, enroll.NewRequest{User: "Bob", Email: "bob@example.org", Device: device, Groups: []string{"sales"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return code
}

// by password, as EST, SCEP and Windows do it.
func byPassword(code otp.Code, key crypto.PublicKey) enroll.Application {
	return enroll.Application{Skin: "est", Source: phone, ID: code.ID, Proof: enroll.Proof{Password: &code.Password}, Key: key}
}

// by an authentication code, as our own protocol does it.
func byCode(t testing.TB, code otp.Code, key crypto.PublicKey) enroll.Application {
	hash, err := otp.HashPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return enroll.Application{Skin: "join", Source: phone, ID: code.ID, Key: key, Proof: enroll.Proof{Verify: func(k []byte) bool {
		return bytes.Equal(k, otp.Bind(code.Password.Key(code.ID), hash))
	}}}
}

func wantRefusal(t testing.TB, err error, want enroll.Reason) {
	t.Helper()
	var r *enroll.Refusal
	if !errors.As(err, &r) || r.Reason != want {
		t.Errorf("got %v, want a refusal: %s", err, want)
	}
}

// TestOneDevice: a request, a certificate, the same one again, and nothing for
// anybody else.
func TestOneDevice(t *testing.T) {
	for name, apply := range map[string]func(otp.Code, crypto.PublicKey) enroll.Application{
		"password": byPassword,
		"code":     func(c otp.Code, k crypto.PublicKey) enroll.Application { return byCode(t, c, k) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, directorytest.SQLite(t), enroll.Policy{})
			code, key := w.request("Phone-1"), catest.NewKey(t)
			first, err := w.Enroll(t.Context(), apply(code, key.Public()))
			if err != nil {
				t.Fatal(err)
			}
			c := first.Certificate
			if c.Subject.CommonName != "phone-1" || !slices.ContainsFunc(c.Policies, w.ca.InstanceOID().Equal) || !key.PublicKey.Equal(c.PublicKey) {
				t.Errorf("certificate of %s with policies %v", c.Subject, c.Policies)
			}
			if first.User != "bob" || first.Again || len(first.Chain) != 2 || !first.RenewFrom.Equal(c.NotAfter.Add(-ca.DeviceLifetime/3)) {
				t.Errorf("issued %+v", first)
			}
			again, err := w.Enroll(t.Context(), apply(code, key.Public()))
			if err != nil || !again.Again || !again.Certificate.Equal(c) {
				t.Errorf("the answer was lost: %+v, %v", again, err)
			}
			_, err = w.Enroll(t.Context(), apply(code, catest.NewKey(t).Public()))
			wantRefusal(t, err, enroll.Used)
			wrong := code
			wrong.Password[0] ^= 1
			_, err = w.Enroll(t.Context(), apply(wrong, key.Public()))
			wantRefusal(t, err, enroll.Used)
			wrong.ID[0] ^= 1
			_, err = w.Enroll(t.Context(), apply(wrong, key.Public()))
			wantRefusal(t, err, enroll.Unknown)
		})
	}
}
