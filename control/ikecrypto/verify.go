package ikecrypto

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Verify checks the AUTH data of octets: method 14 with ECDSA, RSASSA-PSS or
// RSASSA-PKCS1-v1_5 and SHA-256 or longer, or with Ed25519, and methods 9, 10
// and 11, each of which belongs to one curve and hash. Any of these hashes goes
// with any curve from P-256 to P-521 in method 14. Legacy.Verify knows method 1
// besides.
//
// Errors: ErrSignature, ErrAuthMethod, ErrSHA1, ErrKeySize,
// ErrSignatureAlgorithm.
func Verify(pub crypto.PublicKey, method ikewire.AuthMethod, data, octets []byte) error {
	return verify(Legacy{}, pub, method, data, octets)
}

func verify(allow Legacy, pub crypto.PublicKey, method ikewire.AuthMethod, data, octets []byte) error {
	switch method {
	case ikewire.AuthSignature:
		return verifySignature(pub, data, octets)
	case ikewire.AuthECDSA256, ikewire.AuthECDSA384, ikewire.AuthECDSA521:
		return verifyCurve(pub, method, data, octets)
	case ikewire.AuthRSA:
		if allow.SHA1Signatures {
			return verifySHA1(pub, data, octets)
		}
		return fmt.Errorf("%w: method %s", ErrSHA1, method)
	case ikewire.AuthDSS:
		return fmt.Errorf("%w: method %s", ErrSHA1, method)
	case ikewire.AuthSharedKey, ikewire.AuthNull:
	}
	return fmt.Errorf("%w: %s", ErrAuthMethod, method)
}

// verifySHA1 is method 1 with the hash that RFC 7296 section 2.15 names as
// default and that is in use.
func verifySHA1(pub crypto.PublicKey, data, octets []byte) error {
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: %s with key of type %T", ErrAuthMethod, ikewire.AuthRSA, pub)
	}
	alg := signatureAlgorithm{scheme: schemePKCS1, hash: crypto.SHA1}
	return verifyRSA(key, alg, digest(crypto.SHA1, octets), data)
}

// verifyCurve is a method of RFC 4754.
func verifyCurve(pub crypto.PublicKey, method ikewire.AuthMethod, data, octets []byte) error {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: %s with key of type %T", ErrAuthMethod, method, pub)
	}
	want, h, err := curveMethod(key)
	if err != nil {
		return err
	}
	if method != want {
		return fmt.Errorf("%w: %s with a key for %s", ErrAuthMethod, method, want)
	}
	if len(data) != 2*((key.Curve.Params().BitSize+7)/8) {
		return fmt.Errorf("%w: %d octets", ErrSignature, len(data))
	}
	der, err := derECDSA(data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if !ecdsa.VerifyASN1(key, digest(h, octets), der) {
		return ErrSignature
	}
	return nil
}

// verifySignature is method 14 (RFC 7427 section 3).
func verifySignature(pub crypto.PublicKey, data, octets []byte) error {
	if len(data) == 0 || len(data) < 1+int(data[0]) {
		return fmt.Errorf("%w: identifier truncated", ErrSignatureAlgorithm)
	}
	n := 1 + int(data[0])
	alg, err := parseSignatureAlgorithm(data[1:n])
	if err != nil {
		return err
	}
	sig := data[n:]
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		if alg.scheme != schemeECDSA {
			break
		}
		if _, _, err := curveMethod(key); err != nil {
			return err
		}
		if !ecdsa.VerifyASN1(key, digest(alg.hash, octets), sig) {
			return ErrSignature
		}
		return nil
	case *rsa.PublicKey:
		if alg.scheme != schemePKCS1 && alg.scheme != schemePSS {
			break
		}
		return verifyRSA(key, alg, digest(alg.hash, octets), sig)
	case ed25519.PublicKey:
		if alg.scheme != schemeEd25519 {
			break
		}
		return verifyEd25519(key, octets, sig)
	}
	return fmt.Errorf("%w: signature algorithm with key of type %T", ErrAuthMethod, pub)
}

func verifyRSA(key *rsa.PublicKey, alg signatureAlgorithm, digest, sig []byte) error {
	err := checkRSA(key)
	if err != nil {
		return err
	}
	if alg.scheme == schemePSS {
		err = rsa.VerifyPSS(key, alg.hash, digest, sig, &rsa.PSSOptions{SaltLength: alg.saltLen})
	} else {
		err = rsa.VerifyPKCS1v15(key, alg.hash, digest, sig)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

func verifyEd25519(key ed25519.PublicKey, octets, sig []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: Ed25519 of %d octets", ErrKeySize, len(key))
	}
	if !ed25519.Verify(key, octets, sig) {
		return ErrSignature
	}
	return nil
}
