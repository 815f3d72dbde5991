package pkcs10

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds, looked at before anything is computed.
const (
	// MaxSize of a request in octets.
	MaxSize = 16 << 10
	// maxRSA is the largest modulus in bits that is verified.
	maxRSA = 8192
	// maxAttributes of a request.
	maxAttributes = 32
	// maxChallenge is ub-challengePassword, RFC 2985 section 5.4.1, in octets.
	maxChallenge = 255
)

// Errors.
var (
	// ErrFormat: no certificate request, or one that breaks DER.
	ErrFormat = errors.New("not a certificate request (PKCS #10)")
	// ErrAlgorithm: a key or signature algorithm that isn't supported.
	ErrAlgorithm = errors.New("certificate request with an unsupported algorithm")
	// ErrSignature: whoever asks doesn't hold the private key.
	ErrSignature = errors.New("certificate request with a wrong signature")
)

// Request for a certificate whose signature is right.
type Request struct {
	// Key that asks: *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
	Key crypto.PublicKey
	// Challenge password, RFC 2985 section 5.4.1; empty for none.
	Challenge string
}

var (
	oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}

	signatureAlgorithms = []struct {
		oid       asn1.ObjectIdentifier
		algorithm x509.SignatureAlgorithm
		noNull    bool // parameters must be absent; otherwise NULL or absent
	}{
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, x509.SHA256WithRSA, false},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, x509.SHA384WithRSA, false},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, x509.SHA512WithRSA, false},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, x509.ECDSAWithSHA256, true},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, x509.ECDSAWithSHA384, true},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, x509.ECDSAWithSHA512, true},
		{asn1.ObjectIdentifier{1, 3, 101, 112}, x509.PureEd25519, true},
	}
)

// Parse reads a request in DER and checks its signature. Whether the key is
// good enough is for others to say.
func Parse(der []byte) (*Request, error) {
	if len(der) > MaxSize {
		return nil, fmt.Errorf("%w: %d octets, at most %d", ErrFormat, len(der), MaxSize)
	}
	// CertificationRequest, RFC 2986 section 4.2.
	input, outer := cryptobyte.String(der), cryptobyte.String(nil)
	if !input.ReadASN1(&outer, tags.SEQUENCE) || !input.Empty() {
		return nil, ErrFormat
	}
	var info, algorithm cryptobyte.String
	var signature []byte
	if !outer.ReadASN1Element(&info, tags.SEQUENCE) || !outer.ReadASN1(&algorithm, tags.SEQUENCE) ||
		!outer.ReadASN1BitStringAsBytes(&signature) || !outer.Empty() {
		return nil, ErrFormat
	}
	method, err := signatureAlgorithm(algorithm)
	if err != nil {
		return nil, err
	}
	key, challenge, err := parseInfo(info)
	if err != nil {
		return nil, err
	}
	check := x509.CertificateRequest{
		RawTBSCertificateRequest: info,
		SignatureAlgorithm:       method,
		Signature:                signature,
		PublicKey:                key,
	}
	if err := check.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return &Request{Key: key, Challenge: challenge}, nil
}

func signatureAlgorithm(s cryptobyte.String) (x509.SignatureAlgorithm, error) {
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1ObjectIdentifier(&oid) {
		return 0, ErrFormat
	}
	for _, a := range signatureAlgorithms {
		if !a.oid.Equal(oid) {
			continue
		}
		if !s.Empty() && (a.noNull || !bytes.Equal(s, asn1.NullBytes)) {
			return 0, ErrFormat
		}
		return a.algorithm, nil
	}
	return 0, fmt.Errorf("%w: signature %v; RSA, ECDSA with SHA-2, or Ed25519", ErrAlgorithm, oid)
}

// parseInfo reads a CertificationRequestInfo, RFC 2986 section 4.1.
func parseInfo(element cryptobyte.String) (crypto.PublicKey, string, error) {
	var info, subject, spki, attributes cryptobyte.String
	var version int
	var present bool
	if !element.ReadASN1(&info, tags.SEQUENCE) || !info.ReadASN1Integer(&version) || version != 0 ||
		!info.ReadASN1(&subject, tags.SEQUENCE) || !info.ReadASN1Element(&spki, tags.SEQUENCE) ||
		// Mandatory, but left out by some when empty.
		!info.ReadOptionalASN1(&attributes, &present, tags.Tag(0).Constructed().ContextSpecific()) || !info.Empty() {
		return nil, "", ErrFormat
	}
	key, err := parseKey(spki)
	if err != nil {
		return nil, "", err
	}
	challenge, err := parseAttributes(attributes)
	return key, challenge, err
}

func parseKey(spki []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() > maxRSA {
			return nil, fmt.Errorf("%w: RSA of %d bits, at most %d", ErrAlgorithm, key.N.BitLen(), maxRSA)
		}
		return key, nil
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return key, nil
	}
	return nil, fmt.Errorf("%w: a key of type %T", ErrAlgorithm, key)
}

// parseAttributes returns the challenge password; two are refused.
func parseAttributes(attributes cryptobyte.String) (challenge string, err error) {
	for n := 0; !attributes.Empty(); n++ {
		var attribute, values cryptobyte.String
		var oid asn1.ObjectIdentifier
		if n == maxAttributes || !attributes.ReadASN1(&attribute, tags.SEQUENCE) ||
			!attribute.ReadASN1ObjectIdentifier(&oid) || !attribute.ReadASN1(&values, tags.SET) || !attribute.Empty() {
			return "", ErrFormat
		}
		if !oid.Equal(oidChallengePassword) {
			continue
		}
		text, ok := directoryString(values)
		if !ok || challenge != "" {
			return "", fmt.Errorf("%w: challenge password", ErrFormat)
		}
		challenge = text
	}
	return challenge, nil
}

// directoryString reads the one string of a SET, RFC 2985 section 5.4.1: a
// DirectoryString, and IA5String, which some write.
func directoryString(values cryptobyte.String) (string, bool) {
	var text cryptobyte.String
	var tag tags.Tag
	if !values.ReadAnyASN1(&text, &tag) || !values.Empty() || len(text) == 0 || len(text) > maxChallenge {
		return "", false
	}
	switch tag {
	case tags.UTF8String:
		return string(text), utf8.Valid(text)
	case tags.PrintableString, tags.IA5String, tags.T61String:
		for _, c := range text {
			if c < ' ' || c > '~' {
				return "", false
			}
		}
		return string(text), true
	default:
		return "", false
	}
}
