package admit

import (
	"crypto/x509"
	"encoding/asn1"
)

// usage is an extended key usage. Its zero value is anyExtendedKeyUsage, which
// a certificate may always have instead.
type usage struct {
	known   x509.ExtKeyUsage
	unknown asn1.ObjectIdentifier // where crypto/x509 has no name for it
}

// deviceUsages: client authentication, id-kp-ipsecIKE (RFC 4945 section
// 5.1.3.12), and the three it replaced.
var deviceUsages = []usage{
	{known: x509.ExtKeyUsageClientAuth},
	{unknown: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17}},
	{known: x509.ExtKeyUsageIPSECEndSystem},
	{known: x509.ExtKeyUsageIPSECTunnel},
	{known: x509.ExtKeyUsageIPSECUser},
}

// checkUsage refuses a CA as a device, a key that may not sign, and a path on
// which no usage of a device is permitted all the way down. A certificate
// without the extension permits every usage (RFC 5280 section 4.2.1.12).
func checkUsage(path []*x509.Certificate) *Refusal {
	leaf := path[0]
	if leaf.IsCA {
		return refuse(ReasonWrongUsage, "certificate of a CA")
	}
	// RFC 4945 section 5.1.3.2.
	const signs = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	if leaf.KeyUsage != 0 && leaf.KeyUsage&signs == 0 {
		return refuse(ReasonWrongUsage, "key usage without digitalSignature")
	}
	for _, u := range deviceUsages {
		if permitted(path, func(c *x509.Certificate) bool { return permitsUsage(c, u) }) {
			return nil
		}
	}
	return refuse(ReasonWrongUsage, "extended key usage without clientAuth or ipsecIKE")
}

// permitted asks all certificates below the root.
func permitted(path []*x509.Certificate, permits func(*x509.Certificate) bool) bool {
	for _, c := range path[:len(path)-1] {
		if !permits(c) {
			return false
		}
	}
	return true
}

func permitsUsage(c *x509.Certificate, u usage) bool {
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, known := range c.ExtKeyUsage {
		if known == x509.ExtKeyUsageAny || known == u.known {
			return true
		}
	}
	for _, unknown := range c.UnknownExtKeyUsage {
		if u.unknown != nil && unknown.Equal(u.unknown) {
			return true
		}
	}
	return false
}

// checkInstance wants an instance OID in the leaf that no intermediate
// excludes: one that has policies, or extended key usages, grants only those.
func (p *Policy) checkInstance(path []*x509.Certificate) *Refusal {
	if len(p.instanceOIDs) == 0 {
		return nil
	}
	if _, ok := p.instanceOf(path); !ok {
		return refuse(ReasonWrongInstance, "none of %v", p.instanceOIDs)
	}
	return nil
}

// instanceOf is the first of the instance OIDs that lets a path in.
func (p *Policy) instanceOf(path []*x509.Certificate) (x509.OID, bool) {
	leaf := path[0]
	for _, oid := range p.instanceOIDs {
		if hasPolicy(leaf, oid) && permitted(path, func(c *x509.Certificate) bool {
			return len(c.Policies) == 0 || hasPolicy(c, oid) || (c != leaf && hasPolicy(c, anyPolicy))
		}) {
			return oid, true
		}
		if hasUsageOID(leaf, oid) && permitted(path, func(c *x509.Certificate) bool {
			return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || hasUsageOID(c, oid) || permitsUsage(c, usage{})
		}) {
			return oid, true
		}
	}
	return x509.OID{}, false
}

func hasPolicy(c *x509.Certificate, oid x509.OID) bool {
	for _, policy := range c.Policies {
		if policy.Equal(oid) {
			return true
		}
	}
	return false
}

func hasUsageOID(c *x509.Certificate, oid x509.OID) bool {
	for _, unknown := range c.UnknownExtKeyUsage {
		if oid.EqualASN1OID(unknown) {
			return true
		}
	}
	return false
}
