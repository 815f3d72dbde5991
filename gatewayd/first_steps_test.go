package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/api/client"
)

// What init wrote for gateways is told once: an administrator's own configuration
// stays when the gateway of this host joins again.
func TestFirstContent(t *testing.T) {
	m := startManager(t)
	c := client.Local(m.socket)
	defer c.Close()
	first := filepath.Join(t.TempDir(), contentFile)
	tell := func() {
		t.Helper()
		if err := firstContent(t.Context(), c, first); err != nil {
			t.Fatal(err)
		}
	}
	tell() // no file, nothing to tell
	if err := os.WriteFile(first, []byte("pools: [{prefix: 10.9.0.0/16}]\ngroups: {default: {}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tell()
	if out := m.do("gateway", "config", "export"); !strings.Contains(out, "10.9.0.0/16") || !strings.Contains(out, "default") {
		t.Errorf("told %s", out)
	}
	own := filepath.Join(t.TempDir(), "own.yaml")
	if err := os.WriteFile(own, []byte("groups: {staff: {closed: true}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.do("gateway", "config", "import", own)
	tell()
	if out := m.do("gateway", "config", "export"); strings.Contains(out, "10.9.0.0/16") || !strings.Contains(out, "staff") {
		t.Errorf("what an administrator decided was replaced by %s", out)
	}
}
