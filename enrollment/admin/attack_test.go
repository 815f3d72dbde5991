package admin_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/ca"
)

// A CA above the issuing one, which may be a company's for many purposes, can
// sign what looks like an administrator, with the serial number of a real one.
// The path is right, the record isn't.
func TestAttackSerialOfAnother(t *testing.T) {
	w := newWorld(t)
	alice := w.certificate(ca.Request{Profile: ca.Admin, Name: "alice"})
	text, err := os.ReadFile(filepath.Join(w.ca.Dir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	root, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: alice.Leaf.SerialNumber, Subject: alice.Leaf.Subject, NotBefore: alice.Leaf.NotBefore, NotAfter: alice.Leaf.NotAfter,
		KeyUsage: alice.Leaf.KeyUsage, ExtKeyUsage: alice.Leaf.ExtKeyUsage, Policies: alice.Leaf.Policies, BasicConstraintsValid: true,
	}, w.ca.Root(), key.Public(), root)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.client(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}).Server(t.Context())
	wantProblem(t, err, http.StatusForbidden, "not recorded")
	if _, err := w.client(alice).Server(t.Context()); err != nil {
		t.Error(err)
	}
}

// Not each administrator's certificate is one for enrollment.
func TestOnlyThese(t *testing.T) {
	lets := func(r *http.Request, _ string) (string, error) { return r.Host, nil }
	for _, c := range []struct {
		names []string
		name  string
		may   bool
	}{{nil, "bob", true}, {[]string{"alice"}, "bob", false}, {[]string{"alice"}, "Alice", false}, {[]string{"alice"}, "", false}, {[]string{"carol", "alice"}, "alice", true}} {
		name, err := admin.Only(c.names, lets)(&http.Request{Host: c.name}, "create-request")
		if name != c.name || (err == nil) != c.may || err != nil && !errors.Is(err, admin.ErrForbidden) {
			t.Errorf("%q of %q: %q, %v", c.name, c.names, name, err)
		}
	}
	refuses := func(*http.Request, string) (string, error) { return "alice", admin.ErrForbidden }
	if _, err := admin.Only([]string{"alice"}, refuses)(&http.Request{}, ""); !errors.Is(err, admin.ErrForbidden) {
		t.Errorf("who was refused: %v", err)
	}
}
