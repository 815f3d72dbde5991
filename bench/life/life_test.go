package life

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, text string) (*Scenario, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read(file)
}

func TestRead(t *testing.T) {
	s, err := read(t, "devices: 20\narrive: 10s\nroam: 5m\nsleep: 10m\nasleep: 1m30s\nping: 3s\nhost: 10.2.0.2\n")
	if err != nil || s.Devices != 20 || s.Asleep != 90*time.Second || s.Host.String() != "10.2.0.2" || s.Vanish != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	for text, want := range map[string]string{
		"roam: 1s":                       "devices",
		"devices: 1\nrome: 1s":           "rome",
		"devices: 1\nroam: -1s":          "roam",
		"devices: 1\nping: 1s":           "host",
		"devices: 1\nsleep: 1s":          "asleep",
		"devices: 1\nping: 1s\nhost: ::": "host",
		"devices: x":                     "devices",
	} {
		if _, err := read(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to name %s", text, err, want)
		}
	}
}
