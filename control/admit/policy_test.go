package admit_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/admit"
)

func TestConfigThatCannotBeUsed(t *testing.T) {
	w := newWorld(t)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak := template("weak")
	weak.IsCA, weak.BasicConstraintsValid = true, true
	for _, test := range []struct {
		name   string
		change func(*admit.Config)
		want   string
	}{
		{"no root", func(c *admit.Config) { c.Roots = nil }, "no root"},
		{"nil root", func(c *admit.Config) { c.Roots = append(c.Roots, nil) }, "root certificate 2"},
		{"device as root", func(c *admit.Config) { c.Roots = []*x509.Certificate{w.device.certificate} }, "is not a CA"},
		{"device as intermediate", func(c *admit.Config) { c.Intermediates = []*x509.Certificate{w.device.certificate} }, "intermediate certificate 1"},
		{"root that may not sign", func(c *admit.Config) {
			c.Roots = []*x509.Certificate{newCA(t, nil, "x", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }).certificate}
		}, "may not sign"},
		{"weak root", func(c *admit.Config) { c.Roots = []*x509.Certificate{sign(t, nil, weak, p224).certificate} }, "P-256"},
		{"empty OID", func(c *admit.Config) { c.InstanceOIDs = []x509.OID{{}} }, "instance OID 1"},
		{"any policy", func(c *admit.Config) { c.InstanceOIDs = []x509.OID{parseOID("2.5.29.32.0")} }, "stands for anything"},
		{"any usage", func(c *admit.Config) { c.InstanceOIDs = []x509.OID{parseOID("2.5.29.37.0")} }, "stands for anything"},
		{"bad barred device", func(c *admit.Config) { c.Barred = []string{"a b"} }, "barred device"},
		{"endless chains", func(c *admit.Config) { c.MaxCertificates = 11 }, "1..10"},
		{"negative chains", func(c *admit.Config) { c.MaxCertificates = -1 }, "1..10"},
		{"unknown answer to stale lists", func(c *admit.Config) { c.StaleList = 7 }, "stale"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.config
			test.change(&c)
			policy, err := admit.New(c)
			if policy != nil || !errors.Is(err, admit.ErrConfig) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an ErrConfig with %q", err, test.want)
			}
		})
	}
}

// TestPolicyDoesNotFollowItsConfig: a reload must not change a policy that is
// in use.
func TestPolicyDoesNotFollowItsConfig(t *testing.T) {
	w := newWorld(t)
	w.config.Barred = []string{"tablet"}
	policy, err := admit.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.config.Barred[0] = "phone-1"
	w.config.InstanceOIDs[0] = theirs
	w.config.Roots[0] = newCA(t, nil, "other").certificate
	if _, err := policy.Decide(now, w.evidence); err != nil {
		t.Error(err)
	}
}
