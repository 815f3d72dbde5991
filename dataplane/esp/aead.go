package esp

import "crypto/cipher"

const (
	aeadSaltLen   = 4
	aeadIVLen     = 8
	aeadICVLen    = 16
	aeadHeaderLen = fixedLen + aeadIVLen
	aeadAlign     = 4
)

var aeadLayout = Layout{ivLen: aeadIVLen, align: aeadAlign, icvLen: aeadICVLen}

// aead is AES-GCM with a 16-octet ICV (RFC 4106) or ChaCha20-Poly1305 (RFC 7634) by a
// cipher.AEAD.
type aead struct {
	Layout
	frame  Frame
	cipher cipher.AEAD
	// Kept here because arguments to an interface would escape to the heap.
	part Part
}

var _ Transform = (*aead)(nil)

// newAEAD takes the encryption key with the salt behind it, and what makes a
// cipher of the key alone.
func newAEAD(newCipher func(key []byte) (cipher.AEAD, error), key []byte, esn bool) (*aead, error) {
	c, err := newCipher(FrameKey(key))
	if err != nil {
		return nil, err
	}
	return &aead{Layout: aeadLayout, frame: NewFrame(key, esn), cipher: c}, nil
}

func (a *aead) Seal(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) []byte {
	return a.seal(packet, n, nextHeader, spi, seq, seq)
}

// seal takes the IV apart from the sequence number for the sake of test vectors.
func (a *aead) seal(packet []byte, n int, nextHeader byte, spi uint32, seq, iv uint64) []byte {
	packet = a.frame.seal(&a.part, packet, n, nextHeader, spi, seq, iv)
	text := packet[aeadHeaderLen : len(packet)-aeadICVLen]
	a.cipher.Seal(text[:0], a.part.Nonce[:], text, a.part.AAD[:a.part.AADLen])
	return packet
}

func (a *aead) Open(packet []byte, seq uint64) (inner []byte, nextHeader byte, err error) {
	if a.part, err = a.frame.Open(packet, seq); err != nil {
		return nil, 0, err
	}
	ciphertext := packet[aeadHeaderLen:]
	if _, err := a.cipher.Open(ciphertext[:0], a.part.Nonce[:], ciphertext, a.part.AAD[:a.part.AADLen]); err != nil {
		clear(ciphertext)
		return nil, 0, ErrIntegrity
	}
	return FrameInner(packet)
}

func (a *aead) Erase() { *a = aead{} }
