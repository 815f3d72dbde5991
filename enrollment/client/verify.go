package client

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/roamgate/roamgate/enrollment/join"
)

// parseRoot of what a server says of itself: a CA that signed itself.
func parseRoot(t *join.Trust) (*x509.Certificate, error) {
	root, err := x509.ParseCertificate(t.Root)
	if err != nil {
		return nil, fmt.Errorf("%w: root: %w", ErrTampered, err)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("%w: the root isn't one: %w", ErrTampered, err)
	}
	return root, nil
}

// accept what was issued: for our key, of this instance, with a path to the
// root. A MAC has shown already that the server says so; this shows that it
// makes sense.
func accept(r *join.CertificateResponse, root *x509.Certificate, instance string, key crypto.Signer) (leaf *x509.Certificate, chain []*x509.Certificate, err error) {
	if leaf, err = x509.ParseCertificate(r.Certificate); err != nil {
		return nil, nil, fmt.Errorf("%w: certificate: %w", ErrTampered, err)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return nil, nil, fmt.Errorf("%w: the certificate is for another key", ErrTampered)
	}
	for _, der := range r.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: chain: %w", ErrTampered, err)
		}
		chain = append(chain, c)
	}
	if !bytes.Equal(chain[len(chain)-1].Raw, root.Raw) {
		return nil, nil, fmt.Errorf("%w: the chain ends at another root", ErrTampered)
	}
	oid, err := x509.ParseOID(instance)
	if err != nil || !slices.ContainsFunc(leaf.Policies, oid.Equal) {
		return nil, nil, fmt.Errorf("%w: the certificate isn't of the instance %s", ErrTampered, instance)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range chain[:len(chain)-1] {
		intermediates.AddCert(c)
	}
	// A device's clock may be anywhere before it has been on a network for a
	// while; what counts here is that the path fits together.
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: leaf.NotBefore.Add(time.Second),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return leaf, chain, nil
}
