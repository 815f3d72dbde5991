package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

// A broken file changes nothing, whatever is broken: not the sessions, not the
// leases, not what the next reload compares with.
func TestReloadOfABrokenFile(t *testing.T) {
	breaks := map[string][]string{
		"unknown key":         {"  static:", "  statik:"},
		"not YAML":            {"gateway:", "gateway: ["},
		"a file that is gone": {"pki/crl.pem", "pki/none.pem"},
		"key of nobody":       {"key: \"gateway.key\"", "key: \"pki/root.key\""},
	}
	for name, edit := range breaks {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			before := *r.config
			builtBefore := r.built
			r.edit(t, edit...)
			_, err := r.Reload()
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), r.file) {
				t.Errorf("error doesn't name the file: %v", err)
			}
			if len(r.sessions.updates) != 0 || len(r.leases.configs) != 0 || r.built != builtBefore || !r.loaded.Equal(time.Unix(1700000000, 0)) {
				t.Error("something was changed")
			}
			if keys := config.NeedRestart(&before, r.config); keys != nil {
				t.Errorf("%v changed", keys)
			}
			if s := r.snapshot(); s.ReloadsFailed != 1 {
				t.Errorf("%d failures counted, want 1", s.ReloadsFailed)
			}
		})
	}
}

// A good file reaches sessions, leases, routes and the log; what needs a restart
// is named and keeps running.
func TestReload(t *testing.T) {
	r := newRig(t)
	r.edit(t, "gateway:\n", "log: {level: debug}\ngateway:\n", "interface: eth1", "interface: eth2", "10.9.0.0/16", "10.8.0.0/16",
		"  static:", "  ike: {liveness: {idle: 1m}, parking: {idle: 2h}}\n  records: {file: sessions.jsonl, interim: 3m}\n  static:\n    exclude: [10.8.0.9]")
	result, err := r.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if len(result.NeedRestart) != 1 || result.NeedRestart[0] != "gateway.internal.interface" {
		t.Errorf("need a restart: %v", result.NeedRestart)
	}
	if len(r.sessions.updates) != 1 {
		t.Fatalf("sessions were told %+v", r.sessions.updates)
	}
	if u := r.sessions.updates[0]; u.Liveness.Idle != time.Minute || u.Parking.Idle != 2*time.Hour || u.Records.Interim != 3*time.Minute {
		t.Errorf("sessions were told %+v", u)
	}
	if len(r.leases.configs) != 1 || r.leases.configs[0].Pools[0].String() != "10.8.0.0/16" || len(r.leases.configs[0].Exclude) != 2 {
		t.Errorf("leases were told %+v", r.leases.configs)
	}
	if len(r.inform.told) != 1 || r.inform.told[0].Server.String() != "10.9.255.254" {
		t.Errorf("DHCP was told %+v", r.inform.told)
	}
	if len(r.routes.pools) != 1 || r.routes.pools[0][0].String() != "10.8.0.0/16" {
		t.Errorf("routes: %v", r.routes.pools)
	}
	if r.level.Level() != slog.LevelDebug {
		t.Error("the log's level is the old one")
	}
	// Back to what runs: nothing waits for a restart any more.
	r.edit(t, "eth2", "eth1")
	if result, err = r.Reload(); err != nil || len(result.NeedRestart) != 0 || len(r.Status().NeedRestart) != 0 {
		t.Errorf("need a restart: %v, %v", result.NeedRestart, err)
	}
}

// Everything about the negotiation follows a reload: algorithms, legacy
// switches, lifetimes, DNS, networks, and a new certificate in the same file.
func TestReloadOfNegotiation(t *testing.T) {
	r := newRig(t)
	before := r.built
	dir := filepath.Dir(r.file)
	other, err := pki.Setup(time.Now(), pki.SetupOptions{Dir: filepath.Join(dir, "pki2"), ConfigDir: filepath.Join(dir, "2"), DNSNames: []string{"vpn.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{other.Certificate: r.config.Path(r.config.Gateway.Identity.Credentials[0].Certificate), other.Key: r.config.Path(r.config.Gateway.Identity.Credentials[0].Key)} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.edit(t, "  static:", `  ike: {proposals: [aes256-sha384-ecp384], lifetime: {rekey: 1h, jitter: 1m, hard: 2h}}
  esp: {proposals: [chacha20poly1305], esn: false}
  legacy: {modp_1024: true}
  redirect: {to: vpn2.example.com}
  static:
    dns: [10.2.0.53]
    domains: [corp.example.com]`)
	result, err := r.Reload()
	if err != nil || len(result.NeedRestart) != 0 {
		t.Fatalf("need a restart: %v, %v", result.NeedRestart, err)
	}
	u := r.sessions.updates[0]
	if got := u.IKE.Suites; len(got) != 2 || got[0].Group != 20 || got[1].Group != 2 || !u.IKE.Legacy.MODP1024 {
		t.Errorf("suites %v", got)
	}
	if len(u.IKE.ESP) != 1 || u.IKE.ESN || u.IKE.IKELife.Hard != 2*time.Hour || u.IKE.RedirectTo != "vpn2.example.com" {
		t.Errorf("ESP %v, ESN %v, %+v, redirect to %q", u.IKE.ESP, u.IKE.ESN, u.IKE.IKELife, u.IKE.RedirectTo)
	}
	if len(u.Assign.DNS) != 1 || len(u.Assign.Domains) != 1 {
		t.Errorf("%+v", u.Assign)
	}
	if bytes.Equal(u.IKE.Credentials[0].Chain[0], before.IKE.Credentials[0].Chain[0]) {
		t.Error("still the old certificate")
	}
	if s := r.Status(); s.RedirectTo != "vpn2.example.com" || len(s.Warnings) == 0 {
		t.Errorf("redirected to %q, warnings %v", s.RedirectTo, s.Warnings)
	}
}

// Session records go on in a new file after a rotation, and a file that can't
// be opened changes nothing.
func TestReloadReopensRecords(t *testing.T) {
	r := newRig(t)
	r.edit(t, "  static:", "  records: {file: sessions.jsonl}\n  static:")
	name := filepath.Join(filepath.Dir(r.file), "sessions.jsonl")
	lines := func(name string) int {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "\n")
	}
	reload := func() {
		t.Helper()
		if _, err := r.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	reload()
	r.records.Write(session.Record{Device: "one"})
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	reload()
	r.records.Write(session.Record{Device: "two"})
	if a, b := lines(name+".1"), lines(name); a != 1 || b != 1 {
		t.Errorf("%d and %d lines, want one each", a, b)
	}
	updates := len(r.sessions.updates)
	r.edit(t, "sessions.jsonl", "none/sessions.jsonl")
	if _, err := r.Reload(); err == nil || !strings.Contains(err.Error(), "gateway.records.file") || len(r.sessions.updates) != updates {
		t.Errorf("a file that can't be opened: %v", err)
	}
	r.records.Write(session.Record{Device: "three"})
	if n := lines(name); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
	if s := r.snapshot(); s.RecordsWritten != 3 || s.RecordErrors != 0 {
		t.Errorf("%d written, %d errors", s.RecordsWritten, s.RecordErrors)
	}
}

// If one refuses what those before it took, they go back.
func TestReloadIsAllOrNothing(t *testing.T) {
	r := newRig(t)
	r.sessions.refuse = errors.New("no")
	r.edit(t, "10.9.0.0/16", "10.8.0.0/16", "  static:", "  static:\n    exclude: [10.8.0.9]")
	if _, err := r.Reload(); err == nil {
		t.Fatal("accepted")
	}
	last := r.leases.configs[len(r.leases.configs)-1]
	if len(r.leases.configs) != 2 || len(last.Exclude) != 1 {
		t.Errorf("leases were told %+v", r.leases.configs)
	}
	if n := len(r.inform.told); n != 2 {
		t.Errorf("DHCP was told %d times, want 2", n)
	}
	if n := len(r.routes.pools); n != 2 || r.routes.pools[1][0].String() != "10.9.0.0/16" {
		t.Errorf("routes: %v", r.routes.pools)
	}
	r.routes.refuse = errors.New("no route")
	if _, err := r.Reload(); err == nil || len(r.leases.configs) != 2 {
		t.Errorf("%v, leases were told %+v", err, r.leases.configs)
	}
}
