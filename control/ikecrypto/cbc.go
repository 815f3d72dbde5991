package ikecrypto

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"fmt"
	"io"
	"slices"

	"github.com/roamgate/roamgate/control/ikewire"
)

// cbc is AES-CBC or 3DES-CBC with an HMAC, encrypt then authenticate (RFC 7296
// section 3.14, RFC 2451, RFC 4868, RFC 2404).
type cbc struct {
	block  cipher.Block
	hash   crypto.Hash
	key    []byte // of the HMAC
	icvLen int
	rand   io.Reader
}

func newCBC(s Suite, encKey, integKey []byte, rand io.Reader) (*cbc, error) {
	c := &cbc{key: slices.Clone(integKey), rand: rand}
	c.hash, c.icvLen = integrityHash(s.Integrity)
	var err error
	if s.Encryption == ikewire.Encr3DES {
		c.block, err = des.NewTripleDESCipher(encKey)
	} else {
		c.block, err = aes.NewCipher(encKey)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyLength, err)
	}
	return c, nil
}

// integrityHash is the hash of an HMAC integrity algorithm, 0 if it isn't
// here, and the length of its checksum in octets: half of SHA-2 (RFC 4868
// section 2.3), 96 bits of SHA-1 (RFC 2404).
func integrityHash(id uint16) (h crypto.Hash, icvLen int) {
	switch id {
	case ikewire.IntegHMACSHA1:
		return crypto.SHA1, 12
	case ikewire.IntegHMACSHA256:
		return crypto.SHA256, 16
	case ikewire.IntegHMACSHA384:
		return crypto.SHA384, 24
	case ikewire.IntegHMACSHA512:
		return crypto.SHA512, 32
	}
	return 0, 0
}

func (c *cbc) lens() (iv, align, icv int) {
	return c.block.BlockSize(), c.block.BlockSize(), c.icvLen
}

// icv is over everything before it, the IKE header included.
func (c *cbc) icv(message []byte) []byte {
	mac := hmac.New(c.hash.New, c.key)
	mac.Write(message)
	return mac.Sum(nil)[:c.icvLen]
}

func (c *cbc) seal(message []byte, body int) error {
	size, end := c.block.BlockSize(), len(message)-c.icvLen
	iv, plain := message[body:body+size], message[body+size:end]
	if _, err := io.ReadFull(c.rand, iv); err != nil {
		return fmt.Errorf("ikecrypto: IV: %w", err)
	}
	cipher.NewCBCEncrypter(c.block, iv).CryptBlocks(plain, plain)
	copy(message[end:], c.icv(message[:end]))
	return nil
}

func (c *cbc) open(raw []byte, body int) ([]byte, error) {
	size := c.block.BlockSize()
	n := len(raw) - body - c.icvLen - size
	if n < size || n%size != 0 {
		return nil, ErrIntegrity
	}
	end := len(raw) - c.icvLen
	if !hmac.Equal(raw[end:], c.icv(raw[:end])) {
		return nil, ErrIntegrity
	}
	iv, sealed := raw[body:body+size], raw[body+size:end]
	plain := make([]byte, n)
	cipher.NewCBCDecrypter(c.block, iv).CryptBlocks(plain, sealed)
	return plain, nil
}

func (c *cbc) erase() { clear(c.key) }
