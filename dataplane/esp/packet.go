package esp

import "encoding/binary"

const (
	// fixedLen: SPI and sequence number.
	fixedLen = 8
	// trailerLen: pad length and next header.
	trailerLen = 2
)

// paddedLen is the length of an inner packet of n octets with padding, pad
// length and next header, aligned to align octets, a power of two (RFC 4303
// section 2.4).
func paddedLen(n, align int) int {
	return (n + trailerLen + align - 1) &^ (align - 1)
}

// putHeader writes SPI and the low half of the sequence number.
func putHeader(packet []byte, spi uint32, seq uint64) {
	binary.BigEndian.PutUint32(packet, spi)
	binary.BigEndian.PutUint32(packet[4:], uint32(seq))
}

// putTrailer pads plaintext behind its first n octets.
func putTrailer(plaintext []byte, n int, nextHeader byte) {
	padding := plaintext[n : len(plaintext)-trailerLen]
	for i := range padding {
		padding[i] = byte(i + 1)
	}
	plaintext[len(plaintext)-2] = byte(len(padding))
	plaintext[len(plaintext)-1] = nextHeader
}

// cutTrailer checks the trailer of an authenticated plaintext, which is at
// least trailerLen long, and takes it off. All of the padding is looked at
// whatever it holds. On an error plaintext is erased.
func cutTrailer(plaintext []byte) (inner []byte, nextHeader byte, err error) {
	padLen := int(plaintext[len(plaintext)-2])
	nextHeader = plaintext[len(plaintext)-1]
	n := len(plaintext) - trailerLen - padLen
	if n < 0 {
		clear(plaintext)
		return nil, 0, ErrPadding
	}
	var wrong byte
	for i, b := range plaintext[n : n+padLen] {
		wrong |= b ^ byte(i+1)
	}
	if wrong != 0 {
		clear(plaintext)
		return nil, 0, ErrPadding
	}
	return plaintext[:n:n], nextHeader, nil
}
