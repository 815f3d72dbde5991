package ikecrypto

import (
	"bytes"
	"crypto"
	encasn1 "encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// signatureAlgorithm is what an AlgorithmIdentifier of RFC 7427 says.
type signatureAlgorithm struct {
	scheme  signatureScheme
	hash    crypto.Hash // 0 for Ed25519, which takes the octets as they are
	saltLen int         // of RSASSA-PSS, at least 1
}

type signatureScheme uint8

const (
	schemeECDSA   signatureScheme = iota
	schemePKCS1                   // RSASSA-PKCS1-v1_5
	schemePSS                     // RSASSA-PSS
	schemeEd25519                 // RFC 8420
)

// AlgorithmIdentifiers in DER (RFC 7427 appendix A, RFC 8420 appendix A): ECDSA
// and Ed25519 without parameters, RSASSA-PKCS1-v1_5 with NULL, RSASSA-PSS with
// a salt as long as the hash.
var (
	ecdsaIdentifiers = map[crypto.Hash][]byte{
		crypto.SHA256: {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02},
		crypto.SHA384: {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03},
		crypto.SHA512: {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04},
	}
	rsaIdentifiers = map[crypto.Hash][]byte{
		crypto.SHA256: {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00},
		crypto.SHA384: {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c, 0x05, 0x00},
		crypto.SHA512: {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d, 0x05, 0x00},
	}
	pssIdentifiers = map[crypto.Hash][]byte{
		crypto.SHA256: pssIdentifier(0x01, 32),
		crypto.SHA384: pssIdentifier(0x02, 48),
		crypto.SHA512: pssIdentifier(0x03, 64),
	}
	ed25519Identifier = []byte{0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70}
)

// pssIdentifier is the AlgorithmIdentifier of RSASSA-PSS with a SHA-2 hash, by
// the last arc of its OID. The trailer field is left out as RFC 4055 section
// 3.1 wants it; the example in RFC 7427 appendix A.4.3 has one.
func pssIdentifier(hash, saltLen byte) []byte {
	id := []byte{0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, hash, 0x05, 0x00}
	der := []byte{0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0, 0x0f}
	der = append(der, id...)
	der = append(der, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08)
	der = append(der, id...)
	return append(der, 0xa2, 0x03, 0x02, 0x01, saltLen)
}

var (
	oidPSS  = encasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1 = encasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}

	// signatureOIDs without RSASSA-PSS; those with SHA-1 are known to be
	// refused by name.
	signatureOIDs = map[string]signatureAlgorithm{
		"1.2.840.10045.4.1":     {scheme: schemeECDSA, hash: crypto.SHA1},
		"1.2.840.10045.4.3.2":   {scheme: schemeECDSA, hash: crypto.SHA256},
		"1.2.840.10045.4.3.3":   {scheme: schemeECDSA, hash: crypto.SHA384},
		"1.2.840.10045.4.3.4":   {scheme: schemeECDSA, hash: crypto.SHA512},
		"1.2.840.113549.1.1.5":  {scheme: schemePKCS1, hash: crypto.SHA1},
		"1.2.840.113549.1.1.11": {scheme: schemePKCS1, hash: crypto.SHA256},
		"1.2.840.113549.1.1.12": {scheme: schemePKCS1, hash: crypto.SHA384},
		"1.2.840.113549.1.1.13": {scheme: schemePKCS1, hash: crypto.SHA512},
		"1.3.101.112":           {scheme: schemeEd25519},
	}
	hashOIDs = map[string]crypto.Hash{
		"1.3.14.3.2.26":          crypto.SHA1,
		"2.16.840.1.101.3.4.2.1": crypto.SHA256,
		"2.16.840.1.101.3.4.2.2": crypto.SHA384,
		"2.16.840.1.101.3.4.2.3": crypto.SHA512,
	}
)

// parseSignatureAlgorithm reads one AlgorithmIdentifier that fills der, in DER
// and nothing else. Errors: ErrSignatureAlgorithm, ErrSHA1.
func parseSignatureAlgorithm(der []byte) (signatureAlgorithm, error) {
	in := cryptobyte.String(der)
	oid, params, ok := readIdentifier(&in)
	if !ok || !in.Empty() {
		return signatureAlgorithm{}, fmt.Errorf("%w: malformed identifier", ErrSignatureAlgorithm)
	}
	if oid.Equal(oidPSS) {
		return parsePSS(params)
	}
	alg, ok := signatureOIDs[oid.String()]
	if !ok {
		return signatureAlgorithm{}, fmt.Errorf("%w: %s", ErrSignatureAlgorithm, oid)
	}
	// RFC 5758 section 3.2 and RFC 8410 section 3: ECDSA and Ed25519 have no
	// parameters. RFC 4055 section 5: RSA has NULL, and verifiers accept their
	// absence.
	if !params.Empty() && (alg.scheme != schemePKCS1 || !isNULL(params)) {
		return signatureAlgorithm{}, fmt.Errorf("%w: parameters of %s", ErrSignatureAlgorithm, oid)
	}
	if alg.hash == crypto.SHA1 {
		return signatureAlgorithm{}, ErrSHA1
	}
	return alg, nil
}

// parsePSS reads RSASSA-PSS-params (RFC 4055 section 3.1). Absent fields stand
// for SHA-1. MGF1 has to use the hash of the message (RFC 8247 section 4.2
// knows no other), and a signature without salt is refused.
func parsePSS(params cryptobyte.String) (signatureAlgorithm, error) {
	malformed := fmt.Errorf("%w: parameters of RSASSA-PSS", ErrSignatureAlgorithm)
	var seq, hash, mgf, salt, trailer cryptobyte.String
	var hasHash, hasMGF, hasSalt, hasTrailer bool
	if !params.ReadASN1(&seq, asn1.SEQUENCE) || !params.Empty() ||
		!seq.ReadOptionalASN1(&hash, &hasHash, pssField(0)) ||
		!seq.ReadOptionalASN1(&mgf, &hasMGF, pssField(1)) ||
		!seq.ReadOptionalASN1(&salt, &hasSalt, pssField(2)) ||
		!seq.ReadOptionalASN1(&trailer, &hasTrailer, pssField(3)) || !seq.Empty() {
		return signatureAlgorithm{}, malformed
	}
	alg := signatureAlgorithm{scheme: schemePSS, hash: crypto.SHA1, saltLen: 20}
	mgfHash := crypto.SHA1
	ok := true
	if hasHash {
		alg.hash, ok = readHash(&hash)
		ok = ok && hash.Empty()
	}
	if ok && hasMGF {
		oid, mgfParams, mgfOK := readIdentifier(&mgf)
		if ok = mgfOK && mgf.Empty() && oid.Equal(oidMGF1); ok {
			mgfHash, ok = readHash(&mgfParams)
			ok = ok && mgfParams.Empty()
		}
	}
	if ok && hasSalt {
		ok = salt.ReadASN1Integer(&alg.saltLen) && salt.Empty() && alg.saltLen > 0
	}
	if ok && hasTrailer {
		var n int
		ok = trailer.ReadASN1Integer(&n) && trailer.Empty() && n == 1
	}
	switch {
	case !ok:
		return signatureAlgorithm{}, malformed
	case alg.hash == crypto.SHA1 || mgfHash == crypto.SHA1:
		return signatureAlgorithm{}, ErrSHA1
	case mgfHash != alg.hash:
		return signatureAlgorithm{}, malformed
	}
	return alg, nil
}

func pssField(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }

// readHash reads the AlgorithmIdentifier of a hash, with NULL or no parameters
// (RFC 4055 section 2.1).
func readHash(in *cryptobyte.String) (crypto.Hash, bool) {
	oid, params, ok := readIdentifier(in)
	if !ok || !params.Empty() && !isNULL(params) {
		return 0, false
	}
	h, ok := hashOIDs[oid.String()]
	return h, ok
}

// readIdentifier reads an AlgorithmIdentifier; params is what follows the OID.
func readIdentifier(in *cryptobyte.String) (oid encasn1.ObjectIdentifier, params cryptobyte.String, ok bool) {
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&oid) {
		return nil, nil, false
	}
	return oid, seq, true
}

func isNULL(params cryptobyte.String) bool { return bytes.Equal(params, []byte{5, 0}) }
