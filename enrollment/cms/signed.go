package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of signed data.
const (
	maxCertificates = 16
	maxAttributes   = 32
	// maxRSA is the largest modulus in bits that is computed with.
	maxRSA = 8192
)

var implicit0 = tags.Tag(0).Constructed().ContextSpecific()

// Party is the certificate of somebody who signs or for whom something is
// enveloped, as far as CMS needs it.
type Party struct {
	// Raw certificate in DER. It may be one that crypto/x509 refuses, such as
	// those that Windows signs for itself.
	Raw []byte
	Key crypto.PublicKey

	issuer, serial, subject []byte // elements in DER
}

// SelfIssued says that subject and issuer are the same name.
func (p *Party) SelfIssued() bool { return bytes.Equal(p.issuer, p.subject) }

// Signed data whose signature is right.
type Signed struct {
	Content []byte
	Signer  Party
	// Digest of the signature: SHA-256, SHA-384, SHA-512, or SHA-1 where
	// that was allowed.
	Digest crypto.Hash

	attributes []Attribute
}

// Attribute that is covered by a signature, with one value.
type Attribute struct {
	Type asn1.ObjectIdentifier
	// Value is one element in DER.
	Value []byte
}

// Attribute returns the value of a signed attribute, an element in DER, or nil.
func (s *Signed) Attribute(oid asn1.ObjectIdentifier) []byte {
	for _, a := range s.attributes {
		if a.Type.Equal(oid) {
			return a.Value
		}
	}
	return nil
}

// ParseSigned reads SignedData (RFC 5652 section 5) with one signer, whose
// certificate it brings, and checks the signature. legacy allows SHA-1.
func ParseSigned(data []byte, legacy bool) (*Signed, error) {
	content, err := unwrap(data, oidSigned)
	if err != nil {
		return nil, err
	}
	var signed, algorithms, encapsulated, certificates, signers, info cryptobyte.String
	var version int
	var present bool
	if !content.ReadASN1(&signed, tags.SEQUENCE) || !content.Empty() || !signed.ReadASN1Integer(&version) ||
		!signed.ReadASN1(&algorithms, tags.SET) || !signed.ReadASN1(&encapsulated, tags.SEQUENCE) ||
		!signed.ReadOptionalASN1(&certificates, &present, implicit0) ||
		!signed.SkipOptionalASN1(tags.Tag(1).Constructed().ContextSpecific()) ||
		!signed.ReadASN1(&signers, tags.SET) || !signed.Empty() ||
		!signers.ReadASN1(&info, tags.SEQUENCE) || !signers.Empty() {
		return nil, fmt.Errorf("%w: signed data of one signer", ErrFormat)
	}
	s := &Signed{}
	if s.Content, err = readContent(encapsulated); err != nil {
		return nil, err
	}
	if err := s.verify(info, certificates, legacy); err != nil {
		return nil, err
	}
	return s, nil
}

// unwrap reads ContentInfo, RFC 5652 section 3.
func unwrap(data []byte, kind asn1.ObjectIdentifier) (cryptobyte.String, error) {
	der, err := toDER(data)
	if err != nil {
		return nil, err
	}
	input := cryptobyte.String(der)
	var info, content cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&info, tags.SEQUENCE) || !info.ReadASN1ObjectIdentifier(&oid) ||
		!info.ReadASN1(&content, implicit0) || !info.Empty() {
		return nil, fmt.Errorf("%w: no content", ErrFormat)
	}
	if !oid.Equal(kind) {
		return nil, fmt.Errorf("%w: content of type %v, want %v", ErrFormat, oid, kind)
	}
	return content, nil
}

// readContent reads EncapsulatedContentInfo, RFC 5652 section 5.2, of plain
// data; detached is the same as empty.
func readContent(s cryptobyte.String) ([]byte, error) {
	var oid asn1.ObjectIdentifier
	var wrapped, content cryptobyte.String
	var present bool
	if !s.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidData) ||
		!s.ReadOptionalASN1(&wrapped, &present, implicit0) || !s.Empty() ||
		present && (!wrapped.ReadASN1(&content, tags.OCTET_STRING) || !wrapped.Empty()) {
		return nil, fmt.Errorf("%w: signed content", ErrFormat)
	}
	return content, nil
}

// verify reads SignerInfo, RFC 5652 section 5.3.
func (s *Signed) verify(info, certificates cryptobyte.String, legacy bool) error {
	var version int
	var identifier, attributes, signature cryptobyte.String
	var present bool
	if !info.ReadASN1Integer(&version) || !info.ReadASN1(&identifier, tags.SEQUENCE) {
		return fmt.Errorf("%w: a signer is known by issuer and serial number", ErrFormat)
	}
	digest, _, ok := readAlgorithm(&info)
	if !ok || !info.ReadOptionalASN1(&attributes, &present, implicit0) {
		return fmt.Errorf("%w: signer", ErrFormat)
	}
	method, parameters, ok := readAlgorithm(&info)
	if !ok || len(parameters) != 0 || !info.ReadASN1(&signature, tags.OCTET_STRING) ||
		!info.SkipOptionalASN1(tags.Tag(1).Constructed().ContextSpecific()) || !info.Empty() {
		return fmt.Errorf("%w: signature", ErrFormat)
	}
	var err error
	if s.Digest, err = digestOf(digest); err != nil {
		return err
	}
	if s.Digest == crypto.SHA1 && !legacy {
		return fmt.Errorf("%w: SHA-1", ErrAlgorithm)
	}
	if s.Signer, err = findSigner(identifier, certificates); err != nil {
		return err
	}
	signed := s.Content
	if present {
		if signed, err = s.readAttributes(attributes); err != nil {
			return err
		}
	}
	return verify(s.Signer.Key, s.Digest, method, signed, signature)
}

// readAttributes returns what their signature covers: a SET in DER, RFC 5652
// section 5.4, in whatever order they were sent.
func (s *Signed) readAttributes(attributes cryptobyte.String) ([]byte, error) {
	var elements [][]byte
	for !attributes.Empty() {
		var element, attribute, values, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var tag tags.Tag
		if len(elements) == maxAttributes || !attributes.ReadASN1Element(&element, tags.SEQUENCE) {
			return nil, fmt.Errorf("%w: signed attributes", ErrFormat)
		}
		elements = append(elements, element)
		if !element.ReadASN1(&attribute, tags.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) ||
			!attribute.ReadASN1(&values, tags.SET) || !attribute.Empty() {
			return nil, fmt.Errorf("%w: signed attribute", ErrFormat)
		}
		if !values.ReadAnyASN1Element(&value, &tag) || !values.Empty() {
			continue // none that is asked for has other than one value
		}
		if s.Attribute(oid) != nil {
			return nil, fmt.Errorf("%w: signed attribute %v twice", ErrFormat, oid)
		}
		s.attributes = append(s.attributes, Attribute{Type: oid, Value: value})
	}
	var kind asn1.ObjectIdentifier
	if v := cryptobyte.String(s.Attribute(oidContentType)); !v.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidData) {
		return nil, fmt.Errorf("%w: signed content type", ErrFormat)
	}
	var digest cryptobyte.String
	if v := cryptobyte.String(s.Attribute(oidMessageDigest)); !v.ReadASN1(&digest, tags.OCTET_STRING) {
		return nil, fmt.Errorf("%w: no digest", ErrFormat)
	}
	if !hmac.Equal(digest, sum(s.Digest, s.Content)) {
		return nil, fmt.Errorf("%w: the digest is of other content", ErrSignature)
	}
	return joinSet(elements), nil
}

// joinSet makes a SET OF in DER.
func joinSet(elements [][]byte) []byte {
	sorted := slices.SortedFunc(slices.Values(elements), bytes.Compare)
	all := bytes.Join(sorted, nil)
	return append(appendHeader(nil, byte(tags.SET), len(all)), all...)
}

func findSigner(identifier, certificates cryptobyte.String) (Party, error) {
	var issuer, serial cryptobyte.String
	if !identifier.ReadASN1Element(&issuer, tags.SEQUENCE) || !identifier.ReadASN1Element(&serial, tags.INTEGER) || !identifier.Empty() {
		return Party{}, fmt.Errorf("%w: a signer is known by issuer and serial number", ErrFormat)
	}
	for n := 0; !certificates.Empty(); n++ {
		var element cryptobyte.String
		var tag tags.Tag
		if n == maxCertificates || !certificates.ReadAnyASN1Element(&element, &tag) {
			return Party{}, fmt.Errorf("%w: certificates", ErrFormat)
		}
		if tag != tags.SEQUENCE {
			continue // attribute certificates and others, RFC 5652 section 10.2.2
		}
		p, err := readParty(element)
		if err != nil {
			return Party{}, err
		}
		if bytes.Equal(p.issuer, issuer) && bytes.Equal(p.serial, serial) {
			return p, p.readKey()
		}
	}
	return Party{}, fmt.Errorf("%w: without the signer's certificate", ErrFormat)
}

// PartyOf a certificate.
func PartyOf(c *x509.Certificate) (Party, error) {
	p, err := readParty(c.Raw)
	if err != nil {
		return p, err
	}
	return p, p.readKey()
}

// readParty reads the names of a certificate, RFC 5280 section 4.1.
func readParty(raw cryptobyte.String) (Party, error) {
	p := Party{Raw: raw}
	var certificate, tbs, issuer, serial, subject cryptobyte.String
	if !raw.ReadASN1(&certificate, tags.SEQUENCE) || !certificate.ReadASN1(&tbs, tags.SEQUENCE) ||
		!tbs.SkipOptionalASN1(implicit0) || !tbs.ReadASN1Element(&serial, tags.INTEGER) || !tbs.SkipASN1(tags.SEQUENCE) ||
		!tbs.ReadASN1Element(&issuer, tags.SEQUENCE) || !tbs.SkipASN1(tags.SEQUENCE) ||
		!tbs.ReadASN1Element(&subject, tags.SEQUENCE) {
		return p, fmt.Errorf("%w: certificate", ErrFormat)
	}
	p.issuer, p.serial, p.subject = issuer, serial, subject
	return p, nil
}

func (p *Party) readKey() error {
	raw := cryptobyte.String(p.Raw)
	var certificate, tbs, spki cryptobyte.String
	if !raw.ReadASN1(&certificate, tags.SEQUENCE) || !certificate.ReadASN1(&tbs, tags.SEQUENCE) ||
		!tbs.SkipOptionalASN1(implicit0) || !tbs.SkipASN1(tags.INTEGER) || !tbs.SkipASN1(tags.SEQUENCE) ||
		!tbs.SkipASN1(tags.SEQUENCE) || !tbs.SkipASN1(tags.SEQUENCE) || !tbs.SkipASN1(tags.SEQUENCE) ||
		!tbs.ReadASN1Element(&spki, tags.SEQUENCE) {
		return fmt.Errorf("%w: certificate", ErrFormat)
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() > maxRSA {
			return fmt.Errorf("%w: RSA of %d bits, at most %d", ErrAlgorithm, key.N.BitLen(), maxRSA)
		}
	case *ecdsa.PublicKey:
	default:
		return fmt.Errorf("%w: a key of type %T", ErrAlgorithm, key)
	}
	p.Key = key
	return nil
}

// Sign makes SignedData over content, with the signer's certificate and
// attributes beside the mandatory ones (RFC 5652 section 5.3). The key is RSA
// or ECDSA; it belongs to the certificate.
func Sign(content []byte, attributes []Attribute, certificate *x509.Certificate, key crypto.Signer, digest crypto.Hash) ([]byte, error) {
	party, err := PartyOf(certificate)
	if err != nil {
		return nil, err
	}
	// With RSA the algorithm of the key alone (RFC 3370 section 3.2), which all
	// know; strongSwan knows no other.
	var oid, method asn1.ObjectIdentifier
	for _, d := range digests {
		if d.hash == digest {
			oid, method = d.oid, oidRSA
			if _, ok := party.Key.(*ecdsa.PublicKey); ok {
				method = d.ecdsa
			}
		}
	}
	if oid == nil {
		return nil, fmt.Errorf("%w: digest %v", ErrAlgorithm, digest)
	}
	set, err := encodeAttributes(content, attributes, digest)
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(rand.Reader, sum(digest, set), digest)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	wrap(&b, oidSigned, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(tags.SET, func(b *cryptobyte.Builder) { addAlgorithm(b, oid) })
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidData)
			// An empty one too: OpenSSL takes an absent one for a detached
			// signature.
			b.AddASN1(implicit0, func(b *cryptobyte.Builder) { b.AddASN1OctetString(content) })
		})
		b.AddASN1(implicit0, func(b *cryptobyte.Builder) { b.AddBytes(certificate.Raw) })
		b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				party.addIdentifier(b)
				addAlgorithm(b, oid)
				b.AddBytes(append([]byte{byte(implicit0)}, set[1:]...))
				addAlgorithm(b, method)
				b.AddASN1OctetString(signature)
			})
		})
	})
	return b.Bytes()
}

func encodeAttributes(content []byte, attributes []Attribute, digest crypto.Hash) ([]byte, error) {
	var kind, value cryptobyte.Builder
	kind.AddASN1ObjectIdentifier(oidData)
	value.AddASN1OctetString(sum(digest, content))
	all := append([]Attribute{{oidContentType, kind.BytesOrPanic()}, {oidMessageDigest, value.BytesOrPanic()}}, attributes...)
	elements := make([][]byte, 0, len(all))
	for _, a := range all {
		var b cryptobyte.Builder
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(a.Type)
			b.AddASN1(tags.SET, func(b *cryptobyte.Builder) { b.AddBytes(a.Value) })
		})
		element, err := b.Bytes()
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
	}
	return joinSet(elements), nil
}

func (p *Party) addIdentifier(b *cryptobyte.Builder) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(p.issuer)
		b.AddBytes(p.serial)
	})
}

// wrap adds ContentInfo around a SEQUENCE.
func wrap(b *cryptobyte.Builder, kind asn1.ObjectIdentifier, f cryptobyte.BuilderContinuation) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(kind)
		b.AddASN1(implicit0, func(b *cryptobyte.Builder) { b.AddASN1(tags.SEQUENCE, f) })
	})
}

// addAlgorithm adds an AlgorithmIdentifier. RSA's have NULL for parameters,
// those of ECDSA and of digests none (RFC 5754 sections 2 and 3).
func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if len(oid) == 7 && oid[:6].Equal(oidRSA[:6]) {
			b.AddASN1NULL()
		}
	})
}
