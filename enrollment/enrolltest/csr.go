package enrolltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"sync"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// CSR of a key, with an empty subject.
func CSR(t testing.TB, key crypto.Signer) []byte { return sign(t, key, nil, nil) }

// ChallengeCSR has a challenge password, which crypto/x509 can't write.
func ChallengeCSR(t testing.TB, key crypto.Signer, challenge string) []byte {
	return sign(t, key, nil, func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7})
			b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(tags.PrintableString, func(b *cryptobyte.Builder) { b.AddBytes([]byte(challenge)) })
			})
		})
	})
}

// WindowsCSR has a subject as Windows writes it, a PrintableString with '!' and
// a NUL at its end, which crypto/x509 refuses, and one of Windows' attributes.
func WindowsCSR(t testing.TB, key crypto.Signer) []byte {
	return sign(t, key, func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 5, 4, 3})
				b.AddASN1(tags.PrintableString, func(b *cryptobyte.Builder) {
					b.AddBytes([]byte("7BA748C8-703E-4DF2-A74A-929841!4219DFB0A902F747A9C4FD43C8CE36CE\x00"))
				})
			})
		})
	}, func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 13, 2, 3}) // OS version
			b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(tags.IA5String, func(b *cryptobyte.Builder) { b.AddBytes([]byte("10.0.22631.2")) })
			})
		})
	})
}

// sign makes a request by hand, with ECDSA or RSA over SHA-256.
func sign(t testing.TB, key crypto.Signer, subject, attributes func(*cryptobyte.Builder)) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(*cryptobyte.Builder) {}
	if subject == nil {
		subject = nothing
	}
	if attributes == nil {
		attributes = nothing
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(tags.SEQUENCE, subject)
		b.AddBytes(spki)
		b.AddASN1(tags.Tag(0).Constructed().ContextSpecific(), attributes)
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
			if _, ok := key.Public().(*ecdsa.PublicKey); ok {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2})
				return
			}
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11})
			b.AddASN1NULL()
		})
		b.AddASN1BitString(signature)
	})
	return outer.BytesOrPanic()
}

// RSAKeys of 2,048 bits, made once: they take their time.
var RSAKeys = sync.OnceValue(func() (keys [4]*rsa.PrivateKey) {
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})
