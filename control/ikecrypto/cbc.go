package ikecrypto

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"fmt"
	"io"

	"github.com/roamgate/roamgate/control/ikewire"
)

// cbc is AES-CBC with HMAC-SHA2, encrypt then authenticate (RFC 7296 section
// 3.14, RFC 4868).
type cbc struct {
	block  cipher.Block // nil after Erase
	hash   crypto.Hash
	key    []byte // of the HMAC
	icvLen int
	rand   io.Reader
}

func newCBC(h crypto.Hash, encKey, integKey []byte, rand io.Reader) (*cbc, error) {
	block, err := aes.NewCipher(encKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyLength, err)
	}
	return &cbc{
		block:  block,
		hash:   h,
		key:    append(make([]byte, 0, len(integKey)), integKey...),
		icvLen: h.Size() / 2,
		rand:   rand,
	}, nil
}

// icv is over everything before it, the IKE header included.
func (c *cbc) icv(message []byte) []byte {
	mac := hmac.New(c.hash.New, c.key)
	mac.Write(message)
	return mac.Sum(nil)[:c.icvLen]
}

func (c *cbc) Seal(dst []byte, m *ikewire.Message, inner []ikewire.Payload) ([]byte, error) {
	if c.block == nil {
		return dst, ErrErased
	}
	var iv [aes.BlockSize]byte
	if _, err := io.ReadFull(c.rand, iv[:]); err != nil {
		return dst, fmt.Errorf("ikecrypto: IV: %w", err)
	}
	start := len(dst)
	out, body, err := frame(dst, m, inner, aes.BlockSize, aes.BlockSize, c.icvLen)
	if err != nil {
		return dst, err
	}
	copy(out[body:], iv[:])
	end := len(out) - c.icvLen
	plain := out[body+aes.BlockSize : end]
	cipher.NewCBCEncrypter(c.block, iv[:]).CryptBlocks(plain, plain)
	copy(out[end:], c.icv(out[start:end]))
	return out, nil
}

func (c *cbc) Open(raw []byte, m *ikewire.Message) ([]ikewire.Payload, error) {
	if c.block == nil {
		return nil, ErrErased
	}
	sk, body, err := encrypted(raw, m)
	if err != nil {
		return nil, err
	}
	n := len(raw) - body - c.icvLen - aes.BlockSize
	if n < aes.BlockSize || n%aes.BlockSize != 0 {
		return nil, ErrIntegrity
	}
	end := len(raw) - c.icvLen
	if !hmac.Equal(raw[end:], c.icv(raw[:end])) {
		return nil, ErrIntegrity
	}
	iv, sealed := raw[body:body+aes.BlockSize], raw[body+aes.BlockSize:end]
	plain := make([]byte, n)
	cipher.NewCBCDecrypter(c.block, iv).CryptBlocks(plain, sealed)
	return unframe(sk.First, plain)
}

func (c *cbc) Erase() {
	c.block = nil
	clear(c.key)
}
