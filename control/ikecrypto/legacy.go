package ikecrypto

import (
	"crypto"
	"io"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Legacy names the algorithms that RFC 8247 has given up and that old clients
// still ask for. It is used in two ways: as what an administrator allows, of
// which the zero value is nothing, and as what was used.
type Legacy struct {
	// SHA1Signatures: AUTH method 1 (RSA with SHA-1). In method 14 SHA-1 is
	// refused with or without it.
	SHA1Signatures bool
	// HMACSHA1: PRF_HMAC_SHA1 and AUTH_HMAC_SHA1_96.
	HMACSHA1 bool
	// MODP1024: key exchange by group 2.
	MODP1024 bool
	// TripleDES: ENCR_3DES.
	TripleDES bool
}

// LegacyTransform says which legacy algorithm a transform is, of IKE or of
// ESP.
func LegacyTransform(t ikewire.Transform) Legacy {
	switch t.Type {
	case ikewire.TransformENCR:
		return Legacy{TripleDES: t.ID == ikewire.Encr3DES}
	case ikewire.TransformPRF:
		return Legacy{HMACSHA1: t.ID == ikewire.PRFHMACSHA1}
	case ikewire.TransformINTEG:
		return Legacy{HMACSHA1: t.ID == ikewire.IntegHMACSHA1}
	case ikewire.TransformKE:
		return Legacy{MODP1024: t.ID == ikewire.GroupMODP1024}
	default:
		return Legacy{}
	}
}

// LegacyAuth says whether an AUTH method is a legacy one.
func LegacyAuth(method ikewire.AuthMethod) Legacy {
	return Legacy{SHA1Signatures: method == ikewire.AuthRSA}
}

// Covers says whether all of use is allowed by l.
func (l Legacy) Covers(use Legacy) bool { return l.Union(use) == l }

// Union is what is in l or in o.
func (l Legacy) Union(o Legacy) Legacy {
	return Legacy{
		SHA1Signatures: l.SHA1Signatures || o.SHA1Signatures,
		HMACSHA1:       l.HMACSHA1 || o.HMACSHA1,
		MODP1024:       l.MODP1024 || o.MODP1024,
		TripleDES:      l.TripleDES || o.TripleDES,
	}
}

// Names are stable names of what is in l, for metrics and logs; nil if there
// is nothing.
func (l Legacy) Names() []string {
	var names []string
	for _, n := range []struct {
		name string
		in   bool
	}{
		{"sha1_signature", l.SHA1Signatures},
		{"hmac_sha1", l.HMACSHA1},
		{"modp_1024", l.MODP1024},
		{"3des", l.TripleDES},
	} {
		if n.in {
			names = append(names, n.name)
		}
	}
	return names
}

// NewKeyExchange is what the function NewKeyExchange is, with the legacy groups
// besides that l allows. Errors: ErrAlgorithm, ErrLegacy, those of rand.
func (l Legacy) NewKeyExchange(group uint16, rand io.Reader) (KeyExchange, error) {
	t := ikewire.Transform{Type: ikewire.TransformKE, ID: group}
	if err := l.check(LegacyTransform(t), t); err != nil {
		return nil, err
	}
	return newKeyExchange(group, rand)
}

// Sign is what the function Sign is, with method 1 besides if l allows it: for
// an RSA key whose peer announced no SHA-2 hash.
func (l Legacy) Sign(signer crypto.Signer, peerHashes []uint16, octets []byte, rand io.Reader) (method ikewire.AuthMethod, data []byte, err error) {
	return sign(l, signer, peerHashes, octets, rand)
}

// Verify is what the function Verify is, with method 1 besides if l allows it.
func (l Legacy) Verify(pub crypto.PublicKey, method ikewire.AuthMethod, data, octets []byte) error {
	return verify(l, pub, method, data, octets)
}
