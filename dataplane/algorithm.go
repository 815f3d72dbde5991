package dataplane

import "strconv"

// Algorithm of an ESP SA by the transform IDs of RFC 7296 section 3.3.2.
type Algorithm struct {
	// Encryption is a transform ID of type 1 (IANA "Transform Type 1").
	Encryption uint16
	// KeyBits is the Key Length attribute; 0 where the algorithm has only one
	// length, for which the attribute is not sent.
	KeyBits uint16
	// Integrity is a transform ID of type 3; 0 for AEAD algorithms.
	Integrity uint16
}

// Transform IDs that backends know.
const (
	EncryptionTripleDES        uint16 = 3  // RFC 2451; legacy
	EncryptionAESCBC           uint16 = 12 // RFC 3602
	EncryptionAESGCM16         uint16 = 20 // RFC 4106
	EncryptionChaCha20Poly1305 uint16 = 28 // RFC 7634

	IntegrityHMACSHA1   uint16 = 2  // HMAC-SHA1-96, RFC 2404; legacy
	IntegrityHMACSHA256 uint16 = 12 // HMAC-SHA2-256-128, RFC 4868
	IntegrityHMACSHA384 uint16 = 13
	IntegrityHMACSHA512 uint16 = 14
)

// encryption is a row of the table of transforms of type 1. ENCR_NULL (RFC
// 2410) is not among them: it has no place in a VPN.
type encryption struct {
	name string
	// keyLen in octets, 0 where the Key Length attribute says it, of 128, 192
	// or 256 bits.
	keyLen int
	// saltLen octets of keying material follow the key.
	saltLen int
	// aead algorithms come without an integrity transform, others with one.
	aead   bool
	legacy bool
}

var encryptions = map[uint16]encryption{
	EncryptionTripleDES:        {name: "3DES", keyLen: 24, legacy: true},
	EncryptionAESCBC:           {name: "AES_CBC"},
	EncryptionAESGCM16:         {name: "AES_GCM_16", saltLen: 4, aead: true},
	EncryptionChaCha20Poly1305: {name: "CHACHA20_POLY1305", keyLen: 32, saltLen: 4, aead: true},
}

// integrity is a row of the table of transforms of type 3.
type integrity struct {
	name   string
	keyLen int
	legacy bool
}

var integrities = map[uint16]integrity{
	IntegrityHMACSHA1:   {name: "HMAC_SHA1_96", keyLen: 20, legacy: true},
	IntegrityHMACSHA256: {name: "HMAC_SHA2_256_128", keyLen: 32},
	IntegrityHMACSHA384: {name: "HMAC_SHA2_384_192", keyLen: 48},
	IntegrityHMACSHA512: {name: "HMAC_SHA2_512_256", keyLen: 64},
}

// KeyLengths are the octets of keying material for one direction, the salt of
// AEAD algorithms included (RFC 4106 section 8.1, RFC 7634 section 2). ok is
// false for an algorithm that isn't one.
func (a Algorithm) KeyLengths() (encryption, integrity int, ok bool) {
	e, ok := encryptions[a.Encryption]
	if !ok {
		return 0, 0, false
	}
	encryption = e.keyLen
	switch {
	case e.keyLen == 0 && (a.KeyBits == 128 || a.KeyBits == 192 || a.KeyBits == 256):
		encryption = int(a.KeyBits / 8)
	case e.keyLen == 0 || a.KeyBits != 0:
		return 0, 0, false
	}
	encryption += e.saltLen
	if e.aead {
		return encryption, 0, a.Integrity == 0
	}
	i, ok := integrities[a.Integrity]
	return encryption, i.keyLen, ok
}

// Legacy says whether the algorithm is on its way out: 3DES is a SHOULD NOT of
// RFC 8221 section 5, HMAC-SHA1-96 a MUST- of section 6. Backends that list it
// among their Features install it; who negotiates it asks the administrator
// first. 3DES has blocks of 64 bits, so its children need narrow hard limits.
func (a Algorithm) Legacy() bool {
	return encryptions[a.Encryption].legacy || integrities[a.Integrity].legacy
}

// String is the name as in the registry: "AES_GCM_16_128",
// "AES_CBC_256/HMAC_SHA2_256_128".
func (a Algorithm) String() string {
	s := encryptions[a.Encryption].name
	if s == "" {
		s = "ENCR_" + strconv.Itoa(int(a.Encryption))
	}
	if a.KeyBits != 0 {
		s += "_" + strconv.Itoa(int(a.KeyBits))
	}
	if a.Integrity == 0 {
		return s
	}
	if i, ok := integrities[a.Integrity]; ok {
		return s + "/" + i.name
	}
	return s + "/INTEG_" + strconv.Itoa(int(a.Integrity))
}
