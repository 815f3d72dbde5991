package ca_test

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

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

// FuzzDecodeCertificates: what an administrator imports, and lists that others
// made.
func FuzzDecodeCertificates(f *testing.F) {
	a, err := ca.Create(now, ca.Options{Dir: filepath.Join(f.TempDir(), "pki")})
	if err != nil {
		f.Fatal(err)
	}
	defer a.Close()
	list, err := a.Issuer().SignList(ca.List{Number: 2, Base: 1, ThisUpdate: now, NextUpdate: now.Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca.EncodeCertificates(a.Issuing(), a.Root()), list)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte{0x30})
	f.Fuzz(func(t *testing.T, text, der []byte) {
		if chain, err := ca.DecodeCertificates(text); err == nil {
			again, err := ca.DecodeCertificates(ca.EncodeCertificates(chain...))
			if err != nil || len(again) != len(chain) {
				t.Errorf("%d certificates, read back as %d, %v", len(chain), len(again), err)
			}
			_, _ = ca.NewIssuer(nil, chain, a.InstanceOID())
		}
		if list, err := x509.ParseRevocationList(der); err == nil {
			if base, err := ca.BaseOf(list); err == nil && base < 0 {
				t.Errorf("base %d", base)
			}
		}
	})
}
