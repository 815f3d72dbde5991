package ikecrypto

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Verify checks the AUTH data of octets: method 14 with ECDSA, RSASSA-PSS or
// RSASSA-PKCS1-v1_5 and SHA-256 or longer, and methods 9, 10 and 11, each of
// which belongs to one curve and hash. Any of these hashes goes with any curve
// from P-256 to P-521 in method 14.
//
// Errors: ErrSignature, ErrAuthMethod, ErrSHA1, ErrKeySize,
// ErrSignatureAlgorithm.
func Verify(pub crypto.PublicKey, method ikewire.AuthMethod, data, octets []byte) error {
	switch method {
	case ikewire.AuthSignature:
		return verifySignature(pub, data, octets)
	case ikewire.AuthECDSA256, ikewire.AuthECDSA384, ikewire.AuthECDSA521:
		return verifyCurve(pub, method, data, octets)
	case ikewire.AuthRSA, ikewire.AuthDSS:
		return fmt.Errorf("%w: method %s", ErrSHA1, method)
	case ikewire.AuthSharedKey, ikewire.AuthNull:
	}
	return fmt.Errorf("%w: %s", ErrAuthMethod, method)
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
		if alg.scheme == schemeECDSA {
			break
		}
		return verifyRSA(key, alg, digest(alg.hash, octets), sig)
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
