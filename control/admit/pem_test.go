package admit_test

import (
	"encoding/pem"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

func TestParsePEM(t *testing.T) {
	w := newWorld(t)
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.root.certificate.Raw})
	issuing := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.issuing.certificate.Raw})
	list := revocationList(t, w.issuing, 5, time.Hour)
	crl := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list.Raw})
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})

	certificates, err := admit.ParseCertificates(slices.Concat([]byte("the root\n"), root, []byte("\nand another\n"), issuing))
	if err != nil || len(certificates) != 2 || !certificates[1].Equal(w.issuing.certificate) {
		t.Errorf("%d certificates, %v", len(certificates), err)
	}
	for name, data := range map[string][]byte{"PEM": crl, "DER": list.Raw} {
		lists, err := admit.ParseRevocationLists(data)
		if err != nil || len(lists) != 1 || lists[0].Number.Int64() != 5 {
			t.Errorf("%s: %d lists, %v", name, len(lists), err)
		}
	}
	garbled := slices.Clone(root)
	garbled[40] = '!'
	for name, data := range map[string][]byte{
		"empty":           nil,
		"text":            []byte("hello"),
		"a key":           slices.Concat(root, key),
		"a list":          crl,
		"cut short":       slices.Concat(root, issuing[:len(issuing)-20]),
		"garbled first":   slices.Concat(garbled, issuing),
		"not certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}),
	} {
		if got, err := admit.ParseCertificates(data); got != nil || !errors.Is(err, admit.ErrPEM) {
			t.Errorf("certificates, %s: %d, %v", name, len(got), err)
		}
	}
	for name, data := range map[string][]byte{"empty": nil, "DER": {0x30, 0}, "a certificate": root} {
		if got, err := admit.ParseRevocationLists(data); got != nil || !errors.Is(err, admit.ErrPEM) {
			t.Errorf("lists, %s: %d, %v", name, len(got), err)
		}
	}
}

func FuzzParsePEM(f *testing.F) {
	w := newWorld(f)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.root.certificate.Raw}))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: revocationList(f, w.root, 1, time.Hour).Raw}))
	f.Add([]byte("-----BEGIN "))
	f.Fuzz(func(t *testing.T, data []byte) {
		if certificates, err := admit.ParseCertificates(data); (err == nil) != (len(certificates) > 0) {
			t.Errorf("%d certificates with %v", len(certificates), err)
		}
		if lists, err := admit.ParseRevocationLists(data); (err == nil) != (len(lists) > 0) {
			t.Errorf("%d lists with %v", len(lists), err)
		}
	})
}
