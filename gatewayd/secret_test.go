package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/control/gate"
)

func TestKeptSecret(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "crash.secret")
	first, err := keptSecret(path)
	if err != nil || first == (gate.Secret{}) {
		t.Fatalf("%x, %v", first, err)
	}
	second, err := keptSecret(path)
	if err != nil || second != first {
		t.Errorf("the second time %x, %v; want %x", second, err, first)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("%v, %v", info, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	for _, content := range []string{"", "short", string(make([]byte, 33))} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keptSecret(path); err == nil {
			t.Errorf("%d octets were taken", len(content))
		}
	}
}
