package fleet

import (
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealer encrypts the secrets of ticket keys, each bound to its ID:
// nonce[24] | XChaCha20-Poly1305.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*sealer, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("%w: seal key of %d octets, must be %d", ErrInvalid, len(key), chacha20poly1305.KeySize)
	}
	return &sealer{aead}, nil
}

func (s *sealer) bound(id [8]byte) []byte { return append([]byte("gcm ticket key\x00"), id[:]...) }

func (s *sealer) seal(id [8]byte, secret []byte) []byte {
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(secret)+s.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return s.aead.Seal(nonce, nonce, secret, s.bound(id))
}

func (s *sealer) open(id [8]byte, sealed []byte) ([]byte, error) {
	const n = chacha20poly1305.NonceSizeX
	if len(sealed) < n {
		return nil, fmt.Errorf("%w: a ticket key of %d octets", ErrInvalid, len(sealed))
	}
	secret, err := s.aead.Open(nil, sealed[:n], sealed[n:], s.bound(id))
	if err != nil {
		return nil, fmt.Errorf("%w: ticket key %x was sealed with another key", ErrInvalid, id)
	}
	return secret, nil
}
