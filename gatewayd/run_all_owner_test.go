package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/gatewayd/config"
)

// serversIn is the configuration of both servers in a folder, with some of its text
// changed.
func serversIn(t *testing.T, changes ...string) (dir string, b belongings) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "lab")
	if code, out := told(t, "init", "manager,enrollment", "--dir", dir, "--url", "https://enroll.example.com", "--gateway", "vpn.example.com", "--admin", "alice"); code != exitOK {
		t.Fatal(out)
	}
	put(t, dir, "gateway.key")
	file := filepath.Join(dir, "gatewayd.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	after := strings.ReplaceAll(strings.NewReplacer(changes...).Replace(string(text)), "DIR", dir)
	if len(changes) > 0 && after == string(text) {
		t.Fatalf("%q isn't there:\n%s", changes, text)
	}
	if err := os.WriteFile(file, []byte(after), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return dir, serversBelongings(cfg)
}

// rootsAre what stays root's, whatever a configuration names.
func rootsAre(t *testing.T, dir string) {
	t.Helper()
	ownerIs(t, 0, filepath.Dir(dir), dir, filepath.Join(dir, "gatewayd.yaml"), filepath.Join(dir, "gateway.key"), filepath.Join(dir, "admin.key"), filepath.Join(dir, "pki", "root.key"))
}

// What an init lays out is given.
func TestServersAreGiven(t *testing.T) {
	needsRoot(t)
	dir, b := serversIn(t)
	put(t, dir, "enrollment", "seal.key")
	if err := b.give("nobody", someone, someone); err != nil {
		t.Fatal(err)
	}
	rootsAre(t, dir)
	for _, name := range []string{"enrollment", "enrollment/seal.key", "manager", "run", "pki", "pki/issuing.key", "enrollment.key", "management.key", "manager.key"} {
		ownerIs(t, someone, filepath.Join(dir, name))
	}
}

// gatewayIn is the configuration of a gateway in a folder, with its state in another
// place.
func gatewayIn(t *testing.T, state string) (dir string, b belongings) {
	t.Helper()
	dir = t.TempDir()
	text := "state_dir: " + state + `
runtime_dir: run
gateway:
  external: {interface: eth0, address: 203.0.113.1}
  internal: {interface: eth1}
  identity: {id: vpn.example.com, credentials: [{certificate: gateway.pem, key: gateway.key}]}
  trust: {roots: [root.pem]}
  static: {pools: [10.9.0.0/16]}
`
	put(t, dir, "gateway.key")
	file := put(t, dir, "gatewayd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return dir, gatewayBelongings(cfg)
}

func TestGatewayIsGiven(t *testing.T) {
	needsRoot(t)
	dir, b := gatewayIn(t, "state")
	leases := put(t, dir, "state", "leases")
	if err := b.give("nobody", someone, someone); err != nil {
		t.Fatal(err)
	}
	ownerIs(t, someone, leases, filepath.Dir(leases), filepath.Join(dir, "run"), filepath.Join(dir, "gateway.key"))
	ownerIs(t, 0, dir, filepath.Join(dir, "gatewayd.yaml"))
	for _, state := range []string{".", "..", "state/..", "/etc", "/", "other"} {
		dir, b := gatewayIn(t, state)
		// Nothing of the host's may change hands if this fails.
		if b.state(filepath.Clean(filepath.Join(dir, state))) || b.state(state) {
			t.Fatalf("%s would be given", state)
		}
		if err := b.give("nobody", someone, someone); err == nil || !strings.Contains(err.Error(), "state_dir") {
			t.Errorf("%s: %v", state, err)
		}
		ownerIs(t, 0, dir, filepath.Join(dir, "gatewayd.yaml"))
	}
}

// Elsewhere a file is given without what is beside it, and what can't work so is
// refused.
func TestServersElsewhere(t *testing.T) {
	needsRoot(t)
	for _, tt := range []struct {
		name    string
		changes []string
		files   []string // of root's that are there
		given   []string
		want    []string // in the error
	}{
		{"a key beside the configuration", []string{`"enrollment/seal.key"`, "seal.key"}, []string{"seal.key"}, []string{"seal.key"}, nil},
		{"by its whole path", []string{`"enrollment/seal.key"`, "DIR/seal.key"}, []string{"seal.key"}, []string{"seal.key"}, nil},
		{"a key that isn't there", []string{`"manager/seal.key"`, "seal.key"}, nil, nil, []string{"manager.key_file", "lab is root's", "install -d -o nobody"}},
		{"a database above", []string{`"enrollment/enrollment.db"`, "DIR/../x.db"}, []string{"../x.db"}, nil, []string{"enrollment.database.sqlite", "is root's"}},
		{"a database in a folder of the role's", []string{`"enrollment/enrollment.db"`, "DIR/../theirs/x.db"},
			[]string{"../theirs/x.db", "../theirs/x.db-wal", "../theirs/y"}, []string{"../theirs/x.db", "../theirs/x.db-wal"}, nil},
		{"a folder above", []string{"runtime_dir: run", "runtime_dir: DIR/.."}, nil, nil, []string{"manager.runtime_dir", "is root's"}},
		{"the configuration's folder", []string{"runtime_dir: run", "runtime_dir: ."}, nil, nil, []string{"manager.runtime_dir", "is root's"}},
		{"up and away", []string{"runtime_dir: run", "runtime_dir: run/../.."}, nil, nil, []string{"manager.runtime_dir", "is root's"}},
		{"the configuration as a key", []string{`"manager.key"`, "gatewayd.yaml"}, nil, nil, []string{"manager.gateways.key", "is the configuration"}},
		{"a folder as a key", []string{`"manager.key"`, "."}, nil, nil, []string{"manager.gateways.key", errKind.Error()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, b := serversIn(t, tt.changes...)
			theirs := filepath.Join(dir, "..", "theirs")
			if err := errors.Join(os.Mkdir(theirs, 0o755), os.Chown(theirs, someone, someone)); err != nil {
				t.Fatal(err)
			}
			given := map[string]bool{}
			for _, name := range tt.given {
				given[name] = true
			}
			for _, name := range tt.files {
				put(t, dir, name)
			}
			err := b.give("nobody", someone, someone)
			if (err != nil) != (tt.want != nil) {
				t.Errorf("%v", err)
			}
			for _, want := range tt.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant %s", err, want)
				}
			}
			rootsAre(t, dir)
			for _, name := range tt.files {
				ownerIs(t, map[bool]int{true: someone}[given[name]], filepath.Join(dir, name))
			}
		})
	}
}

// A link of root's may lead a state folder elsewhere, but not to the configuration.
func TestServersBehindALink(t *testing.T) {
	needsRoot(t)
	dir, b := serversIn(t)
	elsewhere := filepath.Join(dir, "..", "disk")
	if err := errors.Join(os.Mkdir(elsewhere, 0o755), os.Symlink("../disk", filepath.Join(dir, "enrollment")), os.Symlink("..", filepath.Join(dir, "manager"))); err != nil {
		t.Fatal(err)
	}
	if err := b.give("nobody", someone, someone); err == nil || !strings.Contains(err.Error(), "has the configuration in it") {
		t.Errorf("%v", err)
	}
	rootsAre(t, dir)
	ownerIs(t, someone, elsewhere)
}
