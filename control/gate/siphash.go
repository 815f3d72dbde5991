package gate

import (
	"encoding/binary"
	"math/bits"
)

// sipHash is SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input
// PRF", 2012). It is keyed, made for short inputs, and consists of additions,
// rotations and exclusive-ors of 64-bit words only: a BPF program computes the
// same in a bounded loop, which it couldn't with HMAC over SHA-2.
type sipHash struct{ v0, v1, v2, v3 uint64 }

func newSipHash(key *[16]byte) sipHash {
	k0 := binary.LittleEndian.Uint64(key[:8])
	k1 := binary.LittleEndian.Uint64(key[8:])
	return sipHash{
		v0: k0 ^ 0x736f6d6570736575,
		v1: k1 ^ 0x646f72616e646f6d,
		v2: k0 ^ 0x6c7967656e657261,
		v3: k1 ^ 0x7465646279746573,
	}
}

// words takes in all whole words of b and returns what is left.
func (h *sipHash) words(b []byte) []byte {
	for ; len(b) >= 8; b = b[8:] {
		h.word(binary.LittleEndian.Uint64(b))
	}
	return b
}

func (h *sipHash) word(m uint64) {
	h.v3 ^= m
	h.round()
	h.round()
	h.v0 ^= m
}

// sum takes in the last part, shorter than a word, of an input of length
// octets in all.
func (h *sipHash) sum(rest []byte, length int) uint64 {
	last := uint64(length) << 56
	for i, b := range rest {
		last |= uint64(b) << (8 * i)
	}
	h.word(last)
	h.v2 ^= 0xff
	for range 4 {
		h.round()
	}
	return h.v0 ^ h.v1 ^ h.v2 ^ h.v3
}

func (h *sipHash) round() {
	h.v0 += h.v1
	h.v1 = bits.RotateLeft64(h.v1, 13) ^ h.v0
	h.v0 = bits.RotateLeft64(h.v0, 32)
	h.v2 += h.v3
	h.v3 = bits.RotateLeft64(h.v3, 16) ^ h.v2
	h.v0 += h.v3
	h.v3 = bits.RotateLeft64(h.v3, 21) ^ h.v0
	h.v2 += h.v1
	h.v1 = bits.RotateLeft64(h.v1, 17) ^ h.v2
	h.v2 = bits.RotateLeft64(h.v2, 32)
}

// Sum64 is SipHash-2-4 of b. It also serves session, to tell apart IKE_SA_INIT
// requests by their content without letting a stranger choose collisions.
func Sum64(key *[16]byte, b []byte) uint64 {
	h := newSipHash(key)
	return h.sum(h.words(b), len(b))
}
