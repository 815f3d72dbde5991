package esp

import (
	"crypto/cipher"
	"encoding/binary"
)

const (
	aeadSaltLen   = 4
	aeadIVLen     = 8
	aeadICVLen    = 16
	aeadHeaderLen = fixedLen + aeadIVLen
	aeadAlign     = 4
)

var aeadLayout = Layout{ivLen: aeadIVLen, align: aeadAlign, icvLen: aeadICVLen}

// aead is what AES-GCM with a 16-octet ICV (RFC 4106) and ChaCha20-Poly1305 (RFC
// 7634) share: all but the cipher.
//
// The IV is the whole sequence number: it is unique for a key as long as the
// sequence number is (RFC 4106 section 3.1, RFC 7634 section 2), needs no second
// counter that could be lost in a hand-over, and needs no secrecy.
type aead struct {
	Layout
	cipher cipher.AEAD
	esn    bool
	// Kept here because arguments to an interface would escape to the heap.
	nonce [aeadSaltLen + aeadIVLen]byte
	aad   [12]byte
}

var _ Transform = (*aead)(nil)

// newAEAD takes the encryption key with the salt behind it, and what makes a
// cipher of the key alone.
func newAEAD(newCipher func(key []byte) (cipher.AEAD, error), key []byte, esn bool) (*aead, error) {
	salt := key[len(key)-aeadSaltLen:]
	c, err := newCipher(key[:len(key)-aeadSaltLen])
	if err != nil {
		return nil, err
	}
	a := &aead{Layout: aeadLayout, cipher: c, esn: esn}
	copy(a.nonce[:], salt)
	return a, nil
}

func (a *aead) Seal(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) []byte {
	return a.seal(packet, n, nextHeader, spi, seq, seq)
}

// seal takes the IV apart from the sequence number for the sake of test vectors.
func (a *aead) seal(packet []byte, n int, nextHeader byte, spi uint32, seq, iv uint64) []byte {
	packet = packet[:a.SealedLen(n)]
	putHeader(packet, spi, seq)
	binary.BigEndian.PutUint64(packet[fixedLen:], iv)
	plaintext := packet[aeadHeaderLen : len(packet)-aeadICVLen]
	putTrailer(plaintext, n, nextHeader)
	aad := a.prepare(packet, seq)
	a.cipher.Seal(plaintext[:0], a.nonce[:], plaintext, aad)
	return packet
}

func (a *aead) Open(packet []byte, seq uint64) (inner []byte, nextHeader byte, err error) {
	if len(packet) < aeadHeaderLen+aeadAlign+aeadICVLen {
		return nil, 0, ErrShort
	}
	aad := a.prepare(packet, seq)
	ciphertext := packet[aeadHeaderLen:]
	plaintext, err := a.cipher.Open(ciphertext[:0], a.nonce[:], ciphertext, aad)
	if err != nil {
		clear(ciphertext)
		return nil, 0, ErrIntegrity
	}
	return cutTrailer(plaintext)
}

// prepare sets the nonce from the packet's IV and returns the additional data:
// SPI and sequence number, with ESN its high half between them, which is not in
// the packet (RFC 4106 section 5, RFC 7634 section 2.1).
func (a *aead) prepare(packet []byte, seq uint64) (aad []byte) {
	copy(a.nonce[aeadSaltLen:], packet[fixedLen:aeadHeaderLen])
	if !a.esn {
		copy(a.aad[:8], packet)
		return a.aad[:8]
	}
	copy(a.aad[:4], packet)
	binary.BigEndian.PutUint32(a.aad[4:], uint32(seq>>32))
	copy(a.aad[8:], packet[4:8])
	return a.aad[:]
}
