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
// section 3.14, RFC 2451, RFC 4868, RFC 2404). Like aead it keeps keys and no
// cipher object.
type cbc struct {
	triple bool
	hash   crypto.Hash
	icvLen int
	keys   []byte // that of the cipher, then that of the HMAC
	encLen int
	rand   io.Reader
}

func newCBC(s Suite, encKey, integKey []byte, rand io.Reader) (*cbc, error) {
	c := &cbc{triple: s.Encryption == ikewire.Encr3DES, keys: slices.Concat(encKey, integKey), encLen: len(encKey), rand: rand}
	c.hash, c.icvLen = integrityHash(s.Integrity)
	_, err := c.block()
	return c, err
}

func (c *cbc) block() (b cipher.Block, err error) {
	if c.triple {
		b, err = des.NewTripleDESCipher(c.keys[:c.encLen])
	} else {
		b, err = aes.NewCipher(c.keys[:c.encLen])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyLength, err)
	}
	return b, nil
}

// blockSize in octets.
func (c *cbc) blockSize() int {
	if c.triple {
		return des.BlockSize
	}
	return aes.BlockSize
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
	return c.blockSize(), c.blockSize(), c.icvLen
}

// icv is over everything before it, the IKE header included.
func (c *cbc) icv(message []byte) []byte {
	mac := newKeyed(c.hash, c.keys[c.encLen:])
	defer mac.release()
	mac.hash.Write(message)
	return mac.end(make([]byte, 0, c.hash.Size()))[:c.icvLen]
}

func (c *cbc) seal(message []byte, body int) error {
	block, err := c.block()
	if err != nil {
		return err
	}
	size, end := c.blockSize(), len(message)-c.icvLen
	iv, plain := message[body:body+size], message[body+size:end]
	if _, err := io.ReadFull(c.rand, iv); err != nil {
		return fmt.Errorf("ikecrypto: IV: %w", err)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)
	copy(message[end:], c.icv(message[:end]))
	return nil
}

func (c *cbc) open(raw []byte, body int) ([]byte, error) {
	size := c.blockSize()
	n := len(raw) - body - c.icvLen - size
	if n < size || n%size != 0 {
		return nil, ErrIntegrity
	}
	end := len(raw) - c.icvLen
	if !hmac.Equal(raw[end:], c.icv(raw[:end])) {
		return nil, ErrIntegrity
	}
	block, err := c.block()
	if err != nil {
		return nil, err
	}
	iv, sealed := raw[body:body+size], raw[body+size:end]
	plain := make([]byte, n)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, sealed)
	return plain, nil
}

func (c *cbc) erase() { clear(c.keys) }
