package fleet_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
)

// revocation of a certificate, as enrollment tells it.
func (w *world) revocation(c *x509.Certificate) fleet.Entry {
	return fleet.Entry{
		Kind: fleet.Revoked, Issuer: sha256.Sum256(w.issuer.Chain()[0].RawSubjectPublicKeyInfo), Serial: string(c.SerialNumber.Bytes()),
		Reason: 1, At: time.Now(), Until: c.NotAfter.AddDate(1, 0, 0),
	}
}

// certificate that the gateway has.
func (g *gateway) certificate(t testing.TB) *x509.Certificate {
	t.Helper()
	c, err := g.TLS().GetCertificate(nil)
	must(t, err)
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	must(t, err)
	return leaf
}

// revokedMeanwhile: a gateway's certificate is revoked while it is renewed, before
// it is given to the gateway, or before the manager has heard that the gateway has
// it. Then the gateway is cut off, and has no other one.
func revokedMeanwhile(t *testing.T, w *world) {
	var f *fleet.Fleet
	var signed atomic.Pointer[x509.Certificate] // to be revoked at once
	var heard atomic.Pointer[func()]            // when the gateway has answered
	revoke := func(leaf *x509.Certificate) {
		w.outbox.tell(w.revocation(leaf))
		if err := f.Follow(t.Context()); err != nil {
			t.Error(err)
		}
	}
	var atOnce atomic.Bool
	f, _ = w.manager(t, func(o *fleet.Options) {
		sign := o.Sign
		o.Sign = func(ctx context.Context, g push.Gateway, r *x509.CertificateRequest) ([]byte, error) {
			chain, err := sign(ctx, g, r)
			if err != nil {
				return nil, err
			}
			block, _ := pem.Decode(chain)
			leaf, err := x509.ParseCertificate(block.Bytes)
			signed.Store(leaf)
			if atOnce.Load() {
				revoke(leaf)
			}
			return chain, err
		}
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return reads{c, &heard}, err
		}
	})
	for _, when := range []string{"before", "after"} {
		name := "revoked-" + when
		g := w.gateway(t, name, filepath.Join(t.TempDir(), name), catest.NewKey(t))
		must(t, f.AddGateway(t.Context(), g.Gateway, g.known))
		status := func() fleet.Status {
			all, err := f.Status(t.Context())
			must(t, err)
			for _, s := range all {
				if s.Name == name {
					return s
				}
			}
			t.Fatalf("%s is gone", name)
			return fleet.Status{}
		}
		eventually(t, name+" is connected", func() bool { return status().Connected })
		first := g.certificate(t)
		if when == "before" {
			atOnce.Store(true)
		} else {
			once := func() {
				if g.certificate(t).Equal(first) {
					return // it is something else that was read
				}
				if p := heard.Swap(nil); p != nil {
					revoke(signed.Load())
				}
			}
			heard.Store(&once)
		}
		w.clock.add(first.NotAfter.Sub(w.clock.Now()) * 3 / 4)
		// What went wrong with it is the manager's to log; another keeper may be at it.
		f.Keep(t.Context())
		eventually(t, name+" is cut off", func() bool { s := status(); return s.Revoked && !s.Connected })
		atOnce.Store(false)
		heard.Store(nil)
		has := g.certificate(t)
		if when == "before" && !has.Equal(first) {
			t.Errorf("%s was given a certificate that is revoked", name)
		}
		w.clock.add(has.NotAfter.Sub(w.clock.Now()))
		must(t, f.Keep(t.Context()))
		if !g.certificate(t).Equal(has) {
			t.Errorf("%s has a new certificate", name)
		}
		must(t, f.RemoveGateway(t.Context(), name))
	}
}

// reads calls what is there whenever something was read.
type reads struct {
	net.Conn
	then *atomic.Pointer[func()]
}

func (r reads) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	if then := r.then.Load(); then != nil {
		(*then)()
	}
	return n, err
}
