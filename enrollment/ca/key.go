package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"software.sslmate.com/src/go-pkcs12"
)

// KeyAlgorithm names a kind of key that GenerateKey makes. Windows takes no
// others for IKEv2.
type KeyAlgorithm string

const (
	ECDSAP256 KeyAlgorithm = "ecdsa-p256"
	ECDSAP384 KeyAlgorithm = "ecdsa-p384"
	RSA2048   KeyAlgorithm = "rsa-2048"
	RSA3072   KeyAlgorithm = "rsa-3072"
)

// KeyAlgorithms in the order in which help shows them; the first is the
// default.
var KeyAlgorithms = []KeyAlgorithm{ECDSAP256, ECDSAP384, RSA2048, RSA3072}

// GenerateKey makes a private key; the empty name means the default.
func GenerateKey(algorithm KeyAlgorithm) (crypto.Signer, error) {
	switch algorithm {
	case "", ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, fmt.Errorf("%w: %q is none of %v", ErrKey, algorithm, KeyAlgorithms)
}

// checkPublicKey bounds what a certificate is issued for. Ed25519 is for
// devices: a gateway or server with it would shut out clients that can't
// verify it.
func checkPublicKey(profile Profile, key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("%w: curve %s", ErrKey, key.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 || bits > 8192 {
			return fmt.Errorf("%w: RSA of %d bits, want 2048..8192", ErrKey, bits)
		}
		return nil
	}
	if _, ok := key.(ed25519.PublicKey); ok && profile == Device {
		return nil
	}
	return fmt.Errorf("%w: %T, want ECDSA or RSA", ErrKey, key)
}

// subjectKeyID is method 1 of RFC 7093: the leftmost 160 bits of the SHA-256
// hash of the subjectPublicKey bits.
func subjectKeyID(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	bits, err := subjectPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	sum := sha256.Sum256(bits)
	return sum[:20], nil
}

// EncodeKey is a private key as PKCS#8 in PEM, unencrypted.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// EncodeCertificates is certificates in PEM, one after the other.
func EncodeCertificates(certificates ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// DecodeCertificates is the inverse; it wants at least one, and nothing else.
func DecodeCertificates(data []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: %s between certificates in PEM", ErrChain, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrChain, err)
		}
		all, data = append(all, c), rest
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no certificate in PEM", ErrChain)
	}
	return all, nil
}

const keyIterations = 600_000

// writeKey stores a CA key as base.p12 under a passphrase, or as base.key
// without.
func writeKey(base string, key crypto.Signer, certificate *x509.Certificate, passphrase []byte) error {
	if len(passphrase) == 0 {
		data, err := EncodeKey(key)
		if err != nil {
			return err
		}
		defer clear(data)
		return WriteFile(base+".key", data, 0o600, false)
	}
	data, err := pkcs12.Modern2023.WithIterations(keyIterations).Encode(key, certificate, nil, string(passphrase))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return WriteFile(base+".p12", data, 0o600, false)
}

// readKey is the inverse of writeKey; it asks for the passphrase only where
// there is an encrypted key.
func readKey(base string, passphrase func() ([]byte, error)) (crypto.Signer, error) {
	data, err := os.ReadFile(base + ".p12")
	if errors.Is(err, fs.ErrNotExist) {
		return readPlainKey(base + ".key")
	}
	if err != nil {
		return nil, err
	}
	if passphrase == nil {
		return nil, fmt.Errorf("%w: %s.p12 is encrypted", ErrPassphrase, base)
	}
	secret, err := passphrase()
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	key, _, err := pkcs12.Decode(data, string(secret))
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return nil, fmt.Errorf("%w: for %s.p12", ErrPassphrase, base)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s.p12: %w", ErrKey, base, err)
	}
	return asSigner(key, base+".p12")
}

func readPlainKey(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%w: %s is not PKCS#8 in PEM", ErrKey, path)
	}
	defer clear(block.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, path, err)
	}
	return asSigner(key, path)
}

func asSigner(key any, path string) (crypto.Signer, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: %s can't sign", ErrKey, path)
	}
	return signer, nil
}
