package ikecrypto

import (
	"crypto/hmac"
	"fmt"
)

// ResumeKeys computes the keys of an IKE SA that goes on from another (RFC 5723
// section 5.1): oldD is SK_d of that one, which stays the caller's, and s its
// algorithms. There is no key exchange. Errors: those of Suite.Check.
func ResumeKeys(s Suite, oldD, ni, nr []byte, spiI, spiR uint64) (*Keys, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	skeyseed := PRF(s.PRF).Sum(oldD, []byte("Resumption"), ni, nr)
	return expand(s, skeyseed, ni, nr, spiI, spiR)
}

// ResumeAuth is the AUTH data of a side of a resumed IKE SA: prf(SK_p, octets),
// where octets are those of SignedOctets and skP is SK_pi or SK_pr (RFC 5723
// section 5.1). The method is ikewire.AuthSharedKey, though without its pad.
func ResumeAuth(prf uint16, skP, octets []byte) []byte { return PRF(prf).Sum(skP, octets) }

// VerifyResumeAuth checks AUTH data of the other side. Errors: ErrAuth.
func VerifyResumeAuth(prf uint16, skP, data, octets []byte) error {
	if !hmac.Equal(ResumeAuth(prf, skP, octets), data) {
		return fmt.Errorf("%w: of a resumed IKE SA", ErrAuth)
	}
	return nil
}
