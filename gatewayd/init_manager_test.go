package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/gatewayd/config"
)

// Both servers of one host: what init writes passes its own check, and is written
// once.
func TestInitBoth(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	args := []string{"init", "manager,enrollment", "--dir", dir, "--url", "https://enroll.example.com", "--gateway", "vpn.example.com", "--admin", "alice"}
	code, out := told(t, args...)
	if code != exitOK || strings.Count(out, "Next:") != 1 || !strings.Contains(out, "gatewayd run manager,enrollment --config "+dir) {
		t.Fatalf("%d: %s", code, out)
	}
	file := filepath.Join(dir, "gatewayd.yaml")
	if code, out := told(t, "config", "check", file); code != exitOK || strings.Contains(out, "warning") {
		t.Errorf("check: %d: %s", code, out)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if address, id, _ := cfg.Management(); address != "https://enroll.example.com:8443/dm" || id != config.DefaultServerID {
		t.Errorf("devices are told %s, %s", address, id)
	}
	if cfg.Manager.Admin.First != "alice" || cfg.Client.Manager.Server != "https://127.0.0.1:8446" || cfg.Manager.Gateways.Certificate != "manager.pem" {
		t.Errorf("%+v, %+v", cfg.Manager.Admin, cfg.Client.Manager)
	}
	for _, name := range []string{"management.key", "manager.key", "enrollment.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v (%v)", name, info, err)
		}
	}
	if code, out := told(t, args...); code == exitOK || !strings.Contains(out, "section enrollment already") {
		t.Errorf("again: %d: %s", code, out)
	}
	if code, out := told(t, "init", "manager", "--dir", dir); code == exitOK || !strings.Contains(out, "section manager already") {
		t.Errorf("again, alone: %d: %s", code, out)
	}
}

// A manager elsewhere is told what it can't find out.
func TestInitManagerAsks(t *testing.T) {
	all := []string{
		"--postgres", "host=db.example.com", "--url", "https://dm.example.com:8443/dm", "--certificate", "m.pem", "--certificate-key", "m.key",
		"--root", "root.pem", "--instance-oid", "1.3.6.1.4.1.32473.1",
	}
	for n, want := range map[int]string{0: "--postgres: where", 2: "--url: how do devices", 4: "the CA is not here", 6: "--certificate and --certificate-key", 8: "the CA is not here"} {
		dir := filepath.Join(t.TempDir(), "lab")
		code, out := told(t, append([]string{"init", "manager", "--dir", dir}, all[:n]...)...)
		if code == exitOK || !strings.Contains(out, want) {
			t.Errorf("%v: %d: %s", all[:n], code, out)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%v: something was made", all[:n])
		}
	}
	dir := filepath.Join(t.TempDir(), "lab")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if code, out := told(t, append([]string{"init", "manager", "--dir", dir}, all...)...); code != exitOK || !strings.Contains(out, "gatewayd run manager --config") {
		t.Fatalf("%d: %s", code, out)
	}
	cfg, err := config.Load(filepath.Join(dir, "gatewayd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.ManagerDatabase().Postgres != "host=db.example.com" || len(cfg.Manager.Devices.Roots) != 1 {
		t.Errorf("%+v", cfg.Manager)
	}
}
