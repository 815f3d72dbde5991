package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/roamgate/roamgate/dataplane"
)

// mac is an HMAC integrity transform. Its key is as long as the hash; its ICV is
// half of that with SHA-2 (RFC 4868 section 2.3), 96 bits with SHA-1 (RFC 2404
// section 2).
type mac struct {
	hash   func() hash.Hash
	icvLen int
}

var macs = map[uint16]mac{
	dataplane.IntegrityHMACSHA1:   {sha1.New, 12},
	dataplane.IntegrityHMACSHA256: {sha256.New, 16},
	dataplane.IntegrityHMACSHA384: {sha512.New384, 24},
	dataplane.IntegrityHMACSHA512: {sha512.New, 32},
}

// ivSetter is met by the block modes that crypto/cipher makes; crypto/tls stands
// on it as well. Without it each packet would allocate a new mode.
type ivSetter interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

// cbc is a block cipher in CBC mode, AES (RFC 3602) or 3DES (RFC 2451), with an
// HMAC.
//
// An IV must not be foreseeable (RFC 3602 section 3), so it is the AES
// encryption of the sequence number under a random key of its own, as much of it
// as the cipher's block has: as good as random to whoever lacks that key, and
// cheaper than a read from the system for each packet. (NIST SP 800-38A appendix
// C allows the SA's own key; with another one there is nothing to argue about.)
type cbc struct {
	Layout
	encrypt, decrypt ivSetter
	ivs              cipher.Block
	mac              hash.Hash
	esn              bool
	// Kept here because arguments to an interface would escape to the heap.
	iv      [aes.BlockSize]byte
	seqHigh [4]byte
	sum     [sha512.Size]byte
}

var _ Transform = (*cbc)(nil)

func cbcLayout(blockSize int, m mac) Layout {
	return Layout{ivLen: blockSize, align: blockSize, icvLen: m.icvLen}
}

// newCBC takes the cipher under the encryption key, and the integrity key.
func newCBC(block cipher.Block, m mac, integrity []byte, esn bool) (*cbc, error) {
	var ivKey [16]byte
	rand.Read(ivKey[:]) // never fails
	defer clear(ivKey[:])
	ivs, err := aes.NewCipher(ivKey[:])
	if err != nil {
		return nil, err
	}
	zero := make([]byte, block.BlockSize())
	encrypt, ok1 := cipher.NewCBCEncrypter(block, zero).(ivSetter)
	decrypt, ok2 := cipher.NewCBCDecrypter(block, zero).(ivSetter)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%w: crypto/cipher has no SetIV for CBC", dataplane.ErrAlgorithm)
	}
	return &cbc{
		Layout:  cbcLayout(block.BlockSize(), m),
		encrypt: encrypt, decrypt: decrypt, ivs: ivs,
		mac: hmac.New(m.hash, integrity), esn: esn,
	}, nil
}

func (c *cbc) Seal(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) []byte {
	packet = packet[:c.SealedLen(n)]
	clear(c.iv[:])
	binary.BigEndian.PutUint64(c.iv[8:], seq)
	c.ivs.Encrypt(c.iv[:], c.iv[:])
	copy(packet[fixedLen:c.HeaderLen()], c.iv[:])
	return c.sealIV(packet, n, nextHeader, spi, seq)
}

// sealIV seals a packet in which the IV stands; apart for the sake of test
// vectors.
func (c *cbc) sealIV(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) []byte {
	putHeader(packet, spi, seq)
	icvAt := len(packet) - c.icvLen
	plaintext := packet[c.HeaderLen():icvAt]
	putTrailer(plaintext, n, nextHeader)
	c.encrypt.SetIV(packet[fixedLen:c.HeaderLen()])
	c.encrypt.CryptBlocks(plaintext, plaintext)
	copy(packet[icvAt:], c.icv(packet[:icvAt], seq))
	return packet
}

func (c *cbc) Open(packet []byte, seq uint64) (inner []byte, nextHeader byte, err error) {
	icvAt := len(packet) - c.icvLen
	if icvAt < c.HeaderLen()+c.align || (icvAt-c.HeaderLen())%c.align != 0 {
		return nil, 0, ErrShort
	}
	if !hmac.Equal(packet[icvAt:], c.icv(packet[:icvAt], seq)) {
		return nil, 0, ErrIntegrity
	}
	ciphertext := packet[c.HeaderLen():icvAt]
	c.decrypt.SetIV(packet[fixedLen:c.HeaderLen()])
	c.decrypt.CryptBlocks(ciphertext, ciphertext)
	return cutTrailer(ciphertext)
}

func (c *cbc) Erase() { *c = cbc{} }

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
