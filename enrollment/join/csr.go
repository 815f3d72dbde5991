package join

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// maxRSA bounds what a signature costs to verify, not what is taken: that is
// the policy's.
const maxRSA = 8192

// ParseCSR reads a PKCS#10 request (RFC 2986) in DER and verifies its signature,
// which shows that its sender has the private key. Of what else stands in it
// nothing may be believed.
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxCSR {
		return nil, fmt.Errorf("%w: %d octets, at most %d", ErrCSR, len(der), maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	switch key := csr.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits > maxRSA {
			return nil, fmt.Errorf("%w: RSA of %d bits, at most %d", ErrCSR, bits, maxRSA)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("%w: %T", ErrCSR, csr.PublicKey)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	return csr, nil
}
