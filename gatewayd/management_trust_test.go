package main

import (
	"crypto/sha1"
	"crypto/x509"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/agent"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/enrollment/ca"
)

func rootOf(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	a, err := ca.Create(time.Now(), ca.Options{Dir: filepath.Join(t.TempDir(), name), Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a.Issuer().Root()
}

// Roots that are pushed take the place of the file's, over a reload and a restart;
// they don't where the file says so; and with none the file's count.
func TestPushedRoots(t *testing.T) {
	r := newManagedRig(t)
	file := r.built.Admit
	first, second := rootOf(t, "first"), rootOf(t, "second")
	record := func(c *x509.Certificate) gcm.Record { return gcm.Authority{Root: true, DER: c.Raw}.Record() }
	trusts := func(step string, want ...*x509.Certificate) {
		t.Helper()
		for _, c := range []*x509.Certificate{first, second} {
			has := slices.Contains(r.built.IKE.TrustAnchors, sha1.Sum(c.RawSubjectPublicKeyInfo))
			if has != slices.Contains(want, c) {
				t.Errorf("%s: %q is a root: %t", step, c.Subject, has)
			}
		}
	}
	r.taken(t, gcm.Trust, record(first), record(second))
	trusts("two", first, second)
	before := r.built.Admit
	r.taken(t, gcm.Settings, gcm.Setting{Name: "ike.mobike", Value: "false"}.Record())
	if r.built.Admit != before || before == file {
		t.Error("the policy is another one for a setting, or the same for other roots")
	}
	for why, record := range map[string]gcm.Record{
		"no root": gcm.Authority{DER: first.Raw}.Record(), "malformed": gcm.Authority{Root: true, DER: []byte("nothing")}.Record(),
	} {
		if got := strings.Join(r.push(t, gcm.Trust, record), ""); !strings.Contains(got, why) {
			t.Errorf("%s: %q", why, got)
		}
	}
	r.taken(t, gcm.Trust, record(second))
	trusts("the second", second)
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	trusts("after a reload", second)
	if err := r.management.close(); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	trusts("after a restart", second)
	r.edit(t, "    name: gw1\n", "    name: gw1\n    device_roots: file\n")
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	trusts("with device_roots: file")
	if !slices.ContainsFunc(r.built.Warnings, func(w string) bool { return strings.Contains(w, "they aren't used") }) {
		t.Errorf("nobody is told: %q", r.built.Warnings)
	}
	r.edit(t, "    device_roots: file\n", "")
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	trusts("with the manager's again", second)
	r.taken(t, gcm.Trust)
	trusts("with none")
	if len(r.built.IKE.TrustAnchors) == 0 {
		t.Error("the file's roots don't count again")
	}
}

// Where no root that is stored is one any more the gateway doesn't start by the
// file's, unless the file says so, and takes the next ones from the manager.
func TestStoredRootsThatAreNone(t *testing.T) {
	r := newManagedRig(t)
	if err := r.management.close(); err != nil {
		t.Fatal(err)
	}
	cfg := r.management.file.Load()
	identity, err := cfg.BuildAgent()
	if err != nil {
		t.Fatal(err)
	}
	// An agent of a former gateway, which took more.
	former, err := agent.New(agent.Config{
		Gateway: "gw1", File: cfg.ManagementFile(), Host: managementHost{r.gateway, r.management},
		Check: func(*gcm.Set) []error { return nil }, Apply: func(agent.Change) []error { return nil },
		Identity: agent.Identity{Key: identity.Key, Host: cfg.ManagementHost(), Roots: identity.Roots, Manager: identity.Manager, Agent: identity.Agent},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.management.agent = former
	r.push(t, gcm.Trust, gcm.Authority{Root: true, DER: []byte("nothing")}.Record())
	if err := former.Close(); err != nil {
		t.Fatal(err)
	}
	if r.management, err = openManagement(r.gateway, cfg, r.logger); err != nil {
		t.Fatal(err)
	}
	_, _, err = r.management.start(time.Now())
	for _, want := range []string{"gateway.management.device_roots", "malformed", `"file"`, "import other roots at the manager"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it starts by %v, want an error that says %s", err, want)
		}
	}
	if err := r.management.close(); err != nil {
		t.Fatal(err)
	}
	r.edit(t, "    name: gw1\n", "    name: gw1\n    device_roots: file\n")
	r.open(t)
	if len(r.built.IKE.TrustAnchors) == 0 {
		t.Error("the file's roots don't count, although it says so")
	}
	r.edit(t, "    device_roots: file\n", "")
	if _, err := r.Reload(); err == nil || !strings.Contains(err.Error(), "gateway.management.device_roots") {
		t.Errorf("a reload goes back to what can't be used: %v", err)
	}
	root := rootOf(t, "first")
	r.taken(t, gcm.Trust, gcm.Authority{Root: true, DER: root.Raw}.Record())
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(r.built.IKE.TrustAnchors, sha1.Sum(root.RawSubjectPublicKeyInfo)) {
		t.Error("the manager's next root doesn't count")
	}
}
