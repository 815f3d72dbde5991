package accounts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

func showing(t *testing.T, chain ...*x509.Certificate) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/dm", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.TLS = &tls.ConnectionState{PeerCertificates: chain}
	return r
}

// Whoever shows a certificate is the device of its record, or nobody.
func TestIdentity(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t))
	other := newWorld(t, databasetest.SQLite(t))
	good, gone := w.enroll("phone-1"), w.enroll("phone-2")
	w.revoke(gone, ca.KeyCompromise)
	admin := w.sign(ca.Admin, "carol")
	w.must(w.directory.Certify(t.Context(), alice, admin, w.clock.Now()))
	foreign := other.enroll("phone-1")
	behind := w.sign(ca.Device, "phone-1").Certificate
	for _, tt := range []struct {
		name  string
		chain []*x509.Certificate
		why   int // -1: let in
	}{
		{"good", []*x509.Certificate{good}, -1},
		{"with its issuer", []*x509.Certificate{good, w.issuer.Certificate()}, -1},
		{"nothing", nil, noCertificate},
		{"another installation's", []*x509.Certificate{foreign, other.issuer.Certificate()}, untrusted},
		{"with too many", []*x509.Certificate{admin.Certificate, good, good, good, good, good}, untrusted},
		{"an administrator's", []*x509.Certificate{admin.Certificate}, otherInstance},
		{"the CA's own", []*x509.Certificate{w.issuer.Certificate()}, unrecorded},
		{"behind the directory's back", []*x509.Certificate{behind}, unrecorded},
		{"revoked", []*x509.Certificate{gone}, revoked},
	} {
		before := w.identity.Refused()
		device, err := w.identity.Identify(showing(t, tt.chain...))
		if tt.why < 0 {
			if device != "phone-1" || err != nil {
				t.Errorf("%s: %q, %v", tt.name, device, err)
			}
			continue
		}
		name := reasonNames[tt.why]
		if after := w.identity.Refused(); !errors.Is(err, server.ErrRefused) || device != "" || after[name] != before[name]+1 {
			t.Errorf("%s: %q, %v, refused %v", tt.name, device, err, after)
		}
	}
	// Its time is over, although somebody has just looked.
	w.clock.Add(good.NotAfter.Sub(w.clock.Now()) - time.Millisecond)
	if _, err := w.identity.Identify(showing(t, good)); err != nil {
		t.Errorf("in its last moment: %v", err)
	}
	w.clock.Add(2 * time.Millisecond)
	if _, err := w.identity.Identify(showing(t, good)); !errors.Is(err, server.ErrRefused) {
		t.Errorf("after its end: %v", err)
	}
}

// counting looks into the record.
type counting struct {
	Record
	n   int
	err error
}

func (c *counting) Certificate(ctx context.Context, serial string) (directory.Certificate, error) {
	c.n++
	if c.err != nil {
		return directory.Certificate{}, c.err
	}
	return c.Record.Certificate(ctx, serial)
}

// One look for the messages of a session; a revocation counts at once where its
// event was heard, and soon elsewhere.
func TestIdentityRemembers(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t))
	record := &counting{Record: w.directory}
	w.identity.o.Record = record
	c := w.enroll("phone-1")
	come := func() error {
		_, err := w.identity.Identify(showing(t, c))
		return err
	}
	for range 5 {
		w.must(come())
	}
	if record.n != 1 {
		t.Errorf("%d looks into the record", record.n)
	}
	w.clock.Add(recheck)
	w.must(come())
	if record.n != 2 {
		t.Errorf("%d looks, want another one after a while", record.n)
	}
	// A database that is away is nobody's fault, and lets nobody in.
	w.clock.Add(recheck)
	record.err = directory.ErrUnavailable
	if err := come(); !errors.Is(err, directory.ErrUnavailable) || errors.Is(err, server.ErrRefused) {
		t.Errorf("without a database: %v", err)
	}
	record.err = nil
	w.must(come())
	w.must(w.directory.Revoke(t.Context(), alice, c.SerialNumber, ca.KeyCompromise, w.clock.Now()))
	if err := come(); err != nil {
		t.Errorf("before anybody heard: %v", err)
	}
	w.follow()
	if err := come(); !errors.Is(err, server.ErrRefused) {
		t.Errorf("after the event: %v", err)
	}
}

// Who shows no certificate is let through where one is optional, and proves who it
// is otherwise.
func TestOptional(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t))
	w.identity.o.Optional = true
	if device, err := w.identity.Identify(showing(t)); device != "" || err != nil {
		t.Errorf("%q, %v", device, err)
	}
	foreign := newWorld(t, databasetest.SQLite(t)).enroll("phone-1")
	if _, err := w.identity.Identify(showing(t, foreign)); !errors.Is(err, server.ErrRefused) {
		t.Errorf("a bad certificate: %v", err)
	}
}
