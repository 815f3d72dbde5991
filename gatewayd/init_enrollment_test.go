package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/gatewayd/config"
)

// told runs a command and returns what it printed on both sides.
func told(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = execute(args, &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

// An enrollment server by itself: what init writes passes its own check, and is
// written once.
func TestInitEnrollment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	args := []string{"init", "enrollment", "--dir", dir, "--url", "https://enroll.example.com", "--gateway", "vpn.example.com", "--admin", "alice"}
	code, out := told(t, args...)
	if code != exitOK || !strings.Contains(out, "gatewayd run enrollment --config "+dir) {
		t.Fatalf("%d: %s", code, out)
	}
	file := filepath.Join(dir, "gatewayd.yaml")
	if code, out := told(t, "config", "check", file); code != exitOK || strings.Contains(out, "warning") {
		t.Errorf("check: %d: %s", code, out)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if code, out := told(t, args...); code == exitOK || !strings.Contains(out, "section enrollment already") {
		t.Errorf("again: %d: %s", code, out)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed (%v)", err)
	}
	for _, name := range []string{"enrollment.key", "admin.key", "pki/issuing.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v (%v)", name, info, err)
		}
	}
	if code, out := told(t, "run", "gateway", "--config", file); code == exitOK || !strings.Contains(out, "gateway: not set") {
		t.Errorf("a gateway without its section: %d: %s", code, out)
	}
}

// Beside a gateway it takes over what that says, keeps every line of it, and uses
// its CA.
func TestInitEnrollmentBesideAGateway(t *testing.T) {
	dir := t.TempDir()
	if code, out := told(t, "pki", "init", "--plain-keys", "--dir", filepath.Join(dir, "pki")); code != exitOK {
		t.Fatal(out)
	}
	file := filepath.Join(dir, "gatewayd.yaml")
	before := []byte(`# Ours.
gateway:
  external: {interface: eth0, address: 203.0.113.1}
  internal: {interface: eth1}
  identity: {id: vpn.example.com, credentials: [{certificate: gateway.pem, key: gateway.key}]}
  trust: {roots: [pki/root.pem]}
  static: {pools: [10.9.0.0/16], networks: [10.2.0.0/24], dns: [10.2.0.53]}`)
	if err := os.WriteFile(file, before, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := told(t, "init", "enrollment", "--dir", dir); code != exitOK || !strings.Contains(out, "that was there") {
		t.Fatalf("%d: %s", code, out)
	}
	after, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(after, before) {
		t.Errorf("lines of the gateway changed (%v):\n%s", err, after)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	e := cfg.Enrollment
	if g := e.Device.Gateways; len(g) != 1 || g[0].Address != "203.0.113.1" || g[0].ID != "vpn.example.com" {
		t.Errorf("gateways %+v", g)
	}
	if e.URL != "https://203.0.113.1" || len(e.Device.Networks) != 1 || len(e.Device.DNS) != 1 {
		t.Errorf("%s, %v, %v", e.URL, e.Device.Networks, e.Device.DNS)
	}
}

// What can't be known is asked for.
func TestInitEnrollmentAsks(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "--gateway: what do devices dial?"},
		{[]string{"--gateway", "vpn.example.com"}, "--url: how do devices"},
		{[]string{"--gateway", "vpn.example.com", "--url", "http://enroll.example.com"}, "expected the https URL"},
		{[]string{"--gateway", "vpn 1", "--url", "https://enroll.example.com"}, "vpn 1"},
	} {
		dir := filepath.Join(t.TempDir(), "lab")
		code, out := told(t, append([]string{"init", "enrollment", "--dir", dir}, tt.args...)...)
		if code == exitOK || !strings.Contains(out, tt.want) {
			t.Errorf("%v: %d: %s", tt.args, code, out)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%v: something was made", tt.args)
		}
	}
}

// Commands without a server say what is missing.
func TestEnrollmentWithoutAServer(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	if code, out := told(t, "enrollment", "request", "list", "--config", missing); code != exitFailed || !strings.Contains(out, "--admin-url") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out := told(t, "enrollment", "deliver", "7K2M-9QXA", "--with-password", "--config", missing); code == exitOK {
		t.Errorf("%d: %s", code, out)
	}
}
