package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

const (
	gcmSaltLen   = 4
	gcmIVLen     = 8
	gcmICVLen    = 16
	gcmHeaderLen = fixedLen + gcmIVLen
	gcmAlign     = 4
)

// gcm is AES-GCM with a 16-octet ICV (RFC 4106).
//
// The IV is the whole sequence number: it is unique for a key as long as the
// sequence number is (RFC 4106 section 3.1), needs no second counter that could
// be lost in a hand-over, and needs no secrecy.
type gcm struct {
	aead cipher.AEAD
	esn  bool
	// Kept here because arguments to an interface would escape to the heap.
	nonce [gcmSaltLen + gcmIVLen]byte
	aad   [12]byte
}

var _ Transform = (*gcm)(nil)

// newGCM takes the encryption key with the salt behind it.
func newGCM(key []byte, esn bool) (*gcm, error) {
	block, err := aes.NewCipher(key[:len(key)-gcmSaltLen])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	g := &gcm{aead: aead, esn: esn}
	copy(g.nonce[:], key[len(key)-gcmSaltLen:])
	return g, nil
}

func (g *gcm) HeaderLen() int { return gcmHeaderLen }

func (g *gcm) SealedLen(n int) int { return gcmHeaderLen + paddedLen(n, gcmAlign) + gcmICVLen }

func (g *gcm) Seal(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) []byte {
	return g.seal(packet, n, nextHeader, spi, seq, seq)
}

// seal takes the IV apart from the sequence number for the sake of test vectors.
func (g *gcm) seal(packet []byte, n int, nextHeader byte, spi uint32, seq, iv uint64) []byte {
	packet = packet[:g.SealedLen(n)]
	putHeader(packet, spi, seq)
	binary.BigEndian.PutUint64(packet[fixedLen:], iv)
	plaintext := packet[gcmHeaderLen : len(packet)-gcmICVLen]
	putTrailer(plaintext, n, nextHeader)
	aad := g.prepare(packet, seq)
	g.aead.Seal(plaintext[:0], g.nonce[:], plaintext, aad)
	return packet
}

func (g *gcm) Open(packet []byte, seq uint64) (inner []byte, nextHeader byte, err error) {
	if len(packet) < gcmHeaderLen+gcmAlign+gcmICVLen {
		return nil, 0, ErrShort
	}
	aad := g.prepare(packet, seq)
	ciphertext := packet[gcmHeaderLen:]
	plaintext, err := g.aead.Open(ciphertext[:0], g.nonce[:], ciphertext, aad)
	if err != nil {
		clear(ciphertext)
		return nil, 0, ErrIntegrity
	}
	return cutTrailer(plaintext)
}

// prepare sets the nonce from the packet's IV and returns the additional data:
// SPI and sequence number, with ESN its high half between them, which is not in
// the packet (RFC 4106 section 5).
func (g *gcm) prepare(packet []byte, seq uint64) (aad []byte) {
	copy(g.nonce[gcmSaltLen:], packet[fixedLen:gcmHeaderLen])
	if !g.esn {
		copy(g.aad[:8], packet)
		return g.aad[:8]
	}
	copy(g.aad[:4], packet)
	binary.BigEndian.PutUint32(g.aad[4:], uint32(seq>>32))
	copy(g.aad[8:], packet[4:8])
	return g.aad[:]
}
