package link

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A crash may come before any of the changes, after each, and in the middle of
// taking back: the journal is the same, and so is what remains.
func TestRecoverAfterAnyChange(t *testing.T) {
	topology(t)
	createTUN(t)
	l, err := byName(tunName)
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(t)
	changes, err := plan(dualStack(journalPath(t)))
	if err != nil {
		t.Fatal(err)
	}
	for made := range len(changes) + 1 {
		for takenBack := range made + 1 {
			j, err := newJournal(l)
			if err != nil {
				t.Fatal(err)
			}
			j.Changes = changes
			path := journalPath(t)
			if err := j.write(path); err != nil {
				t.Fatal(err)
			}
			for _, c := range changes[:made] {
				if err := c.apply(l); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range changes[made-takenBack : made] {
				if err := c.takeBack(l); err != nil {
					t.Fatal(err)
				}
			}
			again, err := readJournal(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.takeBack(); err != nil {
				t.Fatalf("%d of %d made, %d taken back: %v", made, len(changes), takenBack, err)
			}
			requireSame(t, before)
		}
	}
}

// After another boot, or in another namespace, nothing is touched.
func TestRecoverElsewhere(t *testing.T) {
	topology(t)
	createTUN(t)
	config := dualStack(journalPath(t))
	for name, change := range map[string]func(*journal){
		"boot":      func(j *journal) { j.BootID = "another" },
		"namespace": func(j *journal) { j.Namespace++ },
	} {
		h, err := Setup(config)
		if err != nil {
			t.Fatal(err)
		}
		during := snapshot(t)
		crashed := h.journal
		change(&crashed)
		h.lock.Close() // as the end of the process does
		if err := crashed.write(config.Journal); err != nil {
			t.Fatal(err)
		}
		if err := Recover(config.Journal); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		requireSame(t, during)
		requireGone(t, config.Journal)
		if err := h.journal.takeBack(); err != nil {
			t.Fatal(err)
		}
	}
}

// A journal that can't be understood stops the start and stays.
func TestDamagedJournal(t *testing.T) {
	path := journalPath(t)
	for name, text := range map[string]string{
		"empty":           "",
		"half":            `{"version": 1, "boot_id": "x", "changes": [{"kind": "up"}`,
		"version":         `{"version": 2}`,
		"unknown field":   `{"version": 1, "colour": "red"}`,
		"unknown kind":    `{"version": 1, "changes": [{"kind": "format"}]}`,
		"no prefix":       `{"version": 1, "changes": [{"kind": "route"}]}`,
		"another file":    `{"version": 1, "changes": [{"kind": "sysctl", "path": "net/../kernel/core_pattern"}]}`,
		"another tree":    `{"version": 1, "changes": [{"kind": "sysctl", "path": "kernel/core_pattern"}]}`,
		"absolute":        `{"version": 1, "changes": [{"kind": "sysctl", "path": "/etc/passwd"}]}`,
		"another cascade": `{"version": 1, "changes": [{"kind": "sysctl", "path": "net/a", "cascade": {"kernel/x": "1"}}]}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Recover(path); !errors.Is(err, ErrJournal) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s: the journal was changed: %q, %v", name, got, err)
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"version": 1, "boot_id": "x", "namespace": 4026531840, "tun": "rgtun0", "index": 4, "changes": [
		{"kind": "sysctl", "path": "net/ipv4/conf/lo/forwarding", "old": "0", "new": "1", "cascade": {"net/ipv6/conf/lo/forwarding": "1"}},
		{"kind": "up"}, {"kind": "route", "prefix": "10.98.0.0/16"}, {"kind": "address", "prefix": "fd98::1/128"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := parseJournal(data)
		if err != nil {
			return
		}
		for _, c := range j.Changes {
			if (c.Kind == kindAddress || c.Kind == kindRoute) && ipNet(c.Prefix).IP == nil {
				t.Fatalf("no address in %v", c)
			}
			if c.Kind == kindSysctl && !strings.HasPrefix(filepath.Join(sysctlRoot, c.Path), sysctlRoot+"/net/") {
				t.Fatalf("path leads out: %q", c.Path)
			}
		}
	})
}
