package ca_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/enrollment/ca"
)

func FuzzParseSerial(f *testing.F) {
	for _, s := range []string{"ab:cd", "5a1f3c0e8b7d46f2a1908c7d6e5f4a3b", "-1", "0", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		serial, err := ca.ParseSerial(s)
		if err != nil {
			return
		}
		again, err := ca.ParseSerial(ca.SerialString(serial))
		if err != nil || again.Cmp(serial) != 0 {
			t.Errorf("%q is %v, which reads back as %v, %v", s, serial, again, err)
		}
	})
}

// FuzzJournal: whatever the journal holds, it is read or refused, and reading
// it again says the same.
func FuzzJournal(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "pki")
	a, err := ca.Create(now, ca.Options{Dir: dir})
	if err != nil {
		f.Fatal(err)
	}
	a.Close()
	f.Add([]byte(`{"event":"issue","serial":"ab","name":"a"}` + "\n" + `{"event":"revoke","serial":"ab"}` + "\n" + `{"event":"crl","number":1}` + "\n"))
	f.Add([]byte("{}\n\n"))
	f.Add([]byte(`{"event":"issue"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, ca.JournalFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		first, err := issuedIn(dir)
		if err != nil && !errors.Is(err, ca.ErrJournal) {
			t.Fatal(err)
		}
		second, again := issuedIn(dir)
		if (err == nil) != (again == nil) || len(first) != len(second) {
			t.Errorf("%d entries, %v; then %d, %v", len(first), err, len(second), again)
		}
	})
}

func issuedIn(dir string) ([]ca.Issued, error) {
	a, err := ca.OpenSigner(dir, nil)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	return a.Issued()
}
