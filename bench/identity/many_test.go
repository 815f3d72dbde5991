package identity

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// devices of a new CA, with their keys.
func issued(t *testing.T, count uint64) (list []Identity) {
	t.Helper()
	i, err := newIssuerOf(t)
	if err != nil {
		t.Fatal(err)
	}
	for n := range count {
		id, err := i.Identity(n)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, id)
	}
	return list
}

func newIssuerOf(t *testing.T) (*Issuer, error) {
	certFile, keyFile := newCA(t)
	oid, err := x509.ParseOID("1.3.6.1.4.1.99999.1")
	if err != nil {
		return nil, err
	}
	return NewIssuer(certFile, keyFile, func(n uint64) string { return fmt.Sprint("phone", n) }, oid)
}

func parsed(t *testing.T, id Identity) (chain []*x509.Certificate) {
	t.Helper()
	for _, der := range id.Credential.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

func encoded(t *testing.T, id Identity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Append(&b, parsed(t, id), id.Credential.Signer); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A file and a folder have the same devices, and those are what they were.
func TestLoadAll(t *testing.T) {
	list := issued(t, 3)
	if p := parsed(t, list[0])[0].Policies; len(p) != 1 || p[0].String() != "1.3.6.1.4.1.99999.1" {
		t.Errorf("policies %v", p)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "devices.pem")
	folder := filepath.Join(dir, "folder")
	var all []byte
	for n, id := range list {
		text := encoded(t, id)
		all = append(all, text...)
		// As `enrollment join --format pem` does it, a folder for each.
		at := filepath.Join(folder, fmt.Sprint(n))
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		cut := bytes.Index(text, []byte("-----BEGIN PRIVATE"))
		for name, part := range map[string][]byte{".pem": text[:cut], ".key": text[cut:]} {
			if err := os.WriteFile(filepath.Join(at, string(id.ID.Data)+name), part, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, folder} {
		m, err := LoadAll(path)
		if err != nil || m.Len() != 3 {
			t.Fatalf("%s: %v", path, err)
		}
		for n := range uint64(4) {
			id, err := m.Identity(n)
			if err != nil || !bytes.Equal(id.ID.Data, list[n%3].ID.Data) || !bytes.Equal(id.Credential.Chain[0], list[n%3].Credential.Chain[0]) {
				t.Errorf("%s: device %d is %s, %v", path, n, id.ID.Data, err)
			}
		}
	}
}

func TestLoadAllRefuses(t *testing.T) {
	list := issued(t, 2)
	one, two := string(encoded(t, list[0])), string(encoded(t, list[1]))
	cut := strings.Index(one, "-----BEGIN PRIVATE")
	_, stranger := newCA(t)
	key, err := os.ReadFile(stranger)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"nothing": "", "no PEM": "hello", "no key": two + one[:cut], "no certificate": one[cut:],
		"another's key": one[:cut] + string(key), "no DER": "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := LoadAll(file); err == nil {
			t.Errorf("%s: %d devices", what, m.Len())
		}
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, err := LoadAll(path); err == nil {
			t.Errorf("%s has devices", path)
		}
	}
}
