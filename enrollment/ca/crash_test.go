package ca_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// dirVariable turns the test binary into a process that issues and revokes
// until it is killed.
const dirVariable = "ROAMGATE_TEST_CA_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirVariable); dir != "" {
		if err := issueForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func issueForever(dir string) error {
	a, err := ca.Open(dir, nil)
	if err != nil {
		return err
	}
	// Bounded, should the parent die without killing us.
	for range 10_000 {
		key, err := ca.GenerateKey(ca.ECDSAP256)
		if err != nil {
			return err
		}
		c, err := a.Issue(now, ca.Request{Profile: ca.Device, PublicKey: key.Public(), Name: "phone-1"})
		if err != nil {
			return err
		}
		fmt.Println("issued", ca.SerialString(c.SerialNumber))
		if err := a.Revoke(now, c.SerialNumber, ca.Unspecified); err != nil {
			return err
		}
		list, err := a.CRL()
		if err != nil {
			return err
		}
		fmt.Println("revoked", ca.SerialString(c.SerialNumber))
		fmt.Println("list", list.Number)
	}
	return errors.New("nobody killed us")
}

// TestKilled: kill -9 at any moment. What was handed out is in the journal,
// what was reported as revoked is on the list, and no list number comes twice.
func TestKilled(t *testing.T) {
	a := newCA(t)
	issued, revoked := make(map[string]bool), make(map[string]bool)
	lists := make(map[string]bool)
	for round := range 6 {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), dirVariable+"="+a.Dir())
		var stderr strings.Builder
		c.Stderr = &stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			kind, value, _ := strings.Cut(lines.Text(), " ")
			switch kind {
			case "issued":
				issued[value] = true
			case "revoked":
				revoked[value] = true
			case "list":
				if lists[value] {
					t.Errorf("list %s twice", value)
				}
				lists[value] = true
			}
			// The killer strikes between two lines of ours, anywhere in its work.
			if n == 4+round {
				c.Process.Kill()
			}
		}
		c.Wait()
		if stderr.Len() > 0 {
			t.Fatal(stderr.String())
		}
		if len(issued) <= round {
			t.Fatal("killed before it did anything")
		}
	}

	// Another process goes on; its first act repairs the list if need be.
	b, err := ca.Open(a.Dir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	issue(t, b, now, "phone-2")
	all, err := b.Issued()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]ca.Issued)
	for _, i := range all {
		known[i.Serial] = i
	}
	for serial := range issued {
		if _, ok := known[serial]; !ok {
			t.Errorf("%s was handed out, but the journal does not know it", serial)
		}
	}
	listed := make(map[string]bool)
	for _, e := range crl(t, b).RevokedCertificateEntries {
		listed[ca.SerialString(e.SerialNumber)] = true
	}
	for serial, i := range known {
		if revoked[serial] && i.RevokedAt.IsZero() {
			t.Errorf("%s was reported as revoked, but the journal does not say so", serial)
		}
		if !i.RevokedAt.IsZero() && !listed[serial] {
			t.Errorf("%s is revoked, but not on the list", serial)
		}
	}
}

// TestHalfALine: a writer died in the middle of an entry.
func TestHalfALine(t *testing.T) {
	a := newCA(t)
	issue(t, a, now, "phone-1")
	appendJournal(t, a.Dir(), `{"time":"2030-05-01T12:00:00Z","event":"issue","serial":"ab`)
	for _, open := range []func() (*ca.CA, error){
		func() (*ca.CA, error) { return a, nil },
		func() (*ca.CA, error) { return ca.Open(a.Dir(), nil) },
	} {
		b, err := open()
		if err != nil {
			t.Fatal(err)
		}
		issue(t, b, now, "phone-2")
		if b != a {
			b.Close()
		}
	}
	if all, err := a.Issued(); err != nil || len(all) != 3 {
		t.Errorf("%d issued, %v", len(all), err)
	}
}

// TestDamagedJournal: a line that is whole and wrong is nothing a crash
// leaves; the CA stops rather than forget a revocation.
func TestDamagedJournal(t *testing.T) {
	for name, line := range map[string]string{
		"garbage":            "garbage",
		"unknown event":      `{"event":"unissue"}`,
		"serial twice":       "again",
		"revoked, not known": `{"event":"revoke","serial":"ab"}`,
		"list goes back":     `{"event":"crl","number":1}`,
		"no serial":          `{"event":"issue"}`,
	} {
		t.Run(name, func(t *testing.T) {
			a := newCA(t)
			c := issue(t, a, now, "phone-1")
			if line == "again" {
				line = `{"event":"issue","serial":"` + ca.SerialString(c.SerialNumber) + `"}`
			}
			appendJournal(t, a.Dir(), line+"\n")
			if _, err := a.Issued(); !errors.Is(err, ca.ErrJournal) || !strings.Contains(err.Error(), "line 4") {
				t.Errorf("got %v, want an ErrJournal about line 4", err)
			}
			if err := a.Revoke(now.Add(time.Minute), c.SerialNumber, ca.Unspecified); !errors.Is(err, ca.ErrJournal) {
				t.Errorf("went on: %v", err)
			}
		})
	}
}

func appendJournal(t *testing.T, dir, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, ca.JournalFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
