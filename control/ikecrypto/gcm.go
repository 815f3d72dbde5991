package ikecrypto

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/roamgate/roamgate/control/ikewire"
)

const (
	gcmSaltLen = 4  // RFC 5282 section 4: end of the key material
	gcmIVLen   = 8  // on the wire
	gcmICVLen  = 16 // AES-GCM-16
)

// gcm is AES-GCM with a 16-octet ICV (RFC 5282). The IV is a counter that
// starts at zero with the key and only rises, and it rises before a message is
// sealed: an IV is never used twice, whatever fails afterwards.
type gcm struct {
	aead cipher.AEAD // nil after Erase
	salt [gcmSaltLen]byte
	next uint64 // IV of the next message
}

func newGCM(key []byte) (*gcm, error) {
	n := len(key) - gcmSaltLen
	block, err := aes.NewCipher(key[:n])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyLength, err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("ikecrypto: AES-GCM: %w", err)
	}
	return &gcm{aead: aead, salt: [gcmSaltLen]byte(key[n:])}, nil
}

func (g *gcm) nonce(iv []byte) []byte {
	nonce := make([]byte, 0, gcmSaltLen+gcmIVLen)
	nonce = append(nonce, g.salt[:]...)
	return append(nonce, iv...)
}

func (g *gcm) Seal(dst []byte, m *ikewire.Message, inner []ikewire.Payload) ([]byte, error) {
	if g.aead == nil {
		return dst, ErrErased
	}
	if g.next == 1<<64-1 {
		return dst, ErrExhausted
	}
	start := len(dst)
	out, body, err := frame(dst, m, inner, gcmIVLen, 1, gcmICVLen)
	if err != nil {
		return dst, err
	}
	iv := out[body : body+gcmIVLen]
	binary.BigEndian.PutUint64(iv, g.next)
	g.next++
	plain := out[body+gcmIVLen : len(out)-gcmICVLen]
	g.aead.Seal(plain[:0], g.nonce(iv), plain, out[start:body])
	return out, nil
}

func (g *gcm) Open(raw []byte, m *ikewire.Message) ([]ikewire.Payload, error) {
	if g.aead == nil {
		return nil, ErrErased
	}
	sk, body, err := encrypted(raw, m)
	if err != nil {
		return nil, err
	}
	if len(raw)-body < gcmIVLen+1+gcmICVLen {
		return nil, ErrIntegrity
	}
	iv, sealed := raw[body:body+gcmIVLen], raw[body+gcmIVLen:]
	plain, err := g.aead.Open(nil, g.nonce(iv), sealed, raw[:body])
	if err != nil {
		return nil, ErrIntegrity
	}
	return unframe(sk.First, plain)
}

func (g *gcm) Erase() {
	g.aead = nil
	clear(g.salt[:])
}
