package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // of legacy signatures, and of OAEP's defaults
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSigned    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidEnveloped = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}

	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}

	oidRSA  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidOAEP = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}

	oidSHA1   = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}

	oidAES128 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES192 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidDES3   = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}
	oidDES    = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 7}
)

// digests by their OIDs, and signatures over them: RFC 5754 for SHA-2, RFC 3370
// for SHA-1.
var digests = []struct {
	oid   asn1.ObjectIdentifier
	hash  crypto.Hash
	rsa   asn1.ObjectIdentifier
	ecdsa asn1.ObjectIdentifier
}{
	{oidSHA256, crypto.SHA256, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{oidSHA384, crypto.SHA384, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{oidSHA512, crypto.SHA512, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
	{oidSHA1, crypto.SHA1, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}},
}

// readAlgorithm reads an AlgorithmIdentifier, RFC 5280 section 4.1.1.2;
// parameters are empty where there are none or NULL.
func readAlgorithm(s *cryptobyte.String) (oid asn1.ObjectIdentifier, parameters cryptobyte.String, ok bool) {
	var a cryptobyte.String
	if !s.ReadASN1(&a, tags.SEQUENCE) || !a.ReadASN1ObjectIdentifier(&oid) {
		return nil, nil, false
	}
	if bytes.Equal(a, asn1.NullBytes) {
		return oid, nil, true
	}
	return oid, a, true
}

func digestOf(oid asn1.ObjectIdentifier) (crypto.Hash, error) {
	for _, d := range digests {
		if d.oid.Equal(oid) {
			return d.hash, nil
		}
	}
	return 0, fmt.Errorf("%w: digest %v", ErrAlgorithm, oid)
}

// verify checks a signature made with the digest hash. Its algorithm is told as
// that of the key alone, or of both.
func verify(key crypto.PublicKey, hash crypto.Hash, oid asn1.ObjectIdentifier, signed, signature []byte) error {
	for _, d := range digests {
		if d.hash != hash {
			continue
		}
		switch key := key.(type) {
		case *rsa.PublicKey:
			if !oid.Equal(oidRSA) && !oid.Equal(d.rsa) {
				return fmt.Errorf("%w: signature %v over %v", ErrAlgorithm, oid, hash)
			}
			if rsa.VerifyPKCS1v15(key, hash, sum(hash, signed), signature) != nil {
				return ErrSignature
			}
			return nil
		case *ecdsa.PublicKey:
			if !oid.Equal(d.ecdsa) {
				return fmt.Errorf("%w: signature %v over %v", ErrAlgorithm, oid, hash)
			}
			if !ecdsa.VerifyASN1(key, sum(hash, signed), signature) {
				return ErrSignature
			}
			return nil
		}
	}
	return fmt.Errorf("%w: a key of type %T", ErrAlgorithm, key)
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}
