//go:build pkcs11

package ca_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
)

// softHSM is a token of SoftHSM 2 in the test's folder, with one key pair.
func softHSM(t *testing.T, algorithm ca.KeyAlgorithm) ca.Token {
	t.Helper()
	const module = "/usr/lib/softhsm/libsofthsm2.so"
	if _, err := os.Stat(module); err != nil {
		if os.Getenv("ROAMGATE_INTEGRATION") == "1" {
			t.Fatal(err)
		}
		t.Skip("softhsm2 is not installed")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	key, err := ca.GenerateKey(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--init-token", "--free", "--label", "roamgate", "--pin", "1234", "--so-pin", "5678"},
		{"--import", file, "--token", "roamgate", "--label", "issuing", "--id", "01", "--pin", "1234"},
	} {
		if out, err := exec.Command("softhsm2-util", args...).CombinedOutput(); err != nil {
			t.Fatalf("softhsm2-util %v: %v\n%s", args, err, out)
		}
	}
	return ca.Token{Module: module, Label: "roamgate", Key: "issuing", PIN: func() ([]byte, error) { return []byte("1234"), nil }}
}

// TestKeyInAToken: an issuing CA whose key never was in a file of ours.
func TestKeyInAToken(t *testing.T) {
	for _, algorithm := range []ca.KeyAlgorithm{ca.ECDSAP256, ca.ECDSAP384, ca.RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			signer, err := ca.OpenToken(softHSM(t, algorithm))
			if err != nil {
				t.Fatal(err)
			}
			defer signer.Close()
			dir := filepath.Join(t.TempDir(), "pki")
			csr, err := ca.CreateRequest(now, ca.Options{Dir: dir}, signer)
			if err != nil {
				t.Fatal(err)
			}
			c := newCompany(t)
			a, err := ca.Import(now, dir, []*x509.Certificate{c.issuing(csr, nil), c.between, c.root}, signer, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					certificate, err := a.Issue(now, ca.Request{Profile: ca.Device, Name: "phone-1", PublicKey: catest.NewKey(t).Public()})
					if err != nil {
						t.Error(err)
						return
					}
					if err := certificate.CheckSignatureFrom(a.Issuing()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			crl(t, a)
			if found, err := filepath.Glob(filepath.Join(dir, "issuing.[kp]*")); err != nil || len(found) != 1 {
				t.Errorf("files %v, want the certificate only", found)
			}
			if _, err := signer.Sign(rand.Reader, make([]byte, 31), crypto.SHA256); !errors.Is(err, ca.ErrPKCS11) {
				t.Errorf("a short digest: %v", err)
			}
			if algorithm == ca.RSA2048 {
				if _, err := signer.Sign(rand.Reader, make([]byte, 32), &rsa.PSSOptions{Hash: crypto.SHA256}); !errors.Is(err, ca.ErrPKCS11) {
					t.Errorf("PSS: %v", err)
				}
			}
		})
	}
}

func TestTokensThatCantBeOpened(t *testing.T) {
	good := softHSM(t, ca.ECDSAP256)
	for name, spoil := range map[string]func(*ca.Token){
		"no module": func(o *ca.Token) { o.Module = "/nowhere.so" },
		"no token":  func(o *ca.Token) { o.Label = "another" },
		"no key":    func(o *ca.Token) { o.Key = "another" },
		"wrong PIN": func(o *ca.Token) { o.PIN = func() ([]byte, error) { return []byte("0000"), nil } },
	} {
		o := good
		spoil(&o)
		if _, err := ca.OpenToken(o); !errors.Is(err, ca.ErrPKCS11) {
			t.Errorf("%s: %v", name, err)
		}
	}
	signer, err := ca.OpenToken(good)
	if err != nil {
		t.Fatalf("after all that: %v", err)
	}
	if err := signer.Close(); err != nil {
		t.Error(err)
	}
	if _, err := signer.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); !errors.Is(err, ca.ErrPKCS11) {
		t.Errorf("signed after the end: %v", err)
	}
}
