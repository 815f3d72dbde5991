package ca_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/enrollment/ca"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := ca.WriteFile(path, []byte("one"), 0o600, false); err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteFile(path, []byte("two"), 0o600, false); !errors.Is(err, ca.ErrExists) {
		t.Errorf("overwritten: %v", err)
	}
	if err := ca.WriteFile(path, []byte("two"), 0o644, true); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "two" {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if err := ca.WriteFile(filepath.Join(path, "below"), nil, 0o600, false); err == nil {
		t.Error("wrote below a file")
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestWriteFileKeepsTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	path := filepath.Join(t.TempDir(), "gateway.key")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 4711, 4712); err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteFile(path, []byte("new"), 0o600, true); err != nil {
		t.Fatal(err)
	}
	var info unix.Stat_t
	if err := unix.Stat(path, &info); err != nil || info.Uid != 4711 || info.Gid != 4712 {
		t.Errorf("owner %d:%d, %v", info.Uid, info.Gid, err)
	}
}
