package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

// identity is a key with a certificate that it signed itself.
type identity struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func selfSigned(name string, key crypto.Signer) identity {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		panic(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		panic(err)
	}
	return identity{c, key}
}

var (
	rsaIdentity = sync.OnceValue(func() identity {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return selfSigned("rsa", key)
	})
	otherRSA = sync.OnceValue(func() identity {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return selfSigned("other", key)
	})
	ecIdentity = sync.OnceValue(func() identity {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return selfSigned("ec", key)
	})
)

func (i identity) decrypter() crypto.Decrypter { return i.key.(crypto.Decrypter) }

// What another implementation signs is read here, and the other way round.
func TestSignatureAgainstAnotherImplementation(t *testing.T) {
	content := []byte("a request, say")
	oid := asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 7}
	for name, id := range map[string]identity{"RSA": rsaIdentity(), "ECDSA": ecIdentity()} {
		for digest, digestOID := range map[crypto.Hash]asn1.ObjectIdentifier{
			crypto.SHA256: pkcs7.OIDDigestAlgorithmSHA256,
			crypto.SHA512: pkcs7.OIDDigestAlgorithmSHA512,
		} {
			theirs, err := pkcs7.NewSignedData(content)
			if err != nil {
				t.Fatal(err)
			}
			theirs.SetDigestAlgorithm(digestOID)
			if err := theirs.AddSigner(id.certificate, id.key, pkcs7.SignerInfoConfig{
				ExtraSignedAttributes: []pkcs7.Attribute{{Type: oid, Value: "17"}},
			}); err != nil {
				t.Fatal(err)
			}
			message, err := theirs.Finish()
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseSigned(message, false)
			if err != nil {
				t.Fatalf("%s, %v: %v", name, digest, err)
			}
			if !bytes.Equal(got.Content, content) || got.Digest != digest || !bytes.Equal(got.Signer.Raw, id.certificate.Raw) || !got.Signer.SelfIssued() {
				t.Errorf("%s, %v: content %q, digest %v", name, digest, got.Content, got.Digest)
			}
			var text string
			if _, err := asn1.Unmarshal(got.Attribute(oid), &text); err != nil || text != "17" {
				t.Errorf("%s, %v: attribute %x", name, digest, got.Attribute(oid))
			}

			ours, err := Sign(content, []Attribute{{oid, got.Attribute(oid)}}, id.certificate, id.key, digest)
			if err != nil {
				t.Fatal(err)
			}
			back, err := pkcs7.Parse(ours)
			if err != nil {
				t.Fatal(err)
			}
			if err := back.Verify(); err != nil || !bytes.Equal(back.Content, content) {
				t.Errorf("%s, %v: they read %q, %v", name, digest, back.Content, err)
			}
			if err := back.UnmarshalSignedAttribute(oid, &text); err != nil || text != "17" {
				t.Errorf("%s, %v: they read attribute %q, %v", name, digest, text, err)
			}
		}
	}
}

func TestEnvelopeAgainstAnotherImplementation(t *testing.T) {
	id := rsaIdentity()
	party, err := PartyOf(id.certificate)
	if err != nil {
		t.Fatal(err)
	}
	for size := range 40 {
		content := bytes.Repeat([]byte{'x'}, size)
		for _, c := range []Cipher{AES128, AES256} {
			sealed, err := Seal(content, party, Scheme{Cipher: c})
			if err != nil {
				t.Fatal(err)
			}
			p, err := pkcs7.Parse(sealed)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p.Decrypt(id.certificate, id.key); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d octets, cipher %d: they open %q, %v", size, c, got, err)
			}
		}
	}
	for theirs, c := range map[int]Cipher{
		pkcs7.EncryptionAlgorithmAES128CBC: AES128,
		pkcs7.EncryptionAlgorithmAES256CBC: AES256,
	} {
		pkcs7.ContentEncryptionAlgorithm = theirs
		content := []byte("a certificate request")
		sealed, err := pkcs7.Encrypt(content, []*x509.Certificate{otherRSA().certificate, id.certificate})
		if err != nil {
			t.Fatal(err)
		}
		got, scheme, err := Open(sealed, id.certificate, id.decrypter(), false)
		if err != nil || !bytes.Equal(got, content) || scheme != (Scheme{Cipher: c}) {
			t.Errorf("cipher %d: we open %q, %+v, %v", c, got, scheme, err)
		}
	}
}

func TestEnvelopeSchemes(t *testing.T) {
	id := rsaIdentity()
	party, err := PartyOf(id.certificate)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Scheme{
		{AES128, 0}, {AES192, 0}, {AES256, 0}, {DES3, 0}, {DES, 0},
		{AES128, crypto.SHA1}, {AES256, crypto.SHA256}, {AES256, crypto.SHA512},
	} {
		sealed, err := Seal([]byte("content"), party, s)
		if err != nil {
			t.Fatal(err)
		}
		got, scheme, err := Open(sealed, id.certificate, id.decrypter(), true)
		if err != nil || string(got) != "content" || scheme != s {
			t.Errorf("%+v: %q, %+v, %v", s, got, scheme, err)
		}
		_, _, err = Open(sealed, id.certificate, id.decrypter(), false)
		if old := s.Cipher.legacy(); errors.Is(err, ErrAlgorithm) != old {
			t.Errorf("%+v without legacy: %v", s, err)
		}
		if _, _, err := Open(sealed, otherRSA().certificate, otherRSA().decrypter(), true); !errors.Is(err, ErrRecipient) {
			t.Errorf("%+v for somebody else: %v", s, err)
		}
	}
	ec, err := PartyOf(ecIdentity().certificate)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Seal(nil, ec, Scheme{Cipher: AES128}); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("an envelope for an ECDSA key: %v", err)
	}
}

// Whatever is wrong inside an envelope, the error is the same: a wrong padding
// of the key, another key, and a wrong padding of the content.
func TestEnvelopeIsNoOracle(t *testing.T) {
	id := rsaIdentity()
	party, err := PartyOf(id.certificate)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal(bytes.Repeat([]byte{7}, 100), party, Scheme{Cipher: AES128})
	if err != nil {
		t.Fatal(err)
	}
	public := id.certificate.PublicKey.(*rsa.PublicKey)
	encrypted, err := rsa.EncryptPKCS1v15(rand.Reader, public, bytes.Repeat([]byte{1}, 24)) //nolint:staticcheck // what is tested
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(sealed, []byte{0x04, 0x82, 0x01, 0x00}) // the encrypted key
	if at < 0 {
		t.Fatal("where is the encrypted key?")
	}
	change := func(f func(m []byte)) []byte {
		m := bytes.Clone(sealed)
		f(m)
		return m
	}
	for name, message := range map[string][]byte{
		"padding of the key":     change(func(m []byte) { m[at+100] ^= 1 }),
		"length of the key":      change(func(m []byte) { copy(m[at+4:], encrypted) }),
		"padding of the content": change(func(m []byte) { m[len(m)-17] ^= 0x80 }),
	} {
		got, _, err := Open(message, id.certificate, id.decrypter(), false)
		// A random key leaves a right padding once in 256; what is under it is
		// random, too.
		if err == nil && name != "padding of the content" && !bytes.Contains(got, []byte{7, 7, 7, 7}) {
			continue
		}
		if err != ErrOpen { //nolint:errorlint // not even wrapped
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestUnpad(t *testing.T) {
	block := func(last ...byte) []byte { return append(bytes.Repeat([]byte{'x'}, 16-len(last)), last...) }
	for _, c := range []struct {
		in []byte
		n  int
		ok bool
	}{
		{block(1), 15, true},
		{block(2, 2), 14, true},
		{bytes.Repeat([]byte{16}, 16), 0, true},
		{block(0), 0, false},
		{block(17), 0, false},
		{block(255), 0, false},
		{block(1, 2), 0, false},
		{block(3, 2, 3), 0, false},
	} {
		n, ok := unpad(c.in, 16)
		if ok != c.ok || ok && n != c.n {
			t.Errorf("%x: %d, %t", c.in, n, ok)
		}
	}
}

func TestSignaturesThatAreRefused(t *testing.T) {
	id := rsaIdentity()
	sign := func(digest crypto.Hash) []byte {
		t.Helper()
		m, err := Sign([]byte("content"), nil, id.certificate, id.key, digest)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	good := sign(crypto.SHA256)
	if _, err := ParseSigned(good, false); err != nil {
		t.Fatal(err)
	}
	content := bytes.Index(good, []byte("content"))
	change := func(at int) []byte {
		m := bytes.Clone(good)
		m[at] ^= 1
		return m
	}
	for name, c := range map[string]struct {
		message []byte
		want    error
	}{
		"other content":   {change(content), ErrSignature},
		"other signature": {change(len(good) - 1), ErrSignature},
		"SHA-1":           {sign(crypto.SHA1), ErrAlgorithm},
		"nothing":         {nil, ErrFormat},
		"text":            {[]byte("operation=PKIOperation"), ErrFormat},
		"more behind it":  {append(bytes.Clone(good), 0), ErrFormat},
	} {
		if _, err := ParseSigned(c.message, false); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := ParseSigned(sign(crypto.SHA1), true); err != nil {
		t.Errorf("SHA-1 where it is allowed: %v", err)
	}
	for n := range good {
		if _, err := ParseSigned(good[:n], false); err == nil {
			t.Fatalf("%d of %d octets are taken", n, len(good))
		}
	}
	// No octet of what is signed, or says who signed how, may change.
	for at := range good {
		s, err := ParseSigned(change(at), true)
		if err == nil && (string(s.Content) != "content" || !s.Signer.Key.(*rsa.PublicKey).Equal(id.key.Public())) {
			t.Errorf("changed at %d: %q", at, s.Content)
		}
	}
}

// Windows marks the authority key identifier of the certificate that it signs
// for itself as critical, for which crypto/x509 refuses it.
func TestSignerThatX509Refuses(t *testing.T) {
	id := rsaIdentity()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "whoever"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 35}, Critical: true, Value: []byte{0x30, 0x03, 0x80, 0x01, 0x01}}},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, id.key.Public(), id.key)
	if err == nil {
		_, err = x509.ParseCertificate(der)
	}
	if err == nil || der == nil {
		t.Fatalf("crypto/x509 takes it: then this isn't needed (%v)", err)
	}
	message, err := Sign([]byte("content"), nil, &x509.Certificate{Raw: der}, id.key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseSigned(message, false); err != nil || !bytes.Equal(got.Signer.Raw, der) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCertificates(t *testing.T) {
	in := []*x509.Certificate{rsaIdentity().certificate, ecIdentity().certificate}
	bundle, err := Certificates(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ParseCertificates(bundle)
	if err != nil || len(out) != 2 || !out[0].Equal(in[0]) || !out[1].Equal(in[1]) {
		t.Errorf("%d certificates, %v", len(out), err)
	}
	theirs, err := pkcs7.Parse(bundle)
	if err != nil || len(theirs.Certificates) != 2 || !theirs.Certificates[1].Equal(in[1]) {
		t.Errorf("they read %+v, %v", theirs, err)
	}
}
