package esp

import (
	"crypto/aes"
	"crypto/cipher"
)

// Implementations of AES-GCM.
const (
	GCMByVAES   = "AVX-512 with VAES"
	GCMByCipher = "crypto/cipher"
)

// GCM says which implementation of AES-GCM New takes: what the processor has.
func GCM() string {
	if vectors {
		return GCMByVAES
	}
	return GCMByCipher
}

// vectors: package vaes does it. Another one in tests.
var vectors = vectorsSupported()

func newGCM(key []byte, esn bool) (Transform, error) {
	if vectors {
		return newVectorGCM(key, esn)
	}
	return newAEAD(newGCMCipher, key, esn)
}

// newGCMCipher is the cipher of AES-GCM with a 16-octet ICV (RFC 4106).
func newGCMCipher(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
