package ikecrypto

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/roamgate/roamgate/control/ikewire"
)

// The two AEAD algorithms have the same layout (RFC 5282, RFC 7634).
const (
	saltLen    = 4  // end of the key material
	aeadIVLen  = 8  // on the wire; the nonce is salt | IV
	aeadICVLen = 16 // AES-GCM-16, Poly1305
)

// aead is AES-GCM with a 16-octet ICV (RFC 5282) or ChaCha20-Poly1305 (RFC
// 7634). The IV is a counter that starts at zero with the key and only rises,
// and it rises before a message is sealed: an IV is never used twice, whatever
// fails afterwards.
type aead struct {
	cipher cipher.AEAD
	salt   [saltLen]byte
	next   uint64 // IV of the next message
}

func newAEAD(encryption uint16, key []byte) (*aead, error) {
	n := len(key) - saltLen
	a := &aead{salt: [saltLen]byte(key[n:])}
	var err error
	if encryption == ikewire.EncrChaCha20Poly1305 {
		a.cipher, err = chacha20poly1305.New(key[:n])
	} else {
		a.cipher, err = newGCM(key[:n])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyLength, err)
	}
	return a, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (a *aead) lens() (iv, align, icv int) { return aeadIVLen, 1, aeadICVLen }

func (a *aead) nonce(iv []byte) []byte {
	nonce := make([]byte, 0, saltLen+aeadIVLen)
	nonce = append(nonce, a.salt[:]...)
	return append(nonce, iv...)
}

func (a *aead) seal(message []byte, body int) error {
	if a.next == 1<<64-1 {
		return ErrExhausted
	}
	iv := message[body : body+aeadIVLen]
	binary.BigEndian.PutUint64(iv, a.next)
	a.next++
	plain := message[body+aeadIVLen : len(message)-aeadICVLen]
	a.cipher.Seal(plain[:0], a.nonce(iv), plain, message[:body])
	return nil
}

func (a *aead) open(raw []byte, body int) ([]byte, error) {
	if len(raw)-body < aeadIVLen+1+aeadICVLen {
		return nil, ErrIntegrity
	}
	iv, sealed := raw[body:body+aeadIVLen], raw[body+aeadIVLen:]
	plain, err := a.cipher.Open(nil, a.nonce(iv), sealed, raw[:body])
	if err != nil {
		return nil, ErrIntegrity
	}
	return plain, nil
}

func (a *aead) erase() {
	a.cipher = nil
	clear(a.salt[:])
}
