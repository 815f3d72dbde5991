package esp

import "encoding/binary"

// Frame is what AES-GCM in ESP (RFC 4106) does beside its cipher, and ChaCha20-Poly1305
// alike (RFC 7634); also for ciphers elsewhere that take many packets at once. Seal lays
// a packet out, the cipher encrypts the text and puts the ICV behind it; Open says what
// the cipher needs, FrameInner takes apart what it decrypted. Together they do what the
// Transform of the algorithm does.
//
// The IV is the whole sequence number: it is unique for a key as long as the
// sequence number is (RFC 4106 section 3.1, RFC 7634 section 2), needs no second
// counter that could be lost in a hand-over, and needs no secrecy.
type Frame struct {
	salt [aeadSaltLen]byte
	esn  bool
}

// FrameICVLen is how many octets stand behind the text of a Part.
const FrameICVLen = aeadICVLen

// NewFrame takes the salt out of an encryption key, whose last octets it is.
func NewFrame(key []byte, esn bool) Frame {
	return Frame{salt: [aeadSaltLen]byte(key[len(key)-aeadSaltLen:]), esn: esn}
}

// Part of a packet that is the cipher's: Length octets of text from Offset on, with
// the ICV behind them. Of AAD the first AADLen octets count.
type Part struct {
	Offset, Length int
	Nonce, AAD     [12]byte
	AADLen         int
}

// Seal is Transform.Seal up to the cipher.
func (f *Frame) Seal(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) (sealed []byte, p Part) {
	sealed = f.seal(&p, packet, n, nextHeader, spi, seq, seq)
	return sealed, p
}

func (f *Frame) seal(p *Part, packet []byte, n int, nextHeader byte, spi uint32, seq, iv uint64) []byte {
	packet = packet[:aeadLayout.SealedLen(n)]
	putHeader(packet, spi, seq)
	binary.BigEndian.PutUint64(packet[fixedLen:], iv)
	putTrailer(packet[aeadHeaderLen:len(packet)-aeadICVLen], n, nextHeader)
	f.part(p, packet, seq)
	return packet
}

// Open is Transform.Open up to the cipher. Errors: ErrShort.
func (f *Frame) Open(packet []byte, seq uint64) (p Part, err error) {
	if len(packet) < aeadHeaderLen+aeadAlign+aeadICVLen {
		return p, ErrShort
	}
	f.part(&p, packet, seq)
	return p, nil
}

// FrameKey is what the cipher takes of an encryption key: all but the salt.
func FrameKey(key []byte) []byte { return key[:len(key)-aeadSaltLen] }

// FrameInner is Transform.Open after the cipher found the packet authentic. Errors:
// ErrPadding.
func FrameInner(packet []byte) (inner []byte, nextHeader byte, err error) {
	return cutTrailer(packet[aeadHeaderLen : len(packet)-aeadICVLen])
}

// part sets the nonce from the packet's IV, and the additional data: SPI and sequence
// number, with ESN its high half between them, which is not in the packet (RFC 4106
// section 5, RFC 7634 section 2.1).
func (f *Frame) part(p *Part, packet []byte, seq uint64) {
	p.Offset, p.Length = aeadHeaderLen, len(packet)-aeadHeaderLen-aeadICVLen
	copy(p.Nonce[:], f.salt[:])
	copy(p.Nonce[aeadSaltLen:], packet[fixedLen:aeadHeaderLen])
	p.AADLen = 8
	copy(p.AAD[:], packet[:8])
	if f.esn {
		p.AADLen = 12
		binary.BigEndian.PutUint32(p.AAD[4:], uint32(seq>>32))
		copy(p.AAD[8:], packet[4:8])
	}
}
