package esp

import "encoding/binary"

// Frame is what AES-GCM in ESP (RFC 4106) does beside its cipher, for ciphers that
// take many packets at once. Seal lays a packet out, the cipher encrypts the text
// and puts the ICV behind it; Open says what the cipher needs, FrameInner takes apart
// what it decrypted. Together they do what the Transform of the algorithm does.
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
	packet = packet[:aeadLayout.SealedLen(n)]
	putHeader(packet, spi, seq)
	binary.BigEndian.PutUint64(packet[fixedLen:], seq)
	putTrailer(packet[aeadHeaderLen:len(packet)-aeadICVLen], n, nextHeader)
	return packet, f.part(packet, seq)
}

// Open is Transform.Open up to the cipher. Errors: ErrShort.
func (f *Frame) Open(packet []byte, seq uint64) (Part, error) {
	if len(packet) < aeadHeaderLen+aeadAlign+aeadICVLen {
		return Part{}, ErrShort
	}
	return f.part(packet, seq), nil
}

// FrameKey is what the cipher takes of an encryption key: all but the salt.
func FrameKey(key []byte) []byte { return key[:len(key)-aeadSaltLen] }

// FrameInner is Transform.Open after the cipher found the packet authentic. Errors:
// ErrPadding.
func FrameInner(packet []byte) (inner []byte, nextHeader byte, err error) {
	return cutTrailer(packet[aeadHeaderLen : len(packet)-aeadICVLen])
}

func (f *Frame) part(packet []byte, seq uint64) Part {
	p := Part{Offset: aeadHeaderLen, Length: len(packet) - aeadHeaderLen - aeadICVLen, AADLen: 8}
	copy(p.Nonce[:], f.salt[:])
	copy(p.Nonce[aeadSaltLen:], packet[fixedLen:aeadHeaderLen])
	copy(p.AAD[:], packet[:8])
	if f.esn {
		p.AADLen = 12
		binary.BigEndian.PutUint32(p.AAD[4:], uint32(seq>>32))
		copy(p.AAD[8:], packet[4:8])
	}
	return p
}
