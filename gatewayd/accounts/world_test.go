package accounts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/dmlink/task"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// world is both sides in one database, and a CA.
type world struct {
	t         *testing.T
	clock     *storetest.Clock
	issuer    *ca.Issuer
	directory *directory.SQL
	store     *store.SQL
	desk      *task.Desk
	identity  *Identity
	*Devices
}

var alice = directory.By{Name: "alice"}

func newWorld(t *testing.T, db *database.DB) *world {
	t.Helper()
	w := &world{t: t, clock: storetest.NewClock(), directory: directorytest.Directory(t, db)}
	w.issuer = catest.New(t, w.clock.Now()).Issuer()
	w.must(w.directory.AddAuthority(t.Context(), w.issuer.ID(), w.issuer.Certificate()))
	w.store = storetest.Store(t, db, w.clock)
	w.desk = task.New(task.Options{Store: w.store, Provider: "Roamgate", Now: w.clock.Now})
	w.identity = NewIdentity(IdentityOptions{
		Roots: []*x509.Certificate{w.issuer.Root()}, Intermediates: []*x509.Certificate{w.issuer.Certificate()},
		Instances: []x509.OID{w.issuer.InstanceOID()}, Record: w.directory, Now: w.clock.Now,
	})
	w.Devices = w.another()
	return w
}

// another server that follows.
func (w *world) another() *Devices {
	return NewDevices(w.directory, w.store, w.desk, w.identity, w.clock.Now, slog.New(slog.DiscardHandler))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) sign(profile ca.Profile, name string) directory.Signed {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	c, err := w.issuer.Sign(w.clock.Now(), ca.Request{Profile: profile, PublicKey: key.Public(), Name: name})
	w.must(err)
	hash, err := otp.HashPublicKey(key.Public())
	w.must(err)
	return directory.Signed{Authority: w.issuer.ID(), Profile: profile, Certificate: c, KeyHash: hash}
}

// enroll a device a second after what was before.
func (w *world) enroll(name string) *x509.Certificate {
	w.t.Helper()
	w.clock.Add(time.Second)
	now := w.clock.Now()
	q := directory.Request{
		ID: otp.New().ID, Device: name, User: "bob", Groups: []string{"sales"}, Secret: []byte("sealed"), Created: now, CreatedBy: "alice", Expires: now.Add(time.Hour),
	}
	w.must(w.directory.CreateRequest(w.t.Context(), alice, q, 100))
	signed := w.sign(ca.Device, name)
	w.must(w.directory.Enroll(w.t.Context(), directory.Enrollment{Request: q.ID, Signed: signed, Secret: []byte("bound"), At: now, By: alice}))
	return signed.Certificate
}

func (w *world) revoke(c *x509.Certificate, reason ca.Reason) {
	w.t.Helper()
	w.clock.Add(time.Second)
	w.must(w.directory.Revoke(w.t.Context(), alice, c.SerialNumber, reason, w.clock.Now()))
}

func (w *world) follow() {
	w.t.Helper()
	w.must(w.Read(w.t.Context()))
}

func (w *world) open(device string) bool {
	w.t.Helper()
	v, err := w.store.Device(w.t.Context(), device)
	w.must(err)
	return v.Open
}

func (w *world) waiting(device string) int {
	w.t.Helper()
	all, err := w.store.Next(w.t.Context(), device, nil, 100)
	w.must(err)
	return len(all)
}
