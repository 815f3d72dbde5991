package cms

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
)

func FuzzToDER(f *testing.F) {
	f.Add([]byte{0x30, 0x80, 0x24, 0x80, 0x04, 0x01, 'a', 0x04, 0x81, 0x01, 'b', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, ber []byte) {
		der, err := toDER(ber)
		if err != nil {
			return
		}
		if len(der) > 2*len(ber)+4 {
			t.Errorf("%d octets became %d", len(ber), len(der))
		}
		again, err := toDER(der)
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("%x -> %x -> %x, %v", ber, der, again, err)
		}
	})
}

func FuzzParseSigned(f *testing.F) {
	for _, id := range []identity{rsaIdentity(), ecIdentity()} {
		m, err := Sign([]byte("content"), nil, id.certificate, id.key, crypto.SHA256)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ParseSigned(data, true); err == nil && s.Signer.Key == nil {
			t.Error("signed by nobody")
		}
	})
}

// fixed identity: the processes of a fuzzer have to agree on the key.
func fixed(f *testing.F) identity {
	f.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join("testdata", "recipient.pem"), filepath.Join("testdata", "recipient.pem"))
	if err != nil {
		f.Fatal(err)
	}
	return identity{pair.Leaf, pair.PrivateKey.(crypto.Signer)}
}

func FuzzOpen(f *testing.F) {
	id := fixed(f)
	party, err := PartyOf(id.certificate)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []Scheme{{AES128, 0}, {AES256, crypto.SHA256}, {DES3, crypto.SHA1}} {
		m, err := Seal([]byte("content"), party, s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		content, _, err := Open(data, id.certificate, id.decrypter(), true)
		if err == nil && len(content) > len(data) {
			t.Error("more came out than went in")
		}
	})
}

func FuzzParseCertificates(f *testing.F) {
	bundle, err := Certificates([]*x509.Certificate{ecIdentity().certificate})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bundle)
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = ParseCertificates(data)
	})
}
