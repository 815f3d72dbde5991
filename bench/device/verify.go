package device

import (
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Verify returns the public key of a gateway that may be trusted. chain is in
// DER as it was sent, the gateway's own certificate first.
type Verify func(id *ikewire.ID, chain [][]byte) (crypto.PublicKey, error)

// VerifyGateway is what clients do: a chain to a root, serverAuth among the
// extended key usages, and the name, by which the gateway was called, among the
// certificate's (RFC 4945 section 3.1).
func VerifyGateway(roots *x509.CertPool, name string) Verify {
	return func(_ *ikewire.ID, chain [][]byte) (crypto.PublicKey, error) {
		if len(chain) == 0 {
			return nil, fmt.Errorf("the gateway sent no certificate")
		}
		intermediates := x509.NewCertPool()
		var leaf *x509.Certificate
		for i, der := range chain {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("certificate %d of the gateway: %w", i, err)
			}
			if i == 0 {
				leaf = cert
			} else {
				intermediates.AddCert(cert)
			}
		}
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, DNSName: name,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return nil, err
		}
		return leaf.PublicKey, nil
	}
}
