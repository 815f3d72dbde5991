package ikecrypto

import (
	"fmt"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Suite is the set of algorithms of an IKE SA by their transform IDs.
type Suite struct {
	Encryption uint16
	// KeyBits is the Key Length attribute of Encryption.
	KeyBits uint16
	// Integrity is 0 beside an AEAD algorithm.
	Integrity uint16
	PRF       uint16
	Group     uint16
}

// Check says whether every algorithm is here and whether they fit together.
// Errors: ErrAlgorithm.
func (s Suite) Check() error {
	if _, _, err := s.keyLens(); err != nil {
		return err
	}
	if PRFLen(s.PRF) == 0 {
		return fmt.Errorf("%w: %s", ErrAlgorithm, ikewire.TransformName(ikewire.TransformPRF, s.PRF))
	}
	if !SupportsGroup(s.Group) {
		return fmt.Errorf("%w: %s", ErrAlgorithm, ikewire.TransformName(ikewire.TransformKE, s.Group))
	}
	return nil
}

// String is the algorithms like
// "AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519".
func (s Suite) String() string {
	out := ikewire.Transform{Type: ikewire.TransformENCR, ID: s.Encryption, KeyBits: s.KeyBits}.String()
	if s.Integrity != 0 {
		out += "/" + ikewire.TransformName(ikewire.TransformINTEG, s.Integrity)
	}
	return out + "/" + ikewire.TransformName(ikewire.TransformPRF, s.PRF) +
		"/" + ikewire.TransformName(ikewire.TransformKE, s.Group)
}

// keyLens are the lengths in octets of SK_e and SK_a; that of an AEAD
// algorithm includes its salt (RFC 5282 section 7.1).
func (s Suite) keyLens() (encryption, integrity int, err error) {
	if s.KeyBits != 128 && s.KeyBits != 192 && s.KeyBits != 256 {
		return 0, 0, fmt.Errorf("%w: key of %d bits", ErrAlgorithm, s.KeyBits)
	}
	encryption = int(s.KeyBits) / 8
	switch {
	case s.Encryption == ikewire.EncrAESGCM16 && s.Integrity == 0:
		return encryption + gcmSaltLen, 0, nil
	case s.Encryption == ikewire.EncrAESCBC:
		if h := integrityHash(s.Integrity); h != 0 {
			return encryption, h.Size(), nil
		}
	}
	return 0, 0, fmt.Errorf("%w: %s with %s", ErrAlgorithm,
		ikewire.TransformName(ikewire.TransformENCR, s.Encryption),
		ikewire.TransformName(ikewire.TransformINTEG, s.Integrity))
}
