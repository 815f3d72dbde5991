package session

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane/slab"
)

// certificates of one issuer, each with its own key, serial number and name.
func certificates(tb testing.TB, n int) (all [][]byte) {
	tb.Helper()
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Devices CA", Organization: []string{"Example"}},
		SubjectKeyId: []byte("0123456789abcdefghij"), IsCA: true,
	}
	for i := range n {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			tb.Fatal(err)
		}
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		if err != nil {
			tb.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("device-%d", i), Organization: []string{"Example"}},
			NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CRLDistributionPoints: []string{"http://pki.example/devices.crl"},
			URIs: []*url.URL{{Scheme: "urn", Opaque: fmt.Sprintf("imei:35%013d", i)}},
		}, issuer, &key.PublicKey, ca)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, der)
	}
	return all
}

// What is kept of a certificate is the certificate, to the last octet, and takes
// half of it.
func TestEvidenceIsCompact(t *testing.T) {
	all := certificates(t, 50)
	all = append(all, nil, []byte{1}, bytes.Repeat([]byte{7}, 300), all[3][:len(all[3])-1], bytes.Repeat(all[4], 3), make([]byte, maxModelled+1))
	m := make(models)
	var octets slab.Octets
	kept, whole := 0, 0
	for i, der := range all {
		e := keepEvidence(ike.AskAdmit{
			ID: &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte("device")}, Chain: [][]byte{der, []byte("issuer")},
		}, &octets)
		m.compact(&e, []byte("issuer"), &octets)
		m.compact(&e, []byte("issuer"), &octets) // once is enough
		if p := e.present(); string(p.ID) != "device" {
			t.Fatalf("%d: of %q", i, p.ID)
		} else if len(der) > 0 && (!bytes.Equal(p.Chain[0], der) || string(p.Chain[1]) != "issuer") {
			t.Fatalf("%d: %x instead of %x", i, p.Chain[0], der)
		}
		if i > 0 && i < 50 {
			kept, whole = kept+len(e.leaf()), whole+len(der)
		}
	}
	t.Logf("%d octets instead of %d", kept/49, whole/49)
	if kept > whole/2 {
		t.Errorf("%d octets of %d are kept", kept, whole)
	}
	for i := range 3 * maxModels {
		e := keepEvidence(ike.AskAdmit{ID: &ikewire.ID{}, Chain: all[:1]}, &octets)
		m.compact(&e, fmt.Append(nil, i), &octets)
	}
	if len(m) > maxModels {
		t.Errorf("%d models", len(m))
	}
}

func FuzzDifference(f *testing.F) {
	all := certificates(f, 2)
	f.Add(all[0], all[1])
	f.Add([]byte{}, []byte("abc"))
	f.Fuzz(func(t *testing.T, whole, other []byte) {
		if len(whole) > maxModelled || len(other) > maxModelled {
			return
		}
		m := newModel(string(whole))
		if got := patched(string(whole), m.difference(string(other))); !bytes.Equal(got, other) {
			t.Fatalf("%x instead of %x", got, other)
		}
	})
}

func BenchmarkDifference(b *testing.B) {
	all := certificates(b, 2)
	m := newModel(string(all[0]))
	for b.Loop() {
		m.difference(string(all[1]))
	}
}
