package profile

import (
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/smallstep/pkcs7"
)

// Signer of .mobileconfig files. A device shows them as verified if it trusts
// the root of the certificate already.
type Signer struct {
	// Chain has the signer's own certificate first.
	Chain []*x509.Certificate
	Key   crypto.Signer
}

// sign wraps data into CMS signed-data (RFC 5652 section 5) with SHA-256.
func (s *Signer) sign(data []byte) ([]byte, error) {
	if len(s.Chain) == 0 {
		return nil, fmt.Errorf("%w: a signer without a certificate", ErrProfile)
	}
	if public, ok := s.Key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(s.Chain[0].PublicKey) {
		return nil, fmt.Errorf("%w: it doesn't belong to the signer's certificate", ErrKey)
	}
	signed, err := pkcs7.NewSignedData(data)
	if err != nil {
		return nil, err
	}
	signed.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := signed.AddSignerChain(s.Chain[0], s.Key, s.Chain[1:], pkcs7.SignerInfoConfig{}); err != nil {
		return nil, fmt.Errorf("signing the profile: %w", err)
	}
	return signed.Finish()
}
