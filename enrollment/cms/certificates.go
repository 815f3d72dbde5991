package cms

import (
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Certificates makes a bundle without content and signature, "certs-only" (RFC
// 5272 section 4.1), with certificates and revocation lists in DER.
func Certificates(certificates []*x509.Certificate, crls ...[]byte) ([]byte, error) {
	var b cryptobyte.Builder
	wrap(&b, oidSigned, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(tags.SET, func(*cryptobyte.Builder) {})
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidData) })
		if len(certificates) > 0 {
			b.AddASN1(implicit0, func(b *cryptobyte.Builder) {
				for _, c := range certificates {
					b.AddBytes(c.Raw)
				}
			})
		}
		if len(crls) > 0 {
			b.AddASN1(tags.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				for _, crl := range crls {
					b.AddBytes(crl)
				}
			})
		}
		b.AddASN1(tags.SET, func(*cryptobyte.Builder) {})
	})
	return b.Bytes()
}

// ParseCertificates reads a bundle. Nothing in it is proven.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	content, err := unwrap(data, oidSigned)
	if err != nil {
		return nil, err
	}
	var signed, bundle cryptobyte.String
	var present bool
	if !content.ReadASN1(&signed, tags.SEQUENCE) || !signed.SkipASN1(tags.INTEGER) || !signed.SkipASN1(tags.SET) ||
		!signed.SkipASN1(tags.SEQUENCE) || !signed.ReadOptionalASN1(&bundle, &present, implicit0) {
		return nil, fmt.Errorf("%w: bundle of certificates", ErrFormat)
	}
	var all []*x509.Certificate
	for !bundle.Empty() {
		var element cryptobyte.String
		if len(all) == maxCertificates || !bundle.ReadASN1Element(&element, tags.SEQUENCE) {
			return nil, fmt.Errorf("%w: bundle of certificates", ErrFormat)
		}
		c, err := x509.ParseCertificate(element)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		all = append(all, c)
	}
	return all, nil
}
