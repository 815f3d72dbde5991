package admit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// parse bounds the certificates before it looks into them, and refuses those
// that would be costly or unsafe to verify with.
func (p *Policy) parse(chain [][]byte) (leaf *x509.Certificate, sent []*x509.Certificate, refusal *Refusal) {
	if len(chain) == 0 {
		return nil, nil, refuse(ReasonNoCertificate, "no CERT payload")
	}
	if len(chain) > p.max {
		return nil, nil, refuse(ReasonTooMany, "%d certificates, at most %d", len(chain), p.max)
	}
	for i, der := range chain {
		if len(der) > MaxCertificateBytes {
			return nil, nil, refuse(ReasonTooLarge, "certificate %d has %d bytes, at most %d", i+1, len(der), MaxCertificateBytes)
		}
	}
	for i, der := range chain {
		// The caller's buffer goes on living without us.
		c, err := x509.ParseCertificate(bytes.Clone(der))
		if err != nil {
			return nil, nil, refuse(ReasonMalformed, "certificate %d: %v", i+1, err)
		}
		if fault := keyFault(c.PublicKey); fault != "" {
			return nil, nil, refuse(ReasonWeakKey, "certificate %d: %s", i+1, fault)
		}
		// The signature of a root is never looked at: being configured is
		// what makes it a root.
		selfIssued := i > 0 && bytes.Equal(c.RawIssuer, c.RawSubject)
		if !selfIssued && !slices.Contains(acceptedSignatures, c.SignatureAlgorithm) {
			return nil, nil, refuse(ReasonSignatureAlgorithm, "certificate %d: %s", i+1, c.SignatureAlgorithm)
		}
		if i == 0 {
			leaf = c
		} else {
			sent = append(sent, c)
		}
	}
	return leaf, sent, nil
}

// keyFault says why a public key is not accepted; empty if it is. The upper
// bound keeps a peer from having us compute with absurd moduli.
func keyFault(key any) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 || bits > 8192 {
			return fmt.Sprintf("RSA key of %d bits, want 2048..8192", bits)
		}
		if key.E < 3 || key.E%2 == 0 {
			return "RSA key with a bad exponent"
		}
		return ""
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return ""
		}
		return "elliptic curve other than P-256, P-384, P-521"
	case ed25519.PublicKey:
		return ""
	}
	return "key is not RSA, ECDSA or Ed25519"
}

var acceptedSignatures = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
	x509.PureEd25519,
}

// paths finds the ways from the leaf to a root, the leaf first. It checks
// signatures, validity, basic constraints, path length and name constraints
// (RFC 5280 section 6.1); usages are checked in usage.go.
func (p *Policy) paths(now time.Time, leaf *x509.Certificate, sent []*x509.Certificate) ([][]*x509.Certificate, *Refusal) {
	for i, c := range append([]*x509.Certificate{leaf}, sent...) {
		if len(c.UnhandledCriticalExtensions) > 0 {
			return nil, refuse(ReasonCriticalExtension, "certificate %d: %v", i+1, c.UnhandledCriticalExtensions)
		}
	}
	options := x509.VerifyOptions{
		Roots:         p.roots,
		Intermediates: p.intermediates,
		CurrentTime:   now,
		// checkUsage knows more usages than crypto/x509.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	if len(sent) > 0 {
		options.Intermediates = p.intermediates.Clone()
		for _, c := range sent {
			options.Intermediates.AddCert(c)
		}
	}
	found, err := leaf.Verify(options)
	if err != nil {
		return nil, p.explain(now, leaf, sent, options, err)
	}
	paths := found[:0]
	for _, path := range found {
		if len(path)-1 <= p.max {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return nil, refuse(ReasonUntrustedChain, "more than %d certificates below the root", p.max)
	}
	return paths, nil
}

// explain tells a chain that is out of its time from one that was never good.
// Of an issuer crypto/x509 does not say whether time is all that is wrong: it
// is asked again about a time at which that issuer was valid.
func (p *Policy) explain(now time.Time, leaf *x509.Certificate, sent []*x509.Certificate, options x509.VerifyOptions, err error) *Refusal {
	if refusal := validity(now, leaf); refusal != nil {
		return refusal
	}
	for _, authorities := range [][]*x509.Certificate{sent, p.authorities} {
		for _, c := range authorities {
			refusal := validity(now, c)
			if refusal == nil {
				continue
			}
			options.CurrentTime = c.NotAfter
			if now.Before(c.NotBefore) {
				options.CurrentTime = c.NotBefore
			}
			if _, err := leaf.Verify(options); err == nil {
				return refusal
			}
		}
	}
	return refuse(ReasonUntrustedChain, "%v", err)
}

func validity(now time.Time, c *x509.Certificate) *Refusal {
	if now.Before(c.NotBefore) {
		return refuse(ReasonNotYetValid, "%q begins at %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
	}
	if now.After(c.NotAfter) {
		return refuse(ReasonExpired, "%q ended at %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}
