package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/roamgate/roamgate/dataplane"
)

const cbcHeaderLen = fixedLen + aes.BlockSize

// mac is an HMAC-SHA-2 integrity transform (RFC 4868 section 2.3): its key is as
// long as the hash, its ICV half of that.
type mac struct {
	hash   func() hash.Hash
	icvLen int
}

var macs = map[uint16]mac{
	dataplane.IntegrityHMACSHA256: {sha256.New, 16},
	dataplane.IntegrityHMACSHA384: {sha512.New384, 24},
	dataplane.IntegrityHMACSHA512: {sha512.New, 32},
}

// ivSetter is met by the block modes that crypto/aes makes; crypto/tls stands
// on it as well. Without it each packet would allocate a new mode.
type ivSetter interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

// cbc is AES-CBC (RFC 3602) with HMAC-SHA-2 (RFC 4868).
//
// An IV must not be foreseeable (RFC 3602 section 3), so it is the AES
// encryption of the sequence number under a random key of its own: as good as
// random to whoever lacks that key, and cheaper than a read from the system
// for each packet. (NIST SP 800-38A appendix C allows the SA's own key; with
// another one there is nothing to argue about.)
type cbc struct {
	encrypt, decrypt ivSetter
	ivs              cipher.Block
	mac              hash.Hash
	icvLen           int
	esn              bool
	// Kept here because arguments to an interface would escape to the heap.
	seqHigh [4]byte
	sum     [sha512.Size]byte
}

var _ Transform = (*cbc)(nil)

func newCBC(keys dataplane.Keys, m mac, esn bool) (*cbc, error) {
	block, err := aes.NewCipher(keys.Encryption)
	if err != nil {
		return nil, err
	}
	var ivKey [16]byte
	rand.Read(ivKey[:]) // never fails
	defer clear(ivKey[:])
	ivs, err := aes.NewCipher(ivKey[:])
	if err != nil {
		return nil, err
	}
	var zero [aes.BlockSize]byte
	encrypt, ok1 := cipher.NewCBCEncrypter(block, zero[:]).(ivSetter)
	decrypt, ok2 := cipher.NewCBCDecrypter(block, zero[:]).(ivSetter)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%w: crypto/aes has no SetIV for CBC", dataplane.ErrAlgorithm)
	}
	return &cbc{
		encrypt: encrypt, decrypt: decrypt, ivs: ivs,
		mac: hmac.New(m.hash, keys.Integrity), icvLen: m.icvLen, esn: esn,
	}, nil
}

func (c *cbc) HeaderLen() int { return cbcHeaderLen }

func (c *cbc) SealedLen(n int) int { return cbcHeaderLen + paddedLen(n, aes.BlockSize) + c.icvLen }

func (c *cbc) Seal(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) []byte {
	packet = packet[:c.SealedLen(n)]
	iv := packet[fixedLen:cbcHeaderLen]
	clear(iv)
	binary.BigEndian.PutUint64(iv[8:], seq)
	c.ivs.Encrypt(iv, iv)
	return c.sealIV(packet, n, nextHeader, spi, seq)
}

// sealIV seals a packet in which the IV stands; apart for the sake of test
// vectors.
func (c *cbc) sealIV(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) []byte {
	putHeader(packet, spi, seq)
	icvAt := len(packet) - c.icvLen
	plaintext := packet[cbcHeaderLen:icvAt]
	putTrailer(plaintext, n, nextHeader)
	c.encrypt.SetIV(packet[fixedLen:cbcHeaderLen])
	c.encrypt.CryptBlocks(plaintext, plaintext)
	copy(packet[icvAt:], c.icv(packet[:icvAt], seq))
	return packet
}

func (c *cbc) Open(packet []byte, seq uint64) (inner []byte, nextHeader byte, err error) {
	icvAt := len(packet) - c.icvLen
	if icvAt < cbcHeaderLen+aes.BlockSize || (icvAt-cbcHeaderLen)%aes.BlockSize != 0 {
		return nil, 0, ErrShort
	}
	if !hmac.Equal(packet[icvAt:], c.icv(packet[:icvAt], seq)) {
		return nil, 0, ErrIntegrity
	}
	ciphertext := packet[cbcHeaderLen:icvAt]
	c.decrypt.SetIV(packet[fixedLen:cbcHeaderLen])
	c.decrypt.CryptBlocks(ciphertext, ciphertext)
	return cutTrailer(ciphertext)
}

// icv covers the packet without ICV and, with ESN, the high half of the
// sequence number behind it (RFC 4303 section 2.2.1). The result is valid until
// the next call.
func (c *cbc) icv(packet []byte, seq uint64) []byte {
	c.mac.Reset()
	c.mac.Write(packet)
	if c.esn {
		binary.BigEndian.PutUint32(c.seqHigh[:], uint32(seq>>32))
		c.mac.Write(c.seqHigh[:])
	}
	return c.mac.Sum(c.sum[:0])[:c.icvLen]
}
