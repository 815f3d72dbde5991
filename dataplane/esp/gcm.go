package esp

import (
	"crypto/aes"
	"crypto/cipher"
)

// newGCM is the cipher of AES-GCM with a 16-octet ICV (RFC 4106).
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
