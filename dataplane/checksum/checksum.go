// Package checksum is the internet checksum (RFC 1071): that of IPv4 headers,
// TCP, UDP and ICMP.
//
// What lives here: sums, of vectors where the processor has AVX2. What doesn't:
// where in a packet a checksum stands and what it covers.
package checksum

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the octets of b to a running sum, which begins as 0. Its words are in
// native byte order: the order doesn't matter to the sum (RFC 1071 section 2 (B)),
// and not swapping is faster. An odd last octet is padded with a zero, so only the
// last part of something may be odd. Two running sums of the same octets may
// differ; what [Fold] makes of them doesn't.
func Sum(b []byte, acc uint64) uint64 {
	if vectors && len(b) >= vectorsLeast {
		return sumVectors(b, acc)
	}
	return sumWords(b, acc)
}

// Fold adds the 16-bit words of a sum: 0xffff over something that has a right
// checksum in it. The word is in native byte order.
func Fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// Put stores the complement of the folded sum in field, of two octets. Zero is
// stored as its other form, 0xffff: in UDP zero means that there is no checksum
// (RFC 768), elsewhere both mean the same.
func Put(field []byte, acc uint64) {
	c := ^Fold(acc)
	if c == 0 {
		c = 0xffff
	}
	binary.NativeEndian.PutUint16(field, c)
}

// Pseudo is the sum of a pseudo-header (RFC 9293 section 3.1, RFC 8200 section
// 8.1): addresses are both as they stand in the IP header, length that of the
// upper layer, header and data, below 65,536 octets.
func Pseudo(addresses []byte, protocol byte, length int) uint64 {
	return sumWords(addresses, Word(uint16(protocol))+Word(uint16(length)))
}

// Word is the sum of one word, which has the value v in network byte order.
func Word(v uint16) uint64 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return uint64(binary.NativeEndian.Uint16(b[:]))
}

// sumWords is Sum on any processor.
func sumWords(b []byte, acc uint64) uint64 {
	var carry uint64
	// The carry stays in its flag within an iteration only, so the iterations are
	// long.
	for len(b) >= 128 {
		p := (*[128]byte)(b)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[0:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[8:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[16:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[24:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[32:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[40:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[48:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[56:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[64:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[72:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[80:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[88:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[96:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[104:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[112:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(p[120:]), carry)
		b = b[128:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) >= 4 {
		acc, carry = bits.Add64(acc, uint64(binary.NativeEndian.Uint32(b)), carry)
		b = b[4:]
	}
	if len(b) >= 2 {
		acc, carry = bits.Add64(acc, uint64(binary.NativeEndian.Uint16(b)), carry)
		b = b[2:]
	}
	if len(b) > 0 {
		acc, carry = bits.Add64(acc, uint64(binary.NativeEndian.Uint16([]byte{b[0], 0})), carry)
	}
	// With a carry, acc is less than 2^64-1: this one doesn't carry.
	return acc + carry
}
