package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// Revocation is an entry of a revocation list.
type Revocation struct {
	Serial *big.Int
	At     time.Time
	Reason Reason
}

// List is what a revocation list says.
type List struct {
	// Number of the list, above 0. Complete lists and deltas share one
	// sequence; those with the same number say the same (RFC 5280 section
	// 5.2.3).
	Number int64
	// Base is 0 for a complete list, else the number of the complete list to
	// which this one is a delta (section 5.2.4).
	Base       int64
	ThisUpdate time.Time
	NextUpdate time.Time
	Revoked    []Revocation
}

var deltaCRLIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}

// SignList makes a revocation list in DER. Whoever calls it has recorded its
// number, or does so before the list leaves.
func (i *Issuer) SignList(l List) ([]byte, error) {
	if i.signer == nil {
		return nil, fmt.Errorf("%w: opened without one", ErrKey)
	}
	if l.Number < 1 || l.Base < 0 || l.Base > l.Number {
		return nil, fmt.Errorf("%w: revocation list %d on base %d", ErrRequest, l.Number, l.Base)
	}
	template := &x509.RevocationList{
		Number:     big.NewInt(l.Number),
		ThisUpdate: l.ThisUpdate.UTC(),
		NextUpdate: l.NextUpdate.UTC(),
	}
	if l.Base > 0 {
		value, err := asn1.Marshal(l.Base)
		if err != nil {
			return nil, err
		}
		template.ExtraExtensions = []pkix.Extension{{Id: deltaCRLIndicator, Critical: true, Value: value}}
	}
	for _, r := range l.Revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: r.Serial, RevocationTime: r.At.UTC(), ReasonCode: int(r.Reason),
		})
	}
	return x509.CreateRevocationList(rand.Reader, template, i.chain[0], i.signer)
}

// BaseOf is the number of the complete list to which a list is a delta, 0 for
// a complete one.
func BaseOf(list *x509.RevocationList) (int64, error) {
	for _, e := range list.Extensions {
		if !e.Id.Equal(deltaCRLIndicator) {
			continue
		}
		var base int64
		if rest, err := asn1.Unmarshal(e.Value, &base); err != nil || len(rest) > 0 || base < 1 {
			return 0, fmt.Errorf("%w: delta CRL indicator %x", ErrRequest, e.Value)
		}
		return base, nil
	}
	return 0, nil
}
