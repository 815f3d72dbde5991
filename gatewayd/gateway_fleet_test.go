package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// firstPhone is enrollment that knows one.
type firstPhone struct{}

// Entries implements fleet.Feed.
func (firstPhone) Entries(_ context.Context, after int64, _ int) ([]fleet.Entry, error) {
	return []fleet.Entry{{Number: 1, At: time.Now(), Kind: fleet.Enrolled, Device: "phone-1", Groups: []string{"sales"}}}[min(after, 1):], nil
}

// noGateways is the fleet of a manager that has no certificate towards gateways.
func noGateways(t *testing.T, db *database.DB) *fleet.Fleet {
	t.Helper()
	oid, err := x509.ParseOID("1.2.3.4")
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.New(t.Context(), db, fleet.Options{
		Identity: push.Identity{Roots: x509.NewCertPool(), Agent: oid, Certificate: func() (*tls.Certificate, error) { return nil, errNoManagerCertificate }},
		Sign:     func(context.Context, push.Gateway, *x509.CertificateRequest) ([]byte, error) { return nil, errNoSigner },
		SealKey:  make([]byte, 32), Feed: firstPhone{}, Check: checkContent,
	})
	if err == nil {
		err = f.Follow(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestGatewayCommands on a manager: what is there, what is imported and exported,
// and what to do about what doesn't work.
func TestGatewayCommands(t *testing.T) {
	m := startManager(t)
	if out := m.do("gateway", "list"); !strings.HasPrefix(out, "GATEWAY") {
		t.Errorf("list: %q", out)
	}
	file := func(text string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "gateways.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const good = "groups:\n  staff:\n    rules:\n    - allow 10.0.0.0/8 tcp 443\npools:\n- prefix: 10.64.0.0/16\nsettings:\n  ike.lifetime.rekey: 8h\n"
	m.do("gateway", "config", "import", file(good))
	if out := m.do("gateway", "config", "export"); out != good {
		t.Errorf("exported:\n%s", out)
	}
	for text, why := range map[string]string{
		"groups:\n  staff:\n    rules: [sing]\n":               "rule 1",
		"settings:\n  identity.id: gw\n":                       "it isn't for a manager to set",
		"settings:\n  ike.lifetime.rekey@gateway-1: [1, 2]\n":  "ike.lifetime",
		"pools: [{prefix: 10.0.0.0/8}, {prefix: 10.1.0.0/16}]": "overlap",
		"pool: []\n": "unknown field",
	} {
		m.fails(exitFailed, why, "gateway", "config", "import", file(text))
	}
	m.fails(exitFailed, "gatewayd pki manager", "gateway", "add", "gw1", "127.0.0.1:1", "--host", "gw1.example.org", "--fingerprint", strings.Repeat("0", 64))
	m.fails(exitUsage, "fingerprint", "gateway", "add", "gw1.example.org")
	m.fails(exitFailed, "not found", "gateway", "drain", "gateway-1", "--to", "gw2.example.org")
	m.fails(exitUsage, "whole seconds", "gateway", "drain", "gateway-1", "--within", "1ms")
	if out := m.do("device", "access", "phone-1"); !strings.Contains(out, "released") || !strings.Contains(out, "10.64.0.1") {
		t.Errorf("access: %s", out)
	}
	m.do("role", "grant", "local:root", "security")
	if out := m.do("device", "authorise", "phone-1", "--held", "--group", "guests"); !strings.Contains(out, "in quarantine") || !strings.Contains(out, "guests") {
		t.Errorf("held: %s", out)
	}
	m.fails(exitUsage, "what shall change", "device", "authorise", "phone-1")
	if out := m.do("device", "where", "phone-1", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("where: %s", out)
	}
	m.do("gateway", "epoch")
	m.do("gateway", "sessions")
	m.do("gateway", "events")
}
