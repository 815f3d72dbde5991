package ikecrypto

import (
	"fmt"
	"strings"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Suite is the set of algorithms of an IKE SA by their transform IDs.
type Suite struct {
	Encryption uint16
	// KeyBits is the Key Length attribute of Encryption; 0 for those that have
	// none, ChaCha20-Poly1305 (RFC 7634 section 3) and 3DES.
	KeyBits uint16
	// Integrity is 0 beside an AEAD algorithm.
	Integrity uint16
	PRF       uint16
	Group     uint16
	// Allow is what legacy algorithms may be among them.
	Allow Legacy
}

// Check says whether every algorithm is here and allowed, and whether they fit
// together. Errors: ErrAlgorithm, ErrLegacy.
func (s Suite) Check() error {
	if _, _, err := s.keyLens(); err != nil {
		return err
	}
	if PRFLen(s.PRF) == 0 {
		return fmt.Errorf("%w: %s", ErrAlgorithm, ikewire.TransformName(ikewire.TransformPRF, s.PRF))
	}
	if PublicLen(s.Group) == 0 {
		return fmt.Errorf("%w: %s", ErrAlgorithm, ikewire.TransformName(ikewire.TransformKE, s.Group))
	}
	return s.Allow.check(s.Legacy(), s)
}

// Legacy is which legacy algorithms the suite has, allowed or not.
func (s Suite) Legacy() Legacy {
	var room [4]ikewire.Transform
	var use Legacy
	for _, t := range s.transforms(room[:0]) {
		use = use.Union(LegacyTransform(t))
	}
	return use
}

func (l Legacy) check(use Legacy, name fmt.Stringer) error {
	if !l.Covers(use) {
		return fmt.Errorf("%w: %s", ErrLegacy, name)
	}
	return nil
}

// String is the algorithms like
// "AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519".
func (s Suite) String() string {
	var names []string
	for _, t := range s.transforms(nil) {
		names = append(names, t.String())
	}
	return strings.Join(names, "/")
}

// transforms are appended to ts.
func (s Suite) transforms(ts []ikewire.Transform) []ikewire.Transform {
	ts = append(ts, ikewire.Transform{Type: ikewire.TransformENCR, ID: s.Encryption, KeyBits: s.KeyBits})
	if s.Integrity != 0 {
		ts = append(ts, ikewire.Transform{Type: ikewire.TransformINTEG, ID: s.Integrity})
	}
	return append(ts,
		ikewire.Transform{Type: ikewire.TransformPRF, ID: s.PRF},
		ikewire.Transform{Type: ikewire.TransformKE, ID: s.Group})
}

// keyLens are the lengths in octets of SK_e and SK_a; that of an AEAD
// algorithm includes its salt (RFC 5282 section 7.1, RFC 7634 section 2).
func (s Suite) keyLens() (encryption, integrity int, err error) {
	var aead bool
	switch s.Encryption {
	case ikewire.EncrAESGCM16:
		encryption, aead = aesKeyLen(s.KeyBits), true
	case ikewire.EncrAESCBC:
		encryption = aesKeyLen(s.KeyBits)
	case ikewire.EncrChaCha20Poly1305:
		encryption, aead = 32, true
	case ikewire.Encr3DES:
		encryption = 24
	}
	fixed := s.Encryption == ikewire.EncrChaCha20Poly1305 || s.Encryption == ikewire.Encr3DES
	if encryption == 0 || fixed && s.KeyBits != 0 {
		return 0, 0, fmt.Errorf("%w: %s", ErrAlgorithm, s)
	}
	if aead && s.Integrity == 0 {
		return encryption + saltLen, 0, nil
	}
	if h, _ := integrityHash(s.Integrity); h != 0 && !aead {
		return encryption, h.Size(), nil
	}
	return 0, 0, fmt.Errorf("%w: %s with %s", ErrAlgorithm,
		ikewire.TransformName(ikewire.TransformENCR, s.Encryption),
		ikewire.TransformName(ikewire.TransformINTEG, s.Integrity))
}

// aesKeyLen is 0 for what is no length of an AES key.
func aesKeyLen(bits uint16) int {
	switch bits {
	case 128, 192, 256:
		return int(bits) / 8
	}
	return 0
}
