package enroll

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/roamgate/roamgate/enrollment/otp"
)

// SealKeySize of the server's key, in octets.
const SealKeySize = 32

// seal keeps keys of requests unreadable at rest, with XChaCha20-Poly1305: its
// nonces are long enough to be drawn at random by several servers that share a
// key.
type seal struct {
	aead  cipher.AEAD
	decoy []byte
}

// use of a sealed secret is authenticated, so that one can't be put in the
// place of another.
type use string

const (
	whileOpen use = "open" // the request's key
	afterUse  use = "used" // what is bound to the key that used it
)

var errSealed = errors.New("sealed under another key")

func newSeal(key []byte) (*seal, error) {
	if len(key) != SealKeySize {
		return nil, fmt.Errorf("seal key of %d octets, want %d", len(key), SealKeySize)
	}
	derive := func(label string) ([]byte, error) {
		return hkdf.Key(sha256.New, key, nil, label, SealKeySize)
	}
	sealing, err := derive("roamgate enrollment seal 1")
	if err != nil {
		return nil, err
	}
	defer clear(sealing)
	aead, err := chacha20poly1305.NewX(sealing)
	if err != nil {
		return nil, err
	}
	decoy, err := derive("roamgate enrollment decoy 1")
	if err != nil {
		return nil, err
	}
	return &seal{aead, decoy}, nil
}

func (s *seal) seal(id otp.ID, u use, key []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(key)+s.aead.Overhead())
	rand.Read(nonce)
	return s.aead.Seal(nonce, nonce, key, append(id[:], u...))
}

func (s *seal) open(id otp.ID, u use, sealed []byte) ([]byte, error) {
	if len(sealed) != s.aead.NonceSize()+otp.KeySize+s.aead.Overhead() {
		return nil, fmt.Errorf("%w: %d octets", errSealed, len(sealed))
	}
	n := s.aead.NonceSize()
	key, err := s.aead.Open(nil, sealed[:n], sealed[n:], append(id[:], u...))
	if err != nil {
		return nil, errSealed
	}
	return key, nil
}

// decoyKey stands for the key of a request that isn't there: always the same
// for one ID, and unknown to everybody.
func (s *seal) decoyKey(id otp.ID) []byte {
	mac := hmac.New(sha256.New, s.decoy)
	mac.Write(id[:])
	return mac.Sum(nil)
}
