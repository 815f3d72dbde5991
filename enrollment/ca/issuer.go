package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Issuer signs certificates and revocation lists with the key of an issuing
// CA. It keeps no record: whoever calls it records what was signed before it
// leaves. It is safe for concurrent use if its signer is.
type Issuer struct {
	signer   crypto.Signer
	chain    []*x509.Certificate
	instance x509.OID
	id       string
}

// NewIssuer takes the issuing CA's key and its chain, from its own certificate
// to a self-signed root, both included; it verifies that they belong together.
// instance is the OID of devices. A nil signer makes an Issuer that signs
// nothing.
func NewIssuer(signer crypto.Signer, chain []*x509.Certificate, instance x509.OID) (*Issuer, error) {
	if len(chain) == 0 {
		return nil, fmt.Errorf("%w: no certificate", ErrChain)
	}
	if err := checkChain(chain); err != nil {
		return nil, err
	}
	if instance.Equal(x509.OID{}) {
		return nil, fmt.Errorf("%w: no instance OID", ErrChain)
	}
	if signer != nil && !samePublicKey(signer.Public(), chain[0].PublicKey) {
		return nil, fmt.Errorf("%w: it does not belong to the certificate of %q", ErrKey, chain[0].Subject)
	}
	sum := sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)
	return &Issuer{signer: signer, chain: slices.Clone(chain), instance: instance, id: hex.EncodeToString(sum[:])}, nil
}

// checkChain: each certificate is that of a CA and signed by the next one, the
// last one by itself.
func checkChain(chain []*x509.Certificate) error {
	for i, c := range chain {
		parent := chain[min(i+1, len(chain)-1)]
		if !bytes.Equal(c.RawIssuer, parent.RawSubject) {
			return fmt.Errorf("%w: %q is issued by %q, the next certificate is %q", ErrChain, c.Subject, c.Issuer, parent.Subject)
		}
		if err := c.CheckSignatureFrom(parent); err != nil {
			return fmt.Errorf("%w: %q is not signed by %q: %w", ErrChain, c.Subject, parent.Subject, err)
		}
		if !c.BasicConstraintsValid || !c.IsCA {
			return fmt.Errorf("%w: %q is not the certificate of a CA", ErrChain, c.Subject)
		}
		// Below certificate i come i CAs, of which the path length counts all.
		if (c.MaxPathLen > 0 || c.MaxPathLenZero) && c.MaxPathLen < i {
			return fmt.Errorf("%w: %q allows %d CAs below it, there are %d", ErrChain, c.Subject, c.MaxPathLen, i)
		}
	}
	if len(chain[0].SubjectKeyId) == 0 {
		return fmt.Errorf("%w: %q has no subject key identifier (RFC 5280 section 4.2.1.2)", ErrChain, chain[0].Subject)
	}
	const usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if chain[0].KeyUsage&usage != usage {
		return fmt.Errorf("%w: %q may not sign both certificates and revocation lists", ErrChain, chain[0].Subject)
	}
	return nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// ID tells issuers apart: the SHA-256 hash of the issuing CA's
// SubjectPublicKeyInfo in hexadecimal. A renewed certificate of the same key
// is the same issuer, whose serial numbers and list numbers go on.
func (i *Issuer) ID() string { return i.id }

// Certificate of the issuing CA.
func (i *Issuer) Certificate() *x509.Certificate { return i.chain[0] }

// Root is the last of the chain.
func (i *Issuer) Root() *x509.Certificate { return i.chain[len(i.chain)-1] }

// Chain from the issuing CA to the root, both included.
func (i *Issuer) Chain() []*x509.Certificate { return slices.Clone(i.chain) }

// InstanceOID that every device certificate carries as its policy.
func (i *Issuer) InstanceOID() x509.OID { return i.instance }

// Sign makes a certificate with a random serial number. It must not leave
// before it is recorded.
func (i *Issuer) Sign(now time.Time, r Request) (*x509.Certificate, error) {
	if i.signer == nil {
		return nil, fmt.Errorf("%w: opened without one", ErrKey)
	}
	template, err := i.template(now, r)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.chain[0], r.PublicKey, i.signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// template turns a request into a certificate to be signed.
func (i *Issuer) template(now time.Time, r Request) (*x509.Certificate, error) {
	c, lifetime, err := prepare(r)
	if err != nil {
		return nil, err
	}
	if policy, ok := PolicyOID(i.instance, r.Profile); ok {
		c.Policies = []x509.OID{policy}
	}
	c.NotBefore, c.NotAfter = now.Add(-backdate), now.Add(lifetime)
	if c.NotBefore.Before(i.chain[0].NotBefore) {
		c.NotBefore = i.chain[0].NotBefore
	}
	// No certificate outlives any above it: RFC 5280 section 6.1 would end it
	// there anyway, and the device would not know.
	for _, above := range i.chain {
		if c.NotAfter.After(above.NotAfter) {
			c.NotAfter = above.NotAfter
		}
	}
	if !c.NotAfter.After(now) {
		return nil, fmt.Errorf("%w: the issuing certificate or one above it ended at %s", ErrRequest, c.NotAfter.Format(time.RFC3339))
	}
	return c, nil
}
