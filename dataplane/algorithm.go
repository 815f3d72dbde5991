package dataplane

import "strconv"

// Algorithm of an ESP SA by the transform IDs of RFC 7296 section 3.3.2.
type Algorithm struct {
	// Encryption is a transform ID of type 1 (IANA "Transform Type 1").
	Encryption uint16
	// KeyBits is the Key Length attribute; 0 where the algorithm has only one.
	KeyBits uint16
	// Integrity is a transform ID of type 3; 0 for AEAD algorithms.
	Integrity uint16
}

// Transform IDs that backends know.
const (
	EncryptionAESCBC   uint16 = 12 // RFC 3602
	EncryptionAESGCM16 uint16 = 20 // RFC 4106

	IntegrityHMACSHA256 uint16 = 12 // HMAC-SHA2-256-128, RFC 4868
	IntegrityHMACSHA384 uint16 = 13
	IntegrityHMACSHA512 uint16 = 14
)

// KeyLengths are the octets of keying material for one direction, the salt of
// AES-GCM included (RFC 4106 section 8.1). ok is false for an algorithm that
// isn't one.
func (a Algorithm) KeyLengths() (encryption, integrity int, ok bool) {
	switch a.KeyBits {
	case 128, 192, 256:
	default:
		return 0, 0, false
	}
	encryption = int(a.KeyBits / 8)
	switch {
	case a.Encryption == EncryptionAESGCM16 && a.Integrity == 0:
		return encryption + 4, 0, true
	case a.Encryption == EncryptionAESCBC && a.Integrity == IntegrityHMACSHA256:
		return encryption, 32, true
	case a.Encryption == EncryptionAESCBC && a.Integrity == IntegrityHMACSHA384:
		return encryption, 48, true
	case a.Encryption == EncryptionAESCBC && a.Integrity == IntegrityHMACSHA512:
		return encryption, 64, true
	}
	return 0, 0, false
}

var encryptionNames = map[uint16]string{
	EncryptionAESCBC:   "AES_CBC",
	EncryptionAESGCM16: "AES_GCM_16",
}

var integrityNames = map[uint16]string{
	IntegrityHMACSHA256: "HMAC_SHA2_256_128",
	IntegrityHMACSHA384: "HMAC_SHA2_384_192",
	IntegrityHMACSHA512: "HMAC_SHA2_512_256",
}

// String is the name as in the registry: "AES_GCM_16_128",
// "AES_CBC_256/HMAC_SHA2_256_128".
func (a Algorithm) String() string {
	s, ok := encryptionNames[a.Encryption]
	if !ok {
		s = "ENCR_" + strconv.Itoa(int(a.Encryption))
	}
	if a.KeyBits != 0 {
		s += "_" + strconv.Itoa(int(a.KeyBits))
	}
	if a.Integrity == 0 {
		return s
	}
	if n, ok := integrityNames[a.Integrity]; ok {
		return s + "/" + n
	}
	return s + "/INTEG_" + strconv.Itoa(int(a.Integrity))
}
