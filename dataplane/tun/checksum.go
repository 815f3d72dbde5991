package tun

import (
	"encoding/binary"
	"math/bits"
)

// sum adds the octets of b to the running one's complement sum (RFC 1071) in
// native byte order: the order doesn't matter to the sum (RFC 1071 section 2
// (B)), and not swapping is faster. An odd last octet is padded with a zero.
func sum(b []byte, acc uint64) uint64 {
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
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(b), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var tail [8]byte
		copy(tail[:], b)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(tail[:]), carry)
	}
	// With a carry, acc is less than 2^64-1: this one doesn't carry.
	return acc + carry
}

// putChecksum stores the complement of the folded sum in field. Zero is stored
// as its other form, 0xffff: in UDP zero means that there is no checksum (RFC
// 768), elsewhere both mean the same.
func putChecksum(field []byte, acc uint64) {
	c := ^fold(acc)
	if c == 0 {
		c = 0xffff
	}
	binary.NativeEndian.PutUint16(field, c)
}

// fold adds the 16-bit words of a sum.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}
