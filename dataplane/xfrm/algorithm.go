package xfrm

import (
	"github.com/roamgate/roamgate/dataplane"
)

// aeads and ciphers by their names in the kernel's crypto API.
var (
	aeads = map[uint16]string{
		dataplane.EncryptionAESGCM16:         "rfc4106(gcm(aes))",
		dataplane.EncryptionChaCha20Poly1305: "rfc7539esp(chacha20,poly1305)",
	}
	ciphers = map[uint16]string{
		dataplane.EncryptionAESCBC:    "cbc(aes)",
		dataplane.EncryptionTripleDES: "cbc(des3_ede)",
	}
	macs = map[uint16]struct {
		name string
		bits uint32 // of the ICV
	}{
		dataplane.IntegrityHMACSHA1:   {"hmac(sha1)", 96},
		dataplane.IntegrityHMACSHA256: {"hmac(sha256)", 128},
		dataplane.IntegrityHMACSHA384: {"hmac(sha384)", 192},
		dataplane.IntegrityHMACSHA512: {"hmac(sha512)", 256},
	}
)

const (
	algNameLen = 64
	aeadICV    = 128
)

// known says whether there are names for the algorithm; whether this kernel can
// do it is another question.
func known(a dataplane.Algorithm) bool {
	if aeads[a.Encryption] != "" {
		return a.Integrity == 0
	}
	return ciphers[a.Encryption] != "" && macs[a.Integrity].name != ""
}

// algorithm appends names and keys: struct xfrm_algo_aead, or struct xfrm_algo
// and struct xfrm_algo_auth.
func (b *batch) algorithm(s *state) {
	key := s.keys.Encryption
	if name := aeads[s.alg.Encryption]; name != "" {
		a := b.attr(attrAlgAEAD, algNameLen+8+len(key))
		copy(a, name)
		native.PutUint32(a[64:], uint32(8*len(key)))
		native.PutUint32(a[68:], aeadICV)
		copy(a[72:], key)
		return
	}
	mac := macs[s.alg.Integrity]
	a := b.attr(attrAlgAuthTrunc, algNameLen+8+len(s.keys.Integrity))
	copy(a, mac.name)
	native.PutUint32(a[64:], uint32(8*len(s.keys.Integrity)))
	native.PutUint32(a[68:], mac.bits)
	copy(a[72:], s.keys.Integrity)
	c := b.attr(attrAlgCrypt, algNameLen+4+len(key))
	copy(c, ciphers[s.alg.Encryption])
	native.PutUint32(c[64:], uint32(8*len(key)))
	copy(c[68:], key)
}
