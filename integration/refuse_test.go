package integration

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/peer"
)

// patience for a connection that is to fail.
const patience = 10 * time.Second

// Whoever is refused hears AUTHENTICATION_FAILED and nothing else; the exact
// reason is in the gateway's log, its drops and its metrics. What a strongSwan
// can't be brought to send is left to the tests of control/admit.
//
//	dev1 (strongSwan, a certificate with one thing wrong) -- gw (gatewayd) -- lan
func TestRefusals(t *testing.T) {
	var revoked identity
	s := newScenario(t, options{configure: func(s *scenario) {
		revoked = s.root.device(t, "dev1", keyECDSA(t))
		s.write("root.crl", s.root.revoke(t, time.Now().Add(time.Hour), revoked))
		s.conf.CRLs = []string{"root.crl"}
		s.conf.Barred = []string{"stolen"}
	}})
	stranger := newAuthority(t, "nobody's root")
	key := keyECDSA(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	device := func(change func(*x509.Certificate)) identity { return s.root.device(t, "dev1", key, change) }
	client := s.client(t, s.top.Devices[0], device(func(*x509.Certificate) {}))
	for _, c := range []struct {
		reason string
		id     identity
		change func(*peer.Connection)
	}{
		{reason: "no_certificate", id: device(func(*x509.Certificate) {}), change: func(c *peer.Connection) { c.KeepCertificate = true }},
		{reason: "untrusted_chain", id: stranger.device(t, "dev1", key)},
		{reason: "weak_key", id: s.root.device(t, "dev1", weak)},
		{reason: "weak_key", id: s.root.device(t, "dev1", keyOn(t, elliptic.P224()))},
		{reason: "not_yet_valid", id: device(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		})},
		{reason: "expired", id: device(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		})},
		{reason: "wrong_usage", id: device(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})},
		{reason: "wrong_instance", id: device(func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{append(instanceOID[:len(instanceOID)-1:len(instanceOID)-1], 2)}
		})},
		{reason: "revoked", id: revoked},
		{reason: "device_name", id: device(func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"no common name"}} })},
		{reason: "barred", id: s.root.device(t, "stolen", key)},
	} {
		t.Run(c.reason, func(t *testing.T) {
			before, err := s.gw.Dropped(s.ctx, "admit", c.reason)
			if err != nil {
				t.Fatal(err)
			}
			change := func(*peer.Connection) {}
			if c.change != nil {
				change = c.change
			}
			s.load(t, client, c.id, change)
			said, logged := len(client.Log()), len(s.gw.Log())
			if err := client.Connect(s.ctx, patience); err == nil {
				t.Fatal("connected")
			}
			if log := client.Log()[said:]; !strings.Contains(log, "received AUTHENTICATION_FAILED") {
				t.Errorf("the client heard no AUTHENTICATION_FAILED:\n%s", log)
			}
			after, err := s.gw.Dropped(s.ctx, "admit", c.reason)
			if err != nil || after != before+1 {
				t.Errorf("drops count %d refusals for %s (%v), want %d", after, c.reason, err, before+1)
			}
			if !strings.Contains(s.gw.Log()[logged:], c.reason) {
				t.Errorf("the log doesn't name %s:\n%s", c.reason, s.gw.LogTail(20))
			}
			metrics, err := s.gw.Metrics(s.ctx)
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("gatewayd_refused_total{reason=%q} %d\n", c.reason, after); !strings.Contains(metrics, want) {
				t.Errorf("metrics don't say %s", want)
			}
			if sessions := s.sessions(t); len(sessions) != 0 {
				t.Errorf("sessions %+v", sessions)
			}
		})
	}
	// The same client with nothing wrong gets in: it was the certificates.
	s.load(t, client, s.root.device(t, "dev1", key))
	s.ping(t, client, s.connect(t, client))
}
