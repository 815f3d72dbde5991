package main

import (
	"crypto/sha1"
	"crypto/x509"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
