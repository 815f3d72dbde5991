package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// beginInit stages an enrollment server whose configuration is in one folder and
// whose CA, shared with others, in another.
func beginInit(dir, name string) (*staging, error) {
	s, err := stage(initPaths{file: filepath.Join(dir, name, "gatewayd.yaml"), pki: filepath.Join(dir, "lib", "pki")})
	if err != nil {
		return nil, err
	}
	f := &initEnrollmentFlags{dir: dir, url: "https://enroll.example.com", gateway: "vpn.example.com", admin: "alice", metrics: "off"}
	f.listen, f.adminListen = loopback(8443), loopback(8445)
	if err := f.write(io.Discard, s); err != nil {
		return nil, errors.Join(err, s.drop())
	}
	return s, nil
}

// killedInit leaves what an init does that promised its files and moved none.
func killedInit(t *testing.T, dir, name string) {
	t.Helper()
	s, err := beginInit(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.promise(); err != nil {
		t.Fatal(err)
	}
	s.release()
}

// The CA of an interrupted init stays for it, whoever shares the folder.
func TestInitLeavesTheCAOfAnother(t *testing.T) {
	dir := t.TempDir()
	killedInit(t, dir, "a")
	_, err := beginInit(dir, "b")
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "a", "gatewayd.yaml")) || !strings.Contains(err.Error(), "Finish it first") {
		t.Fatalf("b: %v", err)
	}
	if exists(filepath.Join(dir, "b")) {
		t.Error("b left something")
	}
	// Beside the CA, too, and under another name.
	for _, name := range []string{"lib/gatewayd.yaml", "a/other.yaml"} {
		if _, err := stage(initPaths{file: filepath.Join(dir, name), pki: filepath.Join(dir, "lib", "pki")}); err == nil || !strings.Contains(err.Error(), "Finish it first") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := beginInit(dir, "a"); !errors.Is(err, errFinished) {
		t.Fatalf("a again: %v", err)
	}
	c, err := ca.Open(filepath.Join(dir, "lib", "pki"), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	for _, name := range []string{"a/.init", "lib/.init"} {
		if exists(filepath.Join(dir, name)) {
			t.Errorf("left behind: %s", name)
		}
	}
	// Now that it is there, b uses it.
	s, err := beginInit(dir, "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.commit(), s.drop()); err != nil {
		t.Error(err)
	}
}

// A configuration doesn't appear without the CA that was made for it.
func TestInitMissesItsCA(t *testing.T) {
	dir := t.TempDir()
	killedInit(t, dir, "a")
	if err := os.RemoveAll(filepath.Join(dir, "lib", ".init")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := beginInit(dir, "a"); !errors.Is(err, errLost) {
			t.Fatalf("%v", err)
		}
	}
	if exists(filepath.Join(dir, "a", "gatewayd.yaml")) {
		t.Error("the configuration is in place")
	}
	// As the error says, to forget it.
	if err := os.RemoveAll(filepath.Join(dir, "a", ".init")); err != nil {
		t.Fatal(err)
	}
	s, err := beginInit(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.commit(), s.drop()); err != nil {
		t.Error(err)
	}
}

// Two at once with one CA: the second one is refused.
func TestInitLocksTheCA(t *testing.T) {
	dir := t.TempDir()
	s, err := beginInit(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := beginInit(dir, "b"); err == nil || !strings.Contains(err.Error(), "another init is at work") {
		t.Errorf("b: %v", err)
	}
	if err := s.drop(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
}

// An init that needs no CA leaves nothing where one would be.
func TestInitWithoutACA(t *testing.T) {
	dir := t.TempDir()
	s, err := stage(initPaths{file: filepath.Join(dir, "a", "gatewayd.yaml"), pki: filepath.Join(dir, "lib", "pki")})
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteFile(s.file(), []byte("# nothing\n"), 0o644, false); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.commit(), s.drop()); err != nil {
		t.Error(err)
	}
	if exists(filepath.Join(dir, "lib")) || !exists(s.final.file) {
		t.Errorf("lib is there, or %s is not", s.final.file)
	}
}

// A configuration with secrets is for as few eyes when sections were added.
func TestInitKeepsTheMode(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o640, 0o644} {
		dir := t.TempDir()
		args := []string{"init", "enrollment", "--dir", dir, "--url", "https://enroll.example.com", "--gateway", "vpn.example.com"}
		if code, out := told(t, args...); code != exitOK {
			t.Fatal(out)
		}
		file := filepath.Join(dir, "gatewayd.yaml")
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if code, out := told(t, "init", "manager", "--dir", dir); code != exitOK {
			t.Fatal(out)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%v, %v, want %v", info.Mode(), err, mode)
		}
	}
}
