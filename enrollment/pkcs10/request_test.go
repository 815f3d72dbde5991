package pkcs10

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func create(t testing.TB, key crypto.Signer, r x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &r, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestKeys(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key       crypto.Signer
		algorithm x509.SignatureAlgorithm
	}{
		"RSA, SHA-256": {rsaKey(), x509.SHA256WithRSA},
		"RSA, SHA-512": {rsaKey(), x509.SHA512WithRSA},
		"P-256":        {ecKey(t, elliptic.P256()), 0},
		"P-384":        {ecKey(t, elliptic.P384()), 0},
		"P-521":        {ecKey(t, elliptic.P521()), 0},
		"Ed25519":      {ed, 0},
	} {
		r, err := Parse(create(t, c.key, x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "whatever"}, DNSNames: []string{"root.example.com"}, SignatureAlgorithm: c.algorithm,
		}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !c.key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(r.Key) || r.Challenge != "" {
			t.Errorf("%s: key %v, challenge %q", name, r.Key, r.Challenge)
		}
	}
}

// element appends a value to b.
func element(b *cryptobyte.Builder, tag tags.Tag, content string) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(content)) })
}

// request makes a request by hand: a subject, and attributes of one value each.
func request(t testing.TB, key *ecdsa.PrivateKey, subject func(*cryptobyte.Builder), attributes func(*cryptobyte.Builder)) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(tags.SEQUENCE, subject)
		b.AddBytes(spki)
		if attributes != nil {
			b.AddASN1(tags.Tag(0).Constructed().ContextSpecific(), attributes)
		}
	})
	info := b.BytesOrPanic()
	digest := sha256.Sum256(info)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var outer cryptobyte.Builder
	outer.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(info)
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2})
		})
		b.AddASN1BitString(signature)
	})
	return outer.BytesOrPanic()
}

func attribute(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, values func(*cryptobyte.Builder)) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(tags.SET, values)
	})
}

func commonName(name string) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 5, 4, 3})
				element(b, tags.PrintableString, name)
			})
		})
	}
}

// Windows writes an identifier with '!' and a NUL at its end into its subject,
// as a PrintableString, and attributes of its own.
func TestWindowsSubject(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	der := request(t, key, commonName("F717C0F0-0000-4000-8000-01B254!4219DFB0A902F747A9C4FD43C8CE36CE\x00"), func(b *cryptobyte.Builder) {
		attribute(b, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 13, 2, 3}, func(b *cryptobyte.Builder) {
			element(b, tags.IA5String, "10.0.22631.2")
		})
	})
	if _, err := x509.ParseCertificateRequest(der); err == nil {
		t.Fatal("crypto/x509 takes it: then this package isn't needed for it")
	}
	r, err := Parse(der)
	if err != nil || !key.PublicKey.Equal(r.Key) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestChallenge(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	password := func(tag tags.Tag, text string) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) {
			attribute(b, oidChallengePassword, func(b *cryptobyte.Builder) { element(b, tag, text) })
		}
	}
	for name, c := range map[string]struct {
		attributes func(*cryptobyte.Builder)
		want       string
		bad        bool
	}{
		"none":            {attributes: func(*cryptobyte.Builder) {}},
		"left out":        {},
		"PrintableString": {attributes: password(tags.PrintableString, "XK7M-29QA"), want: "XK7M-29QA"},
		"UTF8String":      {attributes: password(tags.UTF8String, "größe"), want: "größe"},
		"IA5String":       {attributes: password(tags.IA5String, "a_b"), want: "a_b"},
		"not UTF-8":       {attributes: password(tags.UTF8String, "\xff"), bad: true},
		"empty":           {attributes: password(tags.UTF8String, ""), bad: true},
		"too long":        {attributes: password(tags.PrintableString, strings.Repeat("x", 256)), bad: true},
		"a number":        {attributes: password(tags.INTEGER, "1"), bad: true},
		"NUL":             {attributes: password(tags.PrintableString, "a\x00b"), bad: true},
		"twice": {attributes: func(b *cryptobyte.Builder) {
			password(tags.PrintableString, "a")(b)
			password(tags.PrintableString, "b")(b)
		}, bad: true},
		"two values": {attributes: func(b *cryptobyte.Builder) {
			attribute(b, oidChallengePassword, func(b *cryptobyte.Builder) {
				element(b, tags.PrintableString, "a")
				element(b, tags.PrintableString, "b")
			})
		}, bad: true},
		"too many attributes": {attributes: func(b *cryptobyte.Builder) {
			for range maxAttributes + 1 {
				attribute(b, asn1.ObjectIdentifier{1, 2, 3}, func(*cryptobyte.Builder) {})
			}
		}, bad: true},
	} {
		r, err := Parse(request(t, key, commonName("x"), c.attributes))
		if c.bad {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || r.Challenge != c.want {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestRefused(t *testing.T) {
	good := create(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{})
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(create(t, small, x509.CertificateRequest{})); err != nil {
		t.Errorf("which size is enough isn't said here: %v", err)
	}
	for name, c := range map[string]struct {
		der  []byte
		want error
	}{
		"nothing":        {nil, ErrFormat},
		"too large":      {make([]byte, MaxSize+1), ErrFormat},
		"more behind it": {append(good[:len(good):len(good)], 0), ErrFormat},
		"P-224":          {create(t, ecKey(t, elliptic.P224()), x509.CertificateRequest{SignatureAlgorithm: x509.ECDSAWithSHA1}), ErrAlgorithm},
		"SHA-1":          {create(t, rsaKey(), x509.CertificateRequest{SignatureAlgorithm: x509.SHA1WithRSA}), ErrAlgorithm},
		"RSA-PSS":        {create(t, rsaKey(), x509.CertificateRequest{SignatureAlgorithm: x509.SHA256WithRSAPSS}), ErrAlgorithm},
	} {
		if r, err := Parse(c.der); !errors.Is(err, c.want) || r != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for n := range good {
		if _, err := Parse(good[:n]); err == nil {
			t.Fatalf("%d of %d octets are taken", n, len(good))
		}
	}
	// The signature covers all but itself and its algorithm.
	for at := range good {
		m := append([]byte(nil), good...)
		m[at] ^= 1
		if _, err := Parse(m); err == nil {
			t.Errorf("taken with octet %d changed", at)
		}
	}
}

func FuzzParse(f *testing.F) {
	key := ecKey(f, elliptic.P256())
	f.Add(create(f, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}))
	f.Add(create(f, rsaKey(), x509.CertificateRequest{}))
	f.Add(request(f, key, commonName("!\x00"), func(b *cryptobyte.Builder) {
		attribute(b, oidChallengePassword, func(b *cryptobyte.Builder) { element(b, tags.PrintableString, "XK7M") })
	}))
	f.Fuzz(func(t *testing.T, der []byte) {
		if r, err := Parse(der); err == nil && r.Key == nil {
			t.Error("without a key")
		}
	})
}
