package store

import (
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealer encrypts the secrets of accounts, each bound to its device and field:
// nonce[24] | XChaCha20-Poly1305. Those who share a database share the key.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*sealer, error) {
	if key == nil {
		return &sealer{}, nil
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("%w: seal key of %d octets, must be %d", ErrInvalid, len(key), chacha20poly1305.KeySize)
	}
	return &sealer{aead}, nil
}

// seal a secret; nil stays nil.
func (s *sealer) seal(device, field string, secret []byte) ([]byte, error) {
	if secret == nil {
		return nil, nil
	}
	if s.aead == nil {
		return nil, fmt.Errorf("%w: the account of %q has a secret, and there is no seal key", ErrInvalid, device)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(secret)+s.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return s.aead.Seal(nonce, nonce, secret, []byte(field+"\x00"+device)), nil
}

func (s *sealer) open(device, field string, sealed []byte) ([]byte, error) {
	if sealed == nil {
		return nil, nil
	}
	if s.aead == nil || len(sealed) < chacha20poly1305.NonceSizeX {
		return nil, fmt.Errorf("%w: the secret of %q can't be opened without the seal key", ErrInvalid, device)
	}
	n := chacha20poly1305.NonceSizeX
	secret, err := s.aead.Open(nil, sealed[:n], sealed[n:], []byte(field+"\x00"+device))
	if err != nil {
		return nil, fmt.Errorf("%w: the secret of %q was sealed with another key", ErrInvalid, device)
	}
	return orEmpty(secret), nil
}
