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

// maxAEADKey is that of AES-256 or ChaCha20, and the salt.
const maxAEADKey = 32 + saltLen

// aead is AES-GCM with a 16-octet ICV (RFC 5282) or ChaCha20-Poly1305 (RFC
// 7634). The IV is a counter that starts at zero with the key and only rises,
// and it rises before a message is sealed: an IV is never used twice, whatever
// fails afterwards.
//
// It keeps the key and no cipher object, which takes ten times as much and is
// made in less than a microsecond: of the many IKE SAs of a gateway hardly any
// has a message at a time.
type aead struct {
	next       uint64 // IV of the next message
	encryption uint16
	keyLen     uint8 // with the salt
	key        [maxAEADKey]byte
}

// newAEAD takes a key whose length was checked.
func newAEAD(encryption uint16, key []byte) *aead {
	a := &aead{encryption: encryption, keyLen: uint8(len(key))}
	copy(a.key[:], key)
	return a
}

func (a *aead) cipher() (c cipher.AEAD, err error) {
	key := a.key[:a.keyLen-saltLen]
	if a.encryption == ikewire.EncrChaCha20Poly1305 {
		c, err = chacha20poly1305.New(key)
	} else {
		c, err = newGCM(key)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyLength, err)
	}
	return c, nil
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
	nonce = append(nonce, a.key[a.keyLen-saltLen:a.keyLen]...)
	return append(nonce, iv...)
}

func (a *aead) seal(message []byte, body int) error {
	if a.next == 1<<64-1 {
		return ErrExhausted
	}
	c, err := a.cipher()
	if err != nil {
		return err
	}
	iv := message[body : body+aeadIVLen]
	binary.BigEndian.PutUint64(iv, a.next)
	a.next++
	plain := message[body+aeadIVLen : len(message)-aeadICVLen]
	c.Seal(plain[:0], a.nonce(iv), plain, message[:body])
	return nil
}

func (a *aead) open(raw []byte, body int) ([]byte, error) {
	if len(raw)-body < aeadIVLen+1+aeadICVLen {
		return nil, ErrIntegrity
	}
	c, err := a.cipher()
	if err != nil {
		return nil, err
	}
	iv, sealed := raw[body:body+aeadIVLen], raw[body+aeadIVLen:]
	plain, err := c.Open(nil, a.nonce(iv), sealed, raw[:body])
	if err != nil {
		return nil, ErrIntegrity
	}
	return plain, nil
}

func (a *aead) erase() { clear(a.key[:]) }
